//! Text of both dialects: base64 in either alphabet, JSON in buffers that are wiped, lists that are bounded.

use std::fmt;
use std::io::{self, Write};
use std::marker::PhantomData;

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD, URL_SAFE_NO_PAD};
use coffer_core_secret::SecretBytes;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::{Answer, WrapError};

pub(crate) const JSON: &str = "application/json";

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const EITHER: [GeneralPurpose; 2] =
    [GeneralPurpose::new(&alphabet::STANDARD, LENIENT), GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT)];

/// Text that may be a plaintext data key: wiped, and never shown.
pub(crate) struct SecretText(Zeroizing<String>);

impl SecretText {
    /// The bytes in standard base64, as Vault's clients expect.
    pub(crate) fn standard(bytes: &SecretBytes) -> Self {
        Self::encoded(bytes, &STANDARD)
    }

    /// The bytes in base64 for URLs without padding, as Hadoop's server writes.
    pub(crate) fn url_safe(bytes: &SecretBytes) -> Self {
        Self::encoded(bytes, &URL_SAFE_NO_PAD)
    }

    fn encoded(bytes: &SecretBytes, engine: &GeneralPurpose) -> Self {
        let length = bytes.expose().len().saturating_mul(4).div_ceil(3).saturating_add(4);
        let mut text = Zeroizing::new(String::with_capacity(length));
        engine.encode_string(bytes.expose(), &mut text);
        Self(text)
    }

    /// The bytes that it encodes.
    pub(crate) fn decode(&self) -> Result<SecretBytes, WrapError> {
        let length = self.0.len().div_ceil(4).saturating_mul(3);
        let mut bytes = Zeroizing::new(vec![0; length]);
        let written = engine(&self.0).decode_slice(self.0.as_bytes(), &mut bytes);
        bytes.truncate(written.map_err(|_| not_base64("plaintext"))?);
        Ok(SecretBytes::new(std::mem::take(&mut *bytes)))
    }
}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = SecretText;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("base64 text")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<SecretText, E> {
                Ok(SecretText(Zeroizing::new(text.to_string())))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<SecretText, E> {
                Ok(SecretText(Zeroizing::new(text)))
            }
        }
        from.deserialize_str(Text)
    }
}

/// Bytes that are no secret, from base64.
pub(crate) fn decode(what: &'static str, text: &str) -> Result<Vec<u8>, WrapError> {
    engine(text).decode(text).map_err(|_| not_base64(what))
}

fn engine(text: &str) -> &'static GeneralPurpose {
    let [standard, url_safe] = &EITHER;
    match text.bytes().any(|byte| matches!(byte, b'-' | b'_')) {
        true => url_safe,
        false => standard,
    }
}

fn not_base64(what: &'static str) -> WrapError {
    WrapError::Option { what, found: "something else".into(), expected: "base64" }
}

/// The longest body of a call that describes or changes a key, in bytes.
const MAX_FORM: usize = 64 << 10;

/// Reads a body that describes or changes a key, which has no reason to be long.
pub(crate) fn read_form<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, WrapError> {
    crate::error::most("the body in bytes", body.len(), MAX_FORM)?;
    read(body)
}

/// Reads a body. No body is an empty object, as clients send none where all is optional.
pub(crate) fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, WrapError> {
    let body = if body.iter().all(u8::is_ascii_whitespace) { b"{}" } else { body };
    // A JSON error of data may quote the data, and that may be a plaintext; place and kind are enough.
    serde_json::from_slice(body).map_err(|error| {
        let kind = match error.classify() {
            serde_json::error::Category::Data => {
                "a member has another type, is missing, or has too many items"
            }
            _ => "it is not whole JSON",
        };
        WrapError::Json(format!("{kind}, at line {} column {}", error.line(), error.column()))
    })
}

/// Writes a body of exactly the length it needs, because a buffer that grows leaves copies behind.
pub(crate) fn answer<T: Serialize>(status: u16, value: &T) -> Answer {
    let mut length = Count(0);
    let counted = serde_json::to_writer(&mut length, value);
    let mut body = Zeroizing::new(Vec::with_capacity(length.0));
    match counted.and_then(|()| serde_json::to_writer(&mut *body, value)) {
        Ok(()) => Answer { status, content_type: Some(JSON), location: None, body, code: None },
        Err(_) => Answer::empty(500),
    }
}

struct Count(usize);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A list of at most `N` items; the next one is refused before it is read.
pub(crate) struct Bounded<T, const N: usize>(pub(crate) Vec<T>);

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for Bounded<T, N> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Items<T, const N: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Items<T, N> {
            type Value = Bounded<T, N>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, "a list of at most {N}")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    if list.len() >= N {
                        return Err(A::Error::custom("too many items"));
                    }
                    list.push(item);
                }
                Ok(Bounded(list))
            }
        }
        from.deserialize_seq(Items(PhantomData))
    }
}

/// A whole number, also as text, as command lines send it.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "NumberForm")]
pub(crate) struct Number(pub(crate) u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberForm {
    Number(u64),
    Text(String),
}

impl TryFrom<NumberForm> for Number {
    type Error = &'static str;

    fn try_from(form: NumberForm) -> Result<Self, Self::Error> {
        match form {
            NumberForm::Number(number) => Ok(Self(number)),
            NumberForm::Text(text) => text.parse().map(Self).map_err(|_| "not a whole number"),
        }
    }
}

impl Number {
    /// As a version; what no version can be is the highest that none is.
    pub(crate) fn version(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

/// True or false, also as text, as command lines send it.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "FlagForm")]
pub(crate) struct Flag(pub(crate) bool);

#[derive(Deserialize)]
#[serde(untagged)]
enum FlagForm {
    Flag(bool),
    Text(String),
}

impl TryFrom<FlagForm> for Flag {
    type Error = &'static str;

    fn try_from(form: FlagForm) -> Result<Self, Self::Error> {
        match form {
            FlagForm::Flag(flag) => Ok(Self(flag)),
            FlagForm::Text(text) => text.parse().map(Self).map_err(|_| "neither true nor false"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_in_either_alphabet_with_or_without_padding() {
        for text in ["+/8=", "+/8", "-_8=", "-_8"] {
            assert_eq!(decode("x", text).unwrap(), [0xfb, 0xff], "{text}");
            let secret: SecretText = serde_json::from_str(&format!("{text:?}")).unwrap();
            assert_eq!(secret.decode().unwrap().expose(), &[0xfb, 0xff], "{text}");
        }
        for text in ["+_8=", "a", "ab c", "ä"] {
            assert!(decode("x", text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_bounded_list_ends_at_its_bound() {
        assert_eq!(serde_json::from_str::<Bounded<u8, 2>>("[1,2]").unwrap().0, [1, 2]);
        assert!(serde_json::from_str::<Bounded<u8, 2>>("[1,2,3]").is_err());
    }

    #[test]
    fn a_json_error_does_not_quote_what_was_sent() {
        let error = read::<Number>(br#""c2VjcmV0""#).err().unwrap();
        assert!(!error.to_string().contains("c2VjcmV0"), "{error}");
    }

    #[test]
    fn a_body_is_written_without_growing() {
        let answer = answer(200, &SecretText::standard(&SecretBytes::copy_of(&[7; 1000])));
        assert_eq!(answer.body.len(), answer.body.capacity());
    }
}

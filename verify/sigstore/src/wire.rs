//! The JSON form of protocol buffers (ProtoJSON) as far as bundles and trust roots use it: base64 for bytes, decimal
//! text for 64-bit integers, absent members for zero.
//!
//! Integers are held to 53 bits, so that each has one canonical form in JSON (RFC 8785, section 3.2.2.3).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// The greatest integer that JSON holds exactly.
const MAX_INTEGER: u64 = (1 << 53) - 1;

/// Bytes in standard base64 with padding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        STANDARD.decode(text).map(Self).map_err(|cause| D::Error::custom(format!("not base64: {cause}")))
    }
}

/// A SHA-256 hash in base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hash(pub(crate) [u8; 32]);

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let bytes = Bytes::deserialize(from)?.0;
        let found = bytes.len();
        let hash = <[u8; 32]>::try_from(bytes);
        hash.map(Self).map_err(|_| D::Error::custom(format!("expected a hash of 32 bytes, found {found}")))
    }
}

/// An integer from 0 to 2^53 - 1, as a number or as decimal text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Integer(pub(crate) u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u64),
    Text(String),
}

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = match NumberOrText::deserialize(from)? {
            NumberOrText::Number(number) => Some(number),
            NumberOrText::Text(text) => text.parse().ok().filter(|number: &u64| number.to_string() == text),
        };
        let value = value.filter(|number| *number <= MAX_INTEGER);
        value.map(Self).ok_or_else(|| D::Error::custom("expected an integer from 0 to 2^53 - 1"))
    }
}

/// At most the first hundred characters of hostile text, without control characters, for an error's message.
pub(crate) fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_decimal_and_within_53_bits() {
        let read = |text: &str| serde_json::from_str::<Integer>(text).ok().map(|found| found.0);
        assert_eq!(read("7"), Some(7));
        assert_eq!(read("\"7\""), Some(7));
        assert_eq!(read("\"9007199254740991\""), Some(MAX_INTEGER));
        for wrong in ["\"9007199254740992\"", "\"07\"", "\"+7\"", "\"\"", "-1", "1.5", "null"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn base64_is_standard_and_padded() {
        let read = |text: &str| serde_json::from_str::<Bytes>(text).ok().map(|found| found.0);
        assert_eq!(read("\"+/8=\""), Some(vec![0xfb, 0xff]));
        for wrong in ["\"-_8=\"", "\"+/8\"", "\"+/8=\\n\"", "\"+/9=\""] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert!(serde_json::from_str::<Hash>("\"+/8=\"").is_err());
    }
}

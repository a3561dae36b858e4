//! Reference values over gRPC: what is registered, parsed, and the backend that keeps them.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::Value;

use crate::backend::{AuthContext, BackendError, BoxFuture, Kind};

/// The longest name of a reference value, in bytes.
const MAX_ID: usize = 1024;
/// The series of message versions that is read.
const VERSION: &str = "0.1.";

/// What is sent to be registered.
#[derive(Clone, Debug, PartialEq)]
pub enum Registration {
    /// Upstream's message.
    Message {
        /// Its type, as in `sample` or `corim`; the backend may not know it.
        kind: String,
        /// Its payload, decoded.
        payload: Vec<u8>,
    },
    /// An object without `type` and `payload`: reference values of the broker's own form.
    Own(Value),
}

#[derive(Deserialize)]
struct Message {
    version: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    payload: String,
}

impl Registration {
    /// Reads the text of a `ReferenceValueRegisterRequest`.
    pub fn parse(text: &str) -> Result<Self, BackendError> {
        let wrong = |message: String| BackendError::new(Kind::Invalid, "reference.invalid", message);
        let value: Value =
            serde_json::from_str(text).map_err(|error| wrong(format!("the message is no JSON: {error}")))?;
        let Value::Object(members) = &value else {
            return Err(wrong("the message is a JSON object; found another value".to_owned()));
        };
        if !(members.contains_key("type") && members.contains_key("payload")) {
            return Ok(Self::Own(value));
        }
        let message = Message::deserialize(&value).map_err(|error| wrong(format!("the message: {error}")))?;
        match message.version {
            Some(version) if !version.starts_with(VERSION) => {
                let found: String = version.chars().take(32).collect();
                return Err(wrong(format!("messages of version {VERSION}x are read; found {found:?}")));
            }
            _ => (),
        }
        // Both alphabets are seen in the field.
        let payload = STANDARD
            .decode(&message.payload)
            .or_else(|_| URL_SAFE_NO_PAD.decode(&message.payload))
            .map_err(|error| wrong(format!("payload is no base64: {error}")))?;
        Ok(Self::Message { kind: message.kind, payload })
    }
}

pub(crate) fn query_id(id: String) -> Result<String, BackendError> {
    match id.len() {
        1..=MAX_ID => Ok(id),
        found => Err(BackendError::malformed(format!(
            "reference_value_id is a name of 1 to {MAX_ID} bytes; found {found}"
        ))),
    }
}

/// The provider of reference values that a broker is.
pub trait ReferenceBackend: Send + Sync {
    /// The value of that name, if there is one and `auth` may read it.
    fn query<'a>(
        &'a self,
        auth: &'a AuthContext,
        id: String,
    ) -> BoxFuture<'a, Result<Option<Value>, BackendError>>;

    /// Stores values, if `auth` may.
    fn register<'a>(
        &'a self,
        auth: &'a AuthContext,
        registration: Registration,
    ) -> BoxFuture<'a, Result<(), BackendError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_decoded_in_either_alphabet_and_own_values_pass() {
        for payload in ["+/8=", "-_8"] {
            let text = format!(r#"{{"version":"0.1.0","type":"sample","payload":"{payload}"}}"#);
            let expected = Registration::Message { kind: "sample".into(), payload: vec![0xfb, 0xff] };
            assert_eq!(Registration::parse(&text), Ok(expected));
        }
        let own = r#"{"platform":"tdx","registers":[]}"#;
        assert_eq!(Registration::parse(own), Ok(Registration::Own(serde_json::from_str(own).unwrap())));
    }

    #[test]
    fn what_is_no_message_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", "no JSON"),
            ("[1]", "object"),
            (r#"{"version":"0.2.0","type":"sample","payload":""}"#, "0.2.0"),
            (r#"{"version":7,"type":"sample","payload":""}"#, "invalid type"),
            (r#"{"type":"sample","payload":"*"}"#, "base64"),
            (r#"{"type":1,"payload":""}"#, "invalid type"),
        ] {
            let error = Registration::parse(text).unwrap_err();
            assert_eq!(error.code, "reference.invalid");
            assert!(error.message.contains(reason), "{text}: {error}");
        }
        assert!(query_id(String::new()).is_err());
        assert!(query_id("x".repeat(MAX_ID + 1)).is_err());
        assert!(query_id("x".repeat(MAX_ID)).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = Registration::parse(&text);
        }
    }
}

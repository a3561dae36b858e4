//! The wire form of Arm CCA's evidence: `{"token": [bytes]}` (KBS protocol, 3.11).
//!
//! A token in base64 is read too, because a list of numbers takes four times the room. Left out: what the token
//! says, which is `verify/cca`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// A token with all claims of the specification and a few dozen components has less than 8 KiB.
pub const MAX_TOKEN: usize = 64 << 10;

/// Why a JSON value is not CCA evidence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CcaError {
    /// The member is missing or of another type.
    #[error("the evidence has no token of bytes")]
    Form,
    /// An item of the list is no byte.
    #[error("token[{0}] is no byte")]
    Byte(usize),
    /// The text is not base64.
    #[error("token is not base64: {0}")]
    Base64(String),
    /// The token, or its text, is longer than any honest one.
    #[error("token is too long: at most {MAX_TOKEN} bytes, found {0}")]
    TooLong(usize),
}

/// A token of platform and realm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CcaEvidence {
    token: Vec<u8>,
}

impl CcaEvidence {
    /// Takes what the realm management monitor gave.
    pub fn from_token(token: Vec<u8>) -> Result<Self, CcaError> {
        match token.len() {
            ..=MAX_TOKEN => Ok(Self { token }),
            found => Err(CcaError::TooLong(found)),
        }
    }

    /// Reads the wire form and checks its bounds.
    pub fn parse(evidence: &Value) -> Result<Self, CcaError> {
        let token = match evidence.get("token") {
            Some(Value::Array(items)) if items.len() > MAX_TOKEN => {
                return Err(CcaError::TooLong(items.len()));
            }
            Some(Value::Array(items)) => {
                let byte = |(at, item): (usize, &Value)| {
                    item.as_u64().and_then(|item| u8::try_from(item).ok()).ok_or(CcaError::Byte(at))
                };
                items.iter().enumerate().map(byte).collect::<Result<_, _>>()?
            }
            Some(Value::String(text)) if text.len() / 4 > MAX_TOKEN => {
                return Err(CcaError::TooLong(text.len()));
            }
            Some(Value::String(text)) => {
                STANDARD.decode(text).map_err(|cause| CcaError::Base64(cause.to_string()))?
            }
            _ => return Err(CcaError::Form),
        };
        Self::from_token(token)
    }

    /// The wire form.
    pub fn to_value(&self) -> Value {
        json!({ "token": self.token })
    }

    /// The token.
    pub fn token(&self) -> &[u8] {
        &self.token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_written_as_numbers_and_read_as_numbers_or_base64() {
        let evidence = CcaEvidence::from_token(vec![0xd9, 1]).unwrap();
        assert_eq!(evidence.to_value(), json!({ "token": [217, 1] }));
        assert_eq!(CcaEvidence::parse(&evidence.to_value()), Ok(evidence.clone()));
        assert_eq!(CcaEvidence::parse(&json!({ "token": "2QE=" })), Ok(evidence));
    }

    #[test]
    fn what_is_not_the_form_is_refused_with_its_reason() {
        let refused = |value: Value| CcaEvidence::parse(&value).expect_err("accepted");
        assert_eq!(refused(json!({})), CcaError::Form);
        assert_eq!(refused(json!({ "token": 1 })), CcaError::Form);
        assert_eq!(refused(json!({ "token": [1, 256] })), CcaError::Byte(1));
        assert_eq!(refused(json!({ "token": [-1] })), CcaError::Byte(0));
        assert!(matches!(refused(json!({ "token": "*" })), CcaError::Base64(_)));
        assert!(CcaEvidence::parse(&json!({ "token": vec![0; MAX_TOKEN] })).is_ok());
        assert_eq!(refused(json!({ "token": vec![0; MAX_TOKEN + 1] })), CcaError::TooLong(MAX_TOKEN + 1));
        assert!(matches!(refused(json!({ "token": "A".repeat(MAX_TOKEN * 5) })), CcaError::TooLong(_)));
    }
}

//! The wire form of Nitro Enclaves' evidence: `{"attestation_document": base64}`.
//!
//! The KBS protocol names no form; this one is ours. Left out: what the document says, which is `verify/nitro`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The security module answers with at most 12 KiB.
pub const MAX_DOCUMENT: usize = 16 << 10;

/// Why a JSON value is not Nitro evidence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NitroError {
    /// The member is missing or no text.
    #[error("the evidence has no text attestation_document")]
    Form,
    /// The text is not base64.
    #[error("attestation_document is not base64: {0}")]
    Base64(String),
    /// The document, or its text, is longer than any honest one.
    #[error("attestation_document is too long: at most {MAX_DOCUMENT} bytes, found {0}")]
    TooLong(usize),
}

/// An attestation document, as the security module signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NitroEvidence {
    document: Vec<u8>,
}

impl NitroEvidence {
    /// Takes what the security module gave.
    pub fn from_document(document: Vec<u8>) -> Result<Self, NitroError> {
        match document.len() {
            ..=MAX_DOCUMENT => Ok(Self { document }),
            found => Err(NitroError::TooLong(found)),
        }
    }

    /// Reads the wire form and checks its bounds.
    pub fn parse(evidence: &Value) -> Result<Self, NitroError> {
        let text = evidence.get("attestation_document").and_then(Value::as_str).ok_or(NitroError::Form)?;
        if text.len() / 4 > MAX_DOCUMENT {
            return Err(NitroError::TooLong(text.len()));
        }
        let document = STANDARD.decode(text).map_err(|cause| NitroError::Base64(cause.to_string()))?;
        Self::from_document(document)
    }

    /// The wire form.
    pub fn to_value(&self) -> Value {
        json!({ "attestation_document": STANDARD.encode(&self.document) })
    }

    /// The document.
    pub fn document(&self) -> &[u8] {
        &self.document
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_module_gave_is_written_and_read_back() {
        let evidence = NitroEvidence::from_document(vec![0x84, 0x44]).unwrap();
        assert_eq!(evidence.to_value(), json!({ "attestation_document": "hEQ=" }));
        assert_eq!(NitroEvidence::parse(&evidence.to_value()), Ok(evidence));
    }

    #[test]
    fn what_is_not_the_form_is_refused_with_its_reason() {
        let refused = |value: Value| NitroEvidence::parse(&value).expect_err("accepted");
        assert_eq!(refused(json!({})), NitroError::Form);
        assert_eq!(refused(json!({ "attestation_document": [1] })), NitroError::Form);
        assert!(matches!(refused(json!({ "attestation_document": "*" })), NitroError::Base64(_)));
        let long = |length: usize| json!({ "attestation_document": STANDARD.encode(vec![0; length]) });
        assert!(NitroEvidence::parse(&long(MAX_DOCUMENT)).is_ok());
        assert_eq!(refused(long(MAX_DOCUMENT + 1)), NitroError::TooLong(MAX_DOCUMENT + 1));
        assert!(matches!(refused(long(MAX_DOCUMENT * 9)), NitroError::TooLong(_)));
    }
}

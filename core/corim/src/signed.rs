//! Signed documents: COSE_Sign1 whose header names the signer (draft-ietf-rats-corim, section 4.2).
//!
//! TRUST: who signs is decided by the keys given, never by what the header says of the signer. Left out: detached
//! payloads and certificates.

use coffer_core_cose::cbor::{self, Map, Value};
use coffer_core_cose::{CoseError, PublicKey, Sign1, SigningKey, label};
use coffer_core_digest::Digest;

use crate::document::{Corim, TAG_SIGNED, Validity, unwrapped};
use crate::error::CorimError;
use crate::fields::{self, optional, part, text};

/// What is signed, as today's draft and its predecessors name it.
const CONTENT_TYPES: [&str; 2] = ["application/rim+cbor", "application/corim-unsigned+cbor"];

/// A document whose signature was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The unsigned document.
    pub unsigned: Vec<u8>,
    /// The key that signed.
    pub key: PublicKey,
    /// What the signer calls itself, if it says so.
    pub signer: Option<String>,
    /// When the signature is to be believed, if it says so.
    pub validity: Option<Validity>,
}

/// Whether these bytes begin as a signed document does. Nothing is verified.
pub fn is_signed(bytes: &[u8]) -> bool {
    bytes.len() <= crate::MAX_CORIM && cbor::decode(bytes).is_ok_and(|value| sign1(value).is_ok())
}

/// Signs an unsigned document.
pub fn sign(unsigned: &[u8], key: &SigningKey, signer: &str) -> Result<Vec<u8>, CorimError> {
    // What cannot be read is not signed.
    Corim::parse(unsigned)?;
    let meta = Map::new().with(0, Map::new().with(0, signer));
    let identifier = Digest::sha256(&key.public().to_spki_der());
    let header = Map::new()
        .with(label::CONTENT_TYPE, "application/rim+cbor")
        .with(label::KEY_ID, identifier.as_bytes())
        .with(label::CORIM_META, cbor::encode(&meta.into()));
    Ok(Sign1::sign(header, unsigned, &[], key)?)
}

/// Verifies that one of these keys signed a document, and gives it. The time of the signature is for the caller to
/// hold against his own.
pub fn open(signed: &[u8], keys: &[PublicKey]) -> Result<Opened, CorimError> {
    if signed.len() > crate::MAX_CORIM {
        return Err(CorimError::TooLong(signed.len()));
    }
    let signed = Sign1::from_value(sign1(cbor::decode(signed)?)?)?;
    let mut refused = CorimError::NoKey;
    let mut signer = None;
    for key in keys {
        match signed.verify(key, &[]) {
            Ok(()) => {
                signer = Some(key.clone());
                break;
            }
            // That a key is of another algorithm says less than that one of the right algorithm did not sign.
            Err(CoseError::Algorithm { .. }) if !matches!(refused, CorimError::NoKey) => {}
            Err(cause) => refused = cause.into(),
        }
    }
    let key = signer.ok_or(refused)?;

    let content = signed.header().at(label::CONTENT_TYPE);
    if !content.and_then(Value::as_text).is_some_and(|content| CONTENT_TYPES.contains(&content)) {
        let found =
            content.map_or_else(|| "nothing".to_owned(), |value| text(value).unwrap_or_else(|| value.kind()));
        return Err(CorimError::ContentType { found });
    }
    let (signer, validity) = meta(signed.header())?;
    Ok(Opened { unsigned: signed.payload().to_vec(), key, signer, validity })
}

fn sign1(value: Value) -> Result<Value, CorimError> {
    let inner = match unwrapped(value) {
        Value::Tag(TAG_SIGNED, inner) => *inner,
        other => other,
    };
    match inner {
        signed @ Value::Tag(18, _) => Ok(signed),
        other => Err(CorimError::form("signed CoRIM", "COSE_Sign1 under tag 18", Some(&other))),
    }
}

/// The signer's name and the signature's validity: CoRIM's own header, or the claims of a CWT (RFC 9597).
fn meta(header: &Map) -> Result<(Option<String>, Option<Validity>), CorimError> {
    if let Some(bytes) = header.at(label::CORIM_META) {
        let wrong = || CorimError::form("corim-meta", "bytes that hold a map", Some(bytes));
        let value = cbor::decode(bytes.as_bytes().ok_or_else(wrong)?)?;
        let map = fields::map("corim-meta", &value)?;
        let signer = part(map, 0, |value| fields::map("signer", value))?;
        let name = signer.map(|signer| optional(signer, 0, "signer name", "a text", text)).transpose()?;
        return Ok((name.flatten(), part(map, 1, Validity::parse)?));
    }
    let Some(claims) = header.at(label::CWT_CLAIMS) else { return Ok((None, None)) };
    let claims = fields::map("CWT claims", claims)?;
    let not_after = optional(claims, 4, "exp", "a time", fields::time)?;
    let not_before = optional(claims, 5, "nbf", "a time", fields::time)?;
    let validity = match (not_before, not_after) {
        (None, None) => None,
        (not_before, end) => Some(Validity { not_before, not_after: end.unwrap_or(i64::MAX) }),
    };
    Ok((optional(claims, 1, "iss", "a text", text)?, validity))
}

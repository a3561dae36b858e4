//! The collection of the two tokens: tag 399 of the RMM specification, the wrapper of conceptual messages (tag 907)
//! of later drafts, and a bare map.
//!
//! Nothing signs the collection itself, so what else is in it is ignored.

use coffer_core_cose::cbor::{self, CborError, Value};

use crate::ClaimError;

/// `0xACCA`.
const PLATFORM: i64 = 44234;
/// `0xACD1`.
const REALM: i64 = 44241;
const TAGS: [u64; 2] = [399, 907];

/// Why bytes are not a collection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CollectionError {
    /// Not CBOR.
    #[error(transparent)]
    Cbor(#[from] CborError),
    /// Not a collection, or without one of the tokens.
    #[error(transparent)]
    Claim(#[from] ClaimError),
}

/// The two tokens, each a COSE_Sign1 that nothing is proven of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collection {
    /// The platform's.
    pub platform: Vec<u8>,
    /// The realm's.
    pub realm: Vec<u8>,
}

impl Collection {
    /// Reads a token.
    pub fn parse(token: &[u8]) -> Result<Self, CollectionError> {
        let value = match cbor::decode(token)? {
            Value::Tag(tag, inner) if TAGS.contains(&tag) => *inner,
            other => other,
        };
        let wanted = |claim, expected, found: Option<&Value>| {
            let found = found.map_or_else(|| "nothing".to_owned(), Value::kind);
            ClaimError::Claim { claim, expected, found }
        };
        let Value::Map(map) = &value else {
            return Err(wanted("token", "a collection: a map under tag 399 or 907", Some(&value)).into());
        };
        let part = |label: i64, claim: &'static str| {
            let found = map.at(label);
            let bytes = match found {
                // A record: the content format 263 (application/eat+cwt), the message, and perhaps what kind it is.
                Some(Value::Array(record)) => record.get(1).and_then(Value::as_bytes),
                other => other.and_then(Value::as_bytes),
            };
            bytes.map(<[u8]>::to_vec).ok_or_else(|| wanted(claim, "a byte string", found))
        };
        Ok(Self { platform: part(PLATFORM, "platform token")?, realm: part(REALM, "realm token")? })
    }
}

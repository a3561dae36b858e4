//! COSE_Sign1: one signer over one payload (RFC 9052, section 4.2).
//!
//! Left out: detached payloads. Critical parameters that nobody here understands are refused (section 3.1).

use crate::cbor::{self, CborError, Map, Value};
use crate::key::{Algorithm, KeyError, PublicKey, SigningKey};

/// Header parameters (RFC 9052, section 3.1; CoRIM, section 4.2).
pub mod label {
    /// The algorithm.
    pub const ALGORITHM: i64 = 1;
    /// Parameters that must be understood.
    pub const CRITICAL: i64 = 2;
    /// The type of the payload.
    pub const CONTENT_TYPE: i64 = 3;
    /// The identifier of the key.
    pub const KEY_ID: i64 = 4;
    /// CoRIM's word on its signer.
    pub const CORIM_META: i64 = 8;
    /// Claims of a CWT (RFC 9597).
    pub const CWT_CLAIMS: i64 = 15;
}

/// Critical parameters that callers look at, or that change nothing in what is signed.
const UNDERSTOOD: [i64; 5] =
    [label::ALGORITHM, label::CONTENT_TYPE, label::KEY_ID, label::CORIM_META, label::CWT_CLAIMS];
const TAG: u64 = 18;

/// Why a signature is refused, or could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoseError {
    /// Not CBOR.
    #[error(transparent)]
    Cbor(#[from] CborError),
    /// Not of the form.
    #[error("not COSE_Sign1: {expected}, found {found}")]
    Form {
        /// What should be there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A parameter is both protected and unprotected.
    #[error("header parameter {0} is both protected and unprotected")]
    Twice(String),
    /// A parameter must be understood and is not.
    #[error("critical header parameter {0} is not known or not protected")]
    Critical(String),
    /// The protected header names no algorithm, or one that is not known.
    #[error("the protected header names the algorithm {found}; expected ES256, ES384, ES512 or EdDSA")]
    UnknownAlgorithm {
        /// What it names.
        found: String,
    },
    /// The protected header names another algorithm than the key's.
    #[error("the header names {found}; the key is for {expected}")]
    Algorithm {
        /// The key's.
        expected: Algorithm,
        /// The header's.
        found: Algorithm,
    },
    /// The signature does not fit.
    #[error("the signature does not fit: another key signed, or the content was changed")]
    Signature,
    /// No signature could be made.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// A signed payload. Nothing is proven of it until [`Sign1::verify`] said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sign1 {
    protected: Vec<u8>,
    header: Map,
    unprotected: Map,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl Sign1 {
    /// Reads bytes that are exactly one COSE_Sign1, with or without its tag.
    pub fn parse(bytes: &[u8]) -> Result<Self, CoseError> {
        Self::from_value(cbor::decode(bytes)?)
    }

    /// Reads a value.
    pub fn from_value(value: Value) -> Result<Self, CoseError> {
        let form = |expected, found: &Value| CoseError::Form { expected, found: found.kind() };
        let array = match value {
            Value::Tag(TAG, inner) => *inner,
            other => other,
        };
        let parts = match array {
            Value::Array(parts) => <[Value; 4]>::try_from(parts),
            other => return Err(form("expected an array of 4", &other)),
        };
        let [protected, unprotected, payload, signature] =
            parts.map_err(|parts| form("expected an array of 4", &Value::Array(parts)))?;
        let Value::Bytes(protected) = protected else {
            return Err(form("the protected header is a byte string", &protected));
        };
        let Value::Map(unprotected) = unprotected else {
            return Err(form("the unprotected header is a map", &unprotected));
        };
        let Value::Bytes(payload) = payload else {
            return Err(form("the payload is a byte string", &payload));
        };
        let Value::Bytes(signature) = signature else {
            return Err(form("the signature is a byte string", &signature));
        };
        let header = match protected.is_empty() {
            true => Map::new(),
            false => match cbor::decode(&protected)? {
                Value::Map(header) => header,
                other => return Err(form("the protected header holds a map", &other)),
            },
        };
        let sign1 = Self { protected, header, unprotected, payload, signature };
        sign1.check_header()?;
        Ok(sign1)
    }

    fn check_header(&self) -> Result<(), CoseError> {
        if let Some((key, _)) = self.header.iter().find(|(key, _)| self.unprotected.get(key).is_some()) {
            return Err(CoseError::Twice(shown(key)));
        }
        if self.unprotected.at(label::CRITICAL).is_some() {
            return Err(CoseError::Critical(label::CRITICAL.to_string()));
        }
        let Some(critical) = self.header.at(label::CRITICAL) else { return Ok(()) };
        let form = || CoseError::Form { expected: "critical labels are an array", found: critical.kind() };
        let labels = critical.as_array().filter(|labels| !labels.is_empty()).ok_or_else(form)?;
        let unknown = labels.iter().find(|one| {
            let understood = one.as_i64().is_some_and(|one| UNDERSTOOD.contains(&one));
            !understood || self.header.get(one).is_none()
        });
        unknown.map_or(Ok(()), |one| Err(CoseError::Critical(shown(one))))
    }

    /// The algorithm that the protected header names.
    pub fn algorithm(&self) -> Result<Algorithm, CoseError> {
        let named = self.header.at(label::ALGORITHM);
        named.and_then(Value::as_i64).and_then(Algorithm::from_id).ok_or_else(|| {
            CoseError::UnknownAlgorithm { found: named.map_or_else(|| "none".to_owned(), shown) }
        })
    }

    /// Whether this key signed header and payload; `external` is what is signed beside them.
    pub fn verify(&self, key: &PublicKey, external: &[u8]) -> Result<(), CoseError> {
        let (expected, found) = (key.algorithm(), self.algorithm()?);
        if expected != found {
            return Err(CoseError::Algorithm { expected, found });
        }
        let message = signed(&self.protected, external, &self.payload);
        match key.signed(&message, &self.signature) {
            true => Ok(()),
            false => Err(CoseError::Signature),
        }
    }

    /// Signs a payload and writes it, tagged. The algorithm is put into the header.
    pub fn sign(
        header: Map,
        payload: &[u8],
        external: &[u8],
        key: &SigningKey,
    ) -> Result<Vec<u8>, CoseError> {
        let header = header.with(label::ALGORITHM, key.public().algorithm().id());
        let protected = cbor::encode(&header.into());
        let signature = key.sign(&signed(&protected, external, payload))?;
        let parts = vec![protected.into(), Map::new().into(), payload.into(), signature.into()];
        Ok(cbor::encode(&Value::tag(TAG, Value::Array(parts))))
    }

    /// The protected header.
    pub const fn header(&self) -> &Map {
        &self.header
    }

    /// The header that nothing protects.
    pub const fn unprotected(&self) -> &Map {
        &self.unprotected
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The signature.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }
}

/// What is signed (RFC 9052, section 4.4).
fn signed(protected: &[u8], external: &[u8], payload: &[u8]) -> Vec<u8> {
    // An empty map is signed as no bytes at all.
    let protected = if protected == [0xa0] { &[] } else { protected };
    let parts = vec!["Signature1".into(), protected.into(), external.into(), payload.into()];
    cbor::encode(&Value::Array(parts))
}

fn shown(value: &Value) -> String {
    value.as_integer().map_or_else(|| value.kind(), |number| number.to_string())
}

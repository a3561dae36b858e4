//! Reading claims from a map: each with its name, what it must be, and what was found.

use coffer_core_cose::cbor::{self, CborError, Map, Value};
use coffer_core_digest::{Algorithm, Digest};

/// Why a payload is not a set of claims.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// Not CBOR.
    #[error(transparent)]
    Cbor(#[from] CborError),
    /// A claim is missing or not as specified.
    #[error("{claim}: expected {expected}, found {found}")]
    Claim {
        /// The claim.
        claim: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// The profile is not one that is known, so nothing is known of what the claims mean.
    #[error("unknown profile {0:?}")]
    Profile(String),
    /// The realm's key is not usable.
    #[error("realm public key: {0}")]
    Key(#[from] coffer_core_cose::KeyError),
}

impl ClaimError {
    /// The code of the check that fails, for a platform's token.
    pub(crate) const fn code_for_platform(&self) -> &'static str {
        match self {
            Self::Profile(_) => "cca.platform.profile",
            _ => "cca.platform.format",
        }
    }

    /// The code of the check that fails, for a realm's token.
    pub(crate) const fn code_for_realm(&self) -> &'static str {
        match self {
            Self::Profile(_) => "cca.realm.profile",
            Self::Key(_) => "cca.realm.key",
            _ => "cca.realm.format",
        }
    }
}

/// Texts in tokens are names and addresses.
const MAX_TEXT: usize = 1024;

/// A map of claims. Claims that nobody asks for are ignored, as EAT wants it.
pub(crate) struct Members(Map);

impl Members {
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, ClaimError> {
        match cbor::decode(payload)? {
            Value::Map(map) => Ok(Self(map)),
            other => Err(wrong("claims", "a map", Some(&other))),
        }
    }

    pub(crate) fn of(claim: &'static str, value: &Value) -> Result<Self, ClaimError> {
        value.as_map().cloned().map(Self).ok_or_else(|| wrong(claim, "a map", Some(value)))
    }

    pub(crate) fn has(&self, label: i64) -> bool {
        self.0.at(label).is_some()
    }

    /// A claim that must be there, read by a function.
    pub(crate) fn read<'a, T>(
        &'a self,
        label: i64,
        claim: &'static str,
        expected: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<T, ClaimError> {
        let value = self.0.at(label);
        value.and_then(read).ok_or_else(|| wrong(claim, expected, value))
    }

    /// A claim that may be left out.
    pub(crate) fn optional<'a, T>(
        &'a self,
        label: i64,
        read: impl FnOnce(&'a Self) -> Result<T, ClaimError>,
    ) -> Result<Option<T>, ClaimError> {
        match self.has(label) {
            true => read(self).map(Some),
            false => Ok(None),
        }
    }

    pub(crate) fn text(&self, label: i64, claim: &'static str) -> Result<String, ClaimError> {
        self.read(label, claim, "a text that is not empty", |value| {
            value.as_text().filter(|text| !text.is_empty() && text.len() <= MAX_TEXT).map(str::to_owned)
        })
    }

    pub(crate) fn bytes(&self, label: i64, claim: &'static str) -> Result<Vec<u8>, ClaimError> {
        self.read(label, claim, "a byte string that is not empty", |value| {
            value.as_bytes().filter(|bytes| !bytes.is_empty()).map(<[u8]>::to_vec)
        })
    }

    pub(crate) fn array<const N: usize>(
        &self,
        label: i64,
        claim: &'static str,
        expected: &'static str,
    ) -> Result<[u8; N], ClaimError> {
        self.read(label, claim, expected, |value| value.as_bytes()?.try_into().ok())
    }

    /// An EAT UEID of the kind RAND (RFC 9711, section 4.2.1).
    pub(crate) fn ueid(&self, claim: &'static str) -> Result<[u8; 33], ClaimError> {
        self.read(256, claim, "33 bytes that begin with 01", |value| {
            let id: [u8; 33] = value.as_bytes()?.try_into().ok()?;
            (id.first() == Some(&1)).then_some(id)
        })
    }

    pub(crate) fn digest(&self, label: i64, claim: &'static str) -> Result<Digest, ClaimError> {
        self.read(label, claim, "32, 48 or 64 bytes", digest)
    }

    /// A list that is not empty, its items read by a function.
    pub(crate) fn list<T>(
        &self,
        label: i64,
        claim: &'static str,
        read: impl Fn(&Self) -> Result<T, ClaimError>,
    ) -> Result<Vec<T>, ClaimError> {
        let filled =
            |value: &'_ Value| value.as_array().filter(|items| !items.is_empty()).map(<[Value]>::to_vec);
        let items = self.read(label, claim, "a list that is not empty", filled)?;
        items.iter().map(|item| read(&Self::of(claim, item)?)).collect()
    }
}

/// A measurement. Its length says its algorithm: platforms may pad a short one to 64 bytes.
pub(crate) fn digest(value: &Value) -> Option<Digest> {
    let bytes = value.as_bytes()?;
    let algorithms = [Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512];
    algorithms.into_iter().find_map(|algorithm| Digest::from_bytes(algorithm, bytes).ok())
}

pub(crate) fn wrong(claim: &'static str, expected: &'static str, found: Option<&Value>) -> ClaimError {
    let found = found.map_or_else(|| "nothing".to_owned(), Value::kind);
    ClaimError::Claim { claim, expected, found }
}

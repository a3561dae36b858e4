//! Published keys that verify the tokens of others, and ours for others: JWK sets (RFC 7517, section 5).
//!
//! INVARIANT: a set holds public keys for signatures only. A symmetric key is never read, so no token can be
//! authenticated with what is public; what cannot be used is left out and named, as the RFC asks.
//! Left out: where a set comes from.

mod key;

use serde_json::{Map, Value, json};

pub use key::{SignatureAlgorithm, SignatureKey};

use crate::jwk::short;
use crate::jws::VerifyingKey;
use crate::strict;

/// The longest set that is read.
pub const MAX_SET: usize = 512 << 10;
/// The most keys in a set. A larger set is refused, not cut.
pub const MAX_KEYS: usize = 64;
/// The longest name of a key.
const MAX_KEY_ID: usize = 256;

/// Why a set is refused.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// Over the bound.
    #[error("the key set has {found} bytes; at most {MAX_SET} are read")]
    TooLarge {
        /// The length found.
        found: usize,
    },
    /// Not the JSON of a set.
    #[error("not a JWK set: {0}; expected {{\"keys\": […]}}")]
    Json(#[from] serde_json::Error),
    /// There is no list of keys.
    #[error("not a JWK set: it has no list \"keys\"")]
    NoKeys,
    /// Over the bound.
    #[error("the key set has {found} keys; at most {MAX_KEYS} are read")]
    TooMany {
        /// How many there are.
        found: usize,
    },
    /// A private key was published.
    #[error(
        "key {number} of the set holds its private part; it is no longer secret, so its owner must replace it"
    )]
    Private {
        /// Which, from 0.
        number: usize,
    },
}

/// A key of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedKey {
    /// Its name, by which tokens choose it.
    pub id: Option<String>,
    /// The key.
    pub key: SignatureKey,
}

/// Keys that verify signatures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JwkSet {
    keys: Vec<PublishedKey>,
    left_out: Vec<String>,
}

impl JwkSet {
    /// Our own keys, each named by its thumbprint (RFC 7638).
    pub fn of<'a>(keys: impl IntoIterator<Item = &'a VerifyingKey>) -> Self {
        let published = |key: &VerifyingKey| PublishedKey {
            id: Some(key.thumbprint()),
            key: SignatureKey::from(key.clone()),
        };
        Self { keys: keys.into_iter().map(published).collect(), left_out: Vec::new() }
    }

    /// Reads a set. Keys that are not for signatures, or of kinds that are not known, are left out.
    pub fn from_json(bytes: &[u8]) -> Result<Self, JwksError> {
        if bytes.len() > MAX_SET {
            return Err(JwksError::TooLarge { found: bytes.len() });
        }
        let members = strict::object(bytes)?;
        let list = members.get("keys").and_then(Value::as_array).ok_or(JwksError::NoKeys)?;
        if list.len() > MAX_KEYS {
            return Err(JwksError::TooMany { found: list.len() });
        }
        let mut set = Self::default();
        for (number, key) in list.iter().enumerate() {
            if is_private(key) {
                return Err(JwksError::Private { number });
            }
            match published(key) {
                Ok(key) => set.keys.push(key),
                Err(why) => set.left_out.push(format!("key {number}: {why}")),
            }
        }
        Ok(set)
    }

    /// Writes the set, as it is served.
    pub fn to_json(&self) -> Value {
        let write = |published: &PublishedKey| {
            let mut members = published.key.to_members();
            members.insert("use".into(), "sig".into());
            if let Some(id) = &published.id {
                members.insert("kid".into(), id.clone().into());
            }
            Value::Object(members)
        };
        json!({"keys": self.keys.iter().map(write).collect::<Vec<_>>()})
    }

    /// The keys.
    pub fn keys(&self) -> &[PublishedKey] {
        &self.keys
    }

    /// The keys of a name. Two may share one, if they are of two kinds (RFC 7517, section 4.5).
    pub fn named<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a SignatureKey> {
        self.keys.iter().filter(move |key| key.id.as_deref() == Some(id)).map(|key| &key.key)
    }

    /// Which keys of what was read are not here, and why: for the log of whoever configured the set.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// A symmetric key has `k` too, but is no mistake of its publisher's that concerns others' keys: it is left out.
fn is_private(key: &Value) -> bool {
    key.get("kty").and_then(Value::as_str) != Some("oct")
        && (key.get("d").is_some() || key.get("priv").is_some())
}

fn published(value: &Value) -> Result<PublishedKey, String> {
    let members: &Map<String, Value> = value.as_object().ok_or("it is no object")?;
    match members.get("use").map(Value::as_str) {
        None | Some(Some("sig")) => {}
        Some(other) => return Err(format!("its use is {:?}, not \"sig\"", short(other.unwrap_or_default()))),
    }
    if let Some(operations) = members.get("key_ops") {
        let verifies = operations.as_array().is_some_and(|list| list.iter().any(|name| name == "verify"));
        if !verifies {
            return Err("its key_ops have no \"verify\"".into());
        }
    }
    let id = match members.get("kid") {
        None => None,
        Some(Value::String(id)) if id.len() <= MAX_KEY_ID => Some(id.clone()),
        Some(_) => return Err(format!("its kid is no text of at most {MAX_KEY_ID} bytes")),
    };
    let key = SignatureKey::from_jwk(value).map_err(|why| why.to_string())?;
    Ok(PublishedKey { id, key })
}

#[cfg(test)]
pub(crate) mod tests;

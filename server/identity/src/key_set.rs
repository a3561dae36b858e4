//! An issuer's keys (RFC 7517, section 5).

use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::algorithm::Algorithm;
use crate::error::KeyError;
use crate::json;
use crate::key::PublicKey;
use crate::scope::Scope;

/// The most keys of one issuer. Large ones publish about a dozen.
pub const MAX_KEYS: usize = 100;
/// The longest document with keys.
pub(crate) const MAX_DOCUMENT: usize = 256 << 10;

/// Where an issuer's keys come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeySource {
    /// `{issuer}/.well-known/openid-configuration` says where (OpenID Connect Discovery 1.0, section 4).
    #[default]
    Discovery,
    /// A JWKS at this address.
    Url(String),
    /// A JWKS in this file of the broker's machine. Not for tenants' issuers.
    File(PathBuf),
    /// A JWKS as text, here.
    Inline(String),
}

/// Where keys come from, and for whom. What one tenant fetched is not another's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeySlot {
    pub(crate) owner: Scope,
    pub(crate) issuer: String,
    pub(crate) source: KeySource,
}

impl KeySlot {
    /// A place for keys of other use than admins' tokens; `name` tells it from those.
    pub fn new(owner: Scope, name: String, source: KeySource) -> Self {
        Self { owner, issuer: name, source }
    }
}

/// An issuer's public keys that verify signatures.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<Arc<PublicKey>>,
    /// The document, for those who read other keys of it.
    document: Arc<str>,
    /// Keys of the document that are of no use here.
    skipped: usize,
}

impl KeySet {
    /// Reads `{"keys":[…]}`. Keys for other uses and of unknown kinds are skipped (RFC 7517, section 5); a weak or
    /// malformed one too, so that it cannot stop an issuer's good ones.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyError> {
        if bytes.len() > MAX_DOCUMENT {
            return Err(KeyError::Form("the set is longer than 256 KiB"));
        }
        let set =
            json::object(bytes).map_err(|_| KeyError::Form("the set's JSON cannot be read in one way"))?;
        let keys =
            set.get("keys").and_then(Value::as_array).ok_or(KeyError::Form("the set has no list of keys"))?;
        if keys.len() > MAX_KEYS {
            return Err(KeyError::Form("the set has more than 100 keys"));
        }
        let read = |key: &Value| PublicKey::from_jwk(key.as_object()?).ok().map(Arc::new);
        let good: Vec<_> = keys.iter().filter_map(read).collect();
        if good.is_empty() {
            return Err(KeyError::Form(
                "no key of the set verifies signatures with an algorithm that is known",
            ));
        }
        let document = String::from_utf8_lossy(bytes).as_ref().into();
        Ok(Self { skipped: keys.len().saturating_sub(good.len()), keys: good, document })
    }

    /// The document that was read.
    pub fn document(&self) -> &Arc<str> {
        &self.document
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many keys of the document are of no use here.
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// Whether it has a key of that id.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.keys.iter().any(|key| key.id() == Some(id))
    }

    /// The keys that could have made a signature: those of the id, or without an id all, if they fit the algorithm.
    pub(crate) fn candidates(&self, id: Option<&str>, algorithm: Algorithm) -> Vec<&PublicKey> {
        let fits = |key: &&Arc<PublicKey>| key.is_for(algorithm) && (id.is_none() || key.id() == id);
        self.keys.iter().filter(fits).map(Arc::as_ref).collect()
    }
}

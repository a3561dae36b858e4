//! The transit engine: keys that stay in the server, and what is encrypted with them.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_core_secret::SecretBytes;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::http::{Ask, Reply, object};
use crate::kv::segments;
use crate::{Vault, VaultError};

/// A transit engine.
#[derive(Clone)]
pub struct Transit {
    vault: Vault,
    mount: String,
}

/// A key that the server made, open and wrapped.
pub struct DataKey {
    /// The key.
    pub plaintext: SecretBytes,
    /// The key under the transit key, as `vault:v1:…`.
    pub ciphertext: String,
}

/// What a transit key is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct KeyInfo {
    /// As `aes256-gcm96`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The version that encrypts.
    pub latest_version: u64,
    /// Older ciphertexts than of this version are not opened.
    pub min_decryption_version: u64,
    /// Whether the key can leave the server.
    #[serde(default)]
    pub exportable: bool,
    /// Whether the key can be deleted.
    #[serde(default)]
    pub deletion_allowed: bool,
    /// Whether it encrypts.
    #[serde(default)]
    pub supports_encryption: bool,
}

#[derive(Deserialize)]
struct Wrapper<T> {
    data: T,
}

#[derive(Deserialize)]
struct Encrypted {
    ciphertext: String,
}

#[derive(Deserialize)]
struct Decrypted<'a> {
    /// Borrowed from the answer, which is wiped.
    #[serde(borrow)]
    plaintext: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Generated<'a> {
    #[serde(borrow)]
    plaintext: Cow<'a, str>,
    ciphertext: String,
}

impl Transit {
    pub(crate) fn new(vault: Vault, mount: &str) -> Result<Self, VaultError> {
        segments(mount)?;
        Ok(Self { vault, mount: mount.to_owned() })
    }

    /// What a key is, or `None` if it is not there.
    pub async fn key(&self, key: &str) -> Result<Option<KeyInfo>, VaultError> {
        let ask = self.ask(&["keys", one(key)?], None)?;
        let reply = self.vault.call(&ask).await?;
        match reply.is_absent() {
            true => Ok(None),
            false => {
                self.check(&ask, &reply, key)?;
                reply.parse::<Wrapper<KeyInfo>>(&ask).map(|wrapper| Some(wrapper.data))
            }
        }
    }

    /// Encrypts with the key's newest version. Opens again only with the same `associated`.
    pub async fn encrypt(&self, key: &str, plain: &[u8], associated: &[u8]) -> Result<String, VaultError> {
        let plain = Zeroizing::new(STANDARD.encode(plain));
        let body = with_associated("plaintext", &plain, associated);
        let ask = self.ask(&["encrypt", one(key)?], Some(body))?;
        let reply = self.send(&ask, key).await?;
        reply.parse::<Wrapper<Encrypted>>(&ask).map(|wrapper| wrapper.data.ciphertext)
    }

    /// Decrypts.
    pub async fn decrypt(
        &self,
        key: &str,
        ciphertext: &str,
        associated: &[u8],
    ) -> Result<SecretBytes, VaultError> {
        let body = with_associated("ciphertext", ciphertext, associated);
        let ask = self.ask(&["decrypt", one(key)?], Some(body))?;
        let reply = self.send(&ask, key).await?;
        decoded(&ask, &reply.parse::<Wrapper<Decrypted<'_>>>(&ask)?.data.plaintext)
    }

    /// Encrypts anew with the key's newest version, without showing the value to us.
    pub async fn rewrap(&self, key: &str, ciphertext: &str, associated: &[u8]) -> Result<String, VaultError> {
        let body = with_associated("ciphertext", ciphertext, associated);
        let ask = self.ask(&["rewrap", one(key)?], Some(body))?;
        let reply = self.send(&ask, key).await?;
        reply.parse::<Wrapper<Encrypted>>(&ask).map(|wrapper| wrapper.data.ciphertext)
    }

    /// A new key of 256 bits, which is the engine's default, open and wrapped.
    pub async fn data_key(&self, key: &str) -> Result<DataKey, VaultError> {
        let ask = self.ask(&["datakey", "plaintext", one(key)?], Some(object(&[])))?;
        let reply = self.send(&ask, key).await?;
        let Generated { plaintext, ciphertext } = reply.parse::<Wrapper<Generated<'_>>>(&ask)?.data;
        Ok(DataKey { plaintext: decoded(&ask, &plaintext)?, ciphertext })
    }

    fn ask<'a>(&'a self, call: &[&'a str], body: Option<Zeroizing<String>>) -> Result<Ask<'a>, VaultError> {
        let mut path = segments(&self.mount)?;
        path.extend(call);
        let method = if body.is_some() { Method::POST } else { Method::GET };
        // None of these calls changes the key, so a second one does no harm.
        Ok(Ask { method, path, query: None, body, repeatable: true })
    }

    async fn send(&self, ask: &Ask<'_>, key: &str) -> Result<Reply, VaultError> {
        let reply = self.vault.call(ask).await?;
        self.check(ask, &reply, key)?;
        Ok(reply)
    }

    fn check(&self, ask: &Ask<'_>, reply: &Reply, key: &str) -> Result<(), VaultError> {
        let capability = if ask.body.is_some() { "update" } else { "read" };
        let no_key = || VaultError::NoKey { mount: self.mount.clone(), key: key.to_owned() };
        match reply.status {
            status if status.is_success() => Ok(()),
            StatusCode::FORBIDDEN => Err(VaultError::Forbidden { path: ask.path(), capability }),
            StatusCode::NOT_FOUND if reply.is_absent() => Err(no_key()),
            StatusCode::NOT_FOUND => {
                Err(VaultError::NoEngine { engine: "transit", mount: self.mount.clone() })
            }
            StatusCode::BAD_REQUEST if reply.words().contains("encryption key not found") => Err(no_key()),
            StatusCode::BAD_REQUEST => {
                Err(VaultError::Ciphertext { key: key.to_owned(), why: reply.words() })
            }
            status => {
                Err(VaultError::Refused { path: ask.path(), status: status.as_u16(), why: reply.words() })
            }
        }
    }
}

/// A key's name is one segment.
fn one(key: &str) -> Result<&str, VaultError> {
    match segments(key)?.as_slice() {
        [one] => Ok(one),
        _ => Err(VaultError::Path { path: key.to_owned(), why: "a key's name has no slash" }),
    }
}

fn with_associated(name: &str, value: &str, associated: &[u8]) -> Zeroizing<String> {
    match associated {
        [] => object(&[(name, value)]),
        associated => object(&[(name, value), ("associated_data", &STANDARD.encode(associated))]),
    }
}

fn decoded(ask: &Ask<'_>, text: &str) -> Result<SecretBytes, VaultError> {
    let malformed = |_| VaultError::Malformed { path: ask.path(), why: "its plaintext is not base64" };
    STANDARD.decode(text).map(SecretBytes::new).map_err(malformed)
}

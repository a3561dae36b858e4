//! From a text to what it names: form, signature, payload, in this order.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_core_protocol::jws::{Compact, VerifyingKey};
use coffer_core_protocol::uri::{ResourcePath, ResourceUri, UriError};
use coffer_core_secret::SecretBytes;
use serde::Deserialize;
use serde_json::Value;

use crate::envelope::{Envelope, WrapType};
use crate::{MAX_TEXT, PREFIX, PROVIDER, SealedSecretError, VERSION};

/// The header of the form without signatures.
const FAKE_HEADER: &str = "fakejwsheader";
/// The longest document with a signer's key.
const MAX_KEY: usize = 16 << 10;
/// The longest name of a file with a signer's key.
const MAX_FILE_NAME: usize = 128;

/// Whether a text claims to be a sealed secret.
#[must_use]
pub fn is_sealed(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// Where the key that verifies the signature is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyId {
    /// In the broker.
    Resource(ResourcePath),
    /// In a file of the guest's, which upstream's data hub reads and our guest does not.
    File(String),
}

impl KeyId {
    fn parse(text: &str) -> Result<Self, SealedSecretError> {
        if text.contains("://") {
            let uri = text.parse::<ResourceUri>().map_err(SealedSecretError::KeyId)?;
            return Ok(Self::Resource(uri.path().clone()));
        }
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let named = (1..=MAX_FILE_NAME).contains(&text.len()) && text.bytes().all(fits);
        match named && !text.contains("..") && text != "." {
            true => Ok(Self::File(text.to_owned())),
            false => Err(SealedSecretError::KeyId(UriError::Scheme { found: short(text) })),
        }
    }
}

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Resource(path) => f.write_str(&path.to_uri()),
            Self::File(name) => f.write_str(name),
        }
    }
}

/// Reads the key that verifies: a public JWK on P-256.
pub fn signer_key(document: &[u8]) -> Result<VerifyingKey, SealedSecretError> {
    let refused = |why: &str| SealedSecretError::SignerKey(why.to_owned());
    if document.len() > MAX_KEY {
        return Err(refused("it has more than 16 KiB"));
    }
    let value: Value = serde_json::from_slice(document).map_err(|why| refused(&why.to_string()))?;
    if value.get("d").is_some() {
        return Err(refused("it holds its private part, so whoever reads it can seal; make a new key"));
    }
    let key: VerifyingKey = serde_json::from_value(value).map_err(|why| refused(&why.to_string()))?;
    match key.algorithm() {
        "ES256" => Ok(key),
        other => Err(refused(&format!("it is for {other}"))),
    }
}

/// A text in the right form. Nothing of its payload is known yet.
#[derive(Debug)]
pub struct Unverified {
    compact: Compact,
    key: KeyId,
}

impl Unverified {
    /// Takes a text apart.
    pub fn parse(text: &str) -> Result<Self, SealedSecretError> {
        if text.len() > MAX_TEXT {
            return Err(SealedSecretError::TooLarge { found: text.len() });
        }
        let signed = text.trim_end().strip_prefix(PREFIX).ok_or(SealedSecretError::Prefix)?;
        if signed.split('.').next() == Some(FAKE_HEADER) {
            return Err(SealedSecretError::Fake);
        }
        let compact = Compact::parse(signed)?;
        let key = KeyId::parse(compact.key_id().ok_or(SealedSecretError::NoKeyId)?)?;
        Ok(Self { compact, key })
    }

    /// Where the key that verifies it is said to be. The caller decides whether that place is to be trusted.
    #[must_use]
    pub fn key_id(&self) -> &KeyId {
        &self.key
    }

    /// Verifies the signature with the key that is at [`Unverified::key_id`], and reads the payload.
    pub fn verify(self, key: &VerifyingKey) -> Result<Verified, SealedSecretError> {
        if key.algorithm() != "ES256" {
            return Err(SealedSecretError::SignerKey(format!("it is for {}", key.algorithm())));
        }
        let payload =
            serde_json::from_slice(self.compact.verify(key)?).map_err(SealedSecretError::Payload)?;
        Ok(Verified { key: self.key, payload: read(payload)? })
    }
}

/// What a sealed secret is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A resource's name.
    Vault,
    /// A value that a key of the broker's opens.
    Envelope(WrapType),
}

#[derive(Debug)]
enum Payload {
    Vault(ResourcePath),
    Envelope(Envelope),
}

/// A sealed secret whose signature was verified.
#[derive(Debug)]
pub struct Verified {
    key: KeyId,
    payload: Payload,
}

impl Verified {
    /// Where the key is that it was verified with.
    #[must_use]
    pub fn key_id(&self) -> &KeyId {
        &self.key
    }

    /// What it is.
    #[must_use]
    pub fn form(&self) -> Form {
        match &self.payload {
            Payload::Vault(_) => Form::Vault,
            Payload::Envelope(envelope) => Form::Envelope(envelope.wrap_type),
        }
    }

    /// The one resource of the broker that is needed: the value itself, or the key that opens it.
    #[must_use]
    pub fn resource(&self) -> &ResourcePath {
        match &self.payload {
            Payload::Vault(name) => name,
            Payload::Envelope(envelope) => &envelope.key,
        }
    }

    /// The secret, given what the broker has at [`Verified::resource`].
    pub fn open(&self, resource: SecretBytes) -> Result<SecretBytes, SealedSecretError> {
        match &self.payload {
            Payload::Vault(_) => Ok(resource),
            Payload::Envelope(envelope) => envelope.open(&resource),
        }
    }
}

/// The members of both forms; upstream's others are ignored, as it ignores ours.
#[derive(Deserialize)]
struct Members {
    version: String,
    #[serde(rename = "type")]
    form: String,
    provider: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    key_id: Option<String>,
    #[serde(default)]
    encrypted_key: Option<String>,
    #[serde(default)]
    encrypted_data: Option<String>,
    #[serde(default)]
    wrap_type: Option<String>,
    #[serde(default)]
    iv: Option<String>,
}

fn read(members: Members) -> Result<Payload, SealedSecretError> {
    let unknown = |member, expected, found: &str| {
        Err(SealedSecretError::Member { member, expected, found: short(found) })
    };
    if members.version != VERSION {
        return unknown("version", "\"0.1.0\"", &members.version);
    }
    if members.provider != PROVIDER {
        return unknown(
            "provider",
            "\"kbs\": other key services are not asked by this guest",
            &members.provider,
        );
    }
    match members.form.as_str() {
        "vault" => Ok(Payload::Vault(path("name", members.name)?)),
        "envelope" => {
            let wrap_type = match text("wrap_type", members.wrap_type)?.as_str() {
                "A256GCM" => WrapType::A256Gcm,
                "A256CTR" => WrapType::A256Ctr,
                other => return unknown("wrap_type", "\"A256GCM\" or \"A256CTR\"", other),
            };
            Ok(Payload::Envelope(Envelope::new(
                path("key_id", members.key_id)?,
                &bytes("encrypted_key", members.encrypted_key)?,
                bytes("encrypted_data", members.encrypted_data)?,
                wrap_type,
                bytes("iv", members.iv)?,
            )?))
        }
        other => unknown("type", "\"vault\" or \"envelope\"", other),
    }
}

fn text(member: &'static str, value: Option<String>) -> Result<String, SealedSecretError> {
    value.ok_or(SealedSecretError::Member { member, expected: "a text", found: "nothing".into() })
}

fn path(member: &'static str, value: Option<String>) -> Result<ResourcePath, SealedSecretError> {
    let uri = text(member, value)?.parse::<ResourceUri>();
    Ok(uri.map_err(|why| SealedSecretError::Resource { member, why })?.path().clone())
}

fn bytes(member: &'static str, value: Option<String>) -> Result<Vec<u8>, SealedSecretError> {
    STANDARD.decode(text(member, value)?).map_err(|_| SealedSecretError::Base64(member))
}

/// What somebody sent, as errors quote it.
fn short(text: &str) -> String {
    text.chars().take(32).collect()
}

//! From a secret to a text: what the owner's workstation does.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_core_protocol::jws::SigningKey;
use coffer_core_protocol::uri::ResourcePath;
use coffer_core_secret::{Secret, SecretBytes};
use serde_json::{Map, Value, json};

use crate::envelope::Envelope;
use crate::{KEY_LEN, MAX_TEXT, PREFIX, PROVIDER, SealedSecretError, VERSION};

/// Seals in the name of a key.
pub struct Sealing<'a> {
    signer: &'a SigningKey,
    header: Map<String, Value>,
}

impl<'a> Sealing<'a> {
    /// `signer` signs, on P-256; `key_id` is where guests find its public part.
    pub fn new(signer: &'a SigningKey, key_id: &ResourcePath) -> Result<Self, SealedSecretError> {
        match signer.verifying_key().algorithm() {
            "ES256" => {
                let header = Map::from_iter([("kid".to_owned(), key_id.to_uri().into())]);
                Ok(Self { signer, header })
            }
            other => Err(SealedSecretError::SignerKey(format!("it is for {other}"))),
        }
    }

    /// Names a resource of the broker, whose value is the secret.
    pub fn vault(&self, name: &ResourcePath) -> Result<String, SealedSecretError> {
        self.sign(&json!({
            "version": VERSION,
            "type": "vault",
            "provider": PROVIDER,
            "name": name.to_uri(),
            "provider_settings": {},
            "annotations": {},
        }))
    }

    /// Encrypts a value under a key which the broker has at `key_path`.
    pub fn envelope(
        &self,
        value: &SecretBytes,
        key: &Secret<[u8; KEY_LEN]>,
        key_path: &ResourcePath,
    ) -> Result<String, SealedSecretError> {
        let sealed = Envelope::seal(key_path, key, value)?;
        self.sign(&json!({
            "version": VERSION,
            "type": "envelope",
            "provider": PROVIDER,
            "key_id": sealed.key.to_uri(),
            "encrypted_key": STANDARD.encode(sealed.wrapped),
            "encrypted_data": STANDARD.encode(&sealed.value),
            "wrap_type": sealed.wrap_type.name(),
            "iv": STANDARD.encode(&sealed.iv),
            "provider_settings": {},
            "annotations": {},
        }))
    }

    fn sign(&self, payload: &Value) -> Result<String, SealedSecretError> {
        let payload = serde_json::to_vec(payload).map_err(SealedSecretError::Payload)?;
        let text = format!("{PREFIX}{}", self.signer.sign_compact(&self.header, &payload)?);
        match text.len() <= MAX_TEXT {
            true => Ok(text),
            false => Err(SealedSecretError::TooLarge { found: text.len() }),
        }
    }
}

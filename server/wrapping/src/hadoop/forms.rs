//! Hadoop's answers: JSON with the names of its fields, and errors that its client turns back into exceptions.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use super::call::{ATTRIBUTE_DELETION, ATTRIBUTE_PLAINTEXT, IV};
use crate::text::{SecretText, answer};
use crate::{Answer, Deletion, KeyName, PlaintextOverTls, WrapError, Wrapped, WrappingKey};

/// What Hadoop's clients encrypt files with.
pub(super) const CIPHER: &str = "AES/CTR/NoPadding";

/// A version of a key, or a decrypted key. Without material, where Hadoop's server leaves it out too.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeyVersion {
    name: String,
    version_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    material: Option<SecretText>,
}

impl KeyVersion {
    pub(super) fn of(name: &KeyName, version: u32) -> Self {
        Self { name: name.to_string(), version_name: version_name(name, version), material: None }
    }

    pub(super) fn decrypted(name: &KeyName, material: SecretText) -> Self {
        Self { name: name.to_string(), version_name: "EK".into(), material: Some(material) }
    }
}

/// An encrypted key.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EncryptedKey {
    version_name: String,
    iv: String,
    encrypted_key_version: EncryptedMaterial,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EncryptedMaterial {
    name: String,
    version_name: &'static str,
    material: String,
}

impl EncryptedKey {
    pub(super) fn of(name: &KeyName, iv: &[u8; IV], wrapped: &Wrapped) -> Self {
        Self {
            version_name: version_name(name, wrapped.version),
            iv: URL_SAFE_NO_PAD.encode(iv),
            encrypted_key_version: EncryptedMaterial {
                name: name.to_string(),
                version_name: "EEK",
                material: URL_SAFE_NO_PAD.encode(&wrapped.sealed),
            },
        }
    }
}

/// What is said of a key; of no key, an empty object.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Metadata {
    None {},
    Some {
        name: String,
        cipher: &'static str,
        length: u32,
        description: Option<String>,
        attributes: BTreeMap<String, String>,
        created: u64,
        versions: u32,
    },
}

impl Metadata {
    pub(super) fn of(key: Option<&WrappingKey>) -> Self {
        let Some(key) = key else { return Self::None {} };
        let options = key.options();
        let mut attributes = options.attributes.clone();
        if options.plaintext_over_tls == PlaintextOverTls::InsecureAllowed {
            attributes.insert(ATTRIBUTE_PLAINTEXT.into(), "true".into());
        }
        if options.deletion == Deletion::Allowed {
            attributes.insert(ATTRIBUTE_DELETION.into(), "true".into());
        }
        Self::Some {
            name: key.name().to_string(),
            cipher: CIPHER,
            length: options.data_key_bits.into(),
            description: Some(options.description.clone()).filter(|text| !text.is_empty()),
            attributes,
            created: key.versions().next().map_or(0, |version| version.created_at.0),
            versions: key.latest(),
        }
    }
}

#[derive(Serialize)]
struct ErrorForm<'a> {
    #[serde(rename = "RemoteException")]
    remote: Remote<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Remote<'a> {
    message: &'a str,
    exception: &'a str,
    java_class_name: &'a str,
}

/// The answer to what was refused or failed.
pub(super) fn refused(error: &WrapError) -> Answer {
    // Its client makes an exception of this class. IOException is tried again at another server, the others are not.
    let class = match error {
        WrapError::Broken { .. } | WrapError::Form(_) => "java.security.GeneralSecurityException",
        _ => match error.status() {
            400 | 413 => "java.lang.IllegalArgumentException",
            403 => "org.apache.hadoop.security.authorize.AuthorizationException",
            _ => "java.io.IOException",
        },
    };
    let exception = class.rsplit('.').next().unwrap_or(class);
    let message = error.to_string();
    let remote = Remote { message: &message, exception, java_class_name: class };
    Answer { code: Some(error.code()), ..answer(error.status(), &ErrorForm { remote }) }
}

fn version_name(name: &KeyName, version: u32) -> String {
    format!("{name}@{}", version.saturating_sub(1))
}

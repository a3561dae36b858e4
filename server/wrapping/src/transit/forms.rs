//! Vault's answers: the envelope around each, and what is in it.

use std::collections::BTreeMap;

use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::call::KEY_TYPE;
use crate::text::{SecretText, answer};
use crate::{Answer, Deletion, Derivation, PlaintextOverTls, VersionState, WrapError, Wrapped, WrappingKey};

#[derive(Serialize)]
struct Envelope<'a, T> {
    request_id: String,
    lease_id: &'static str,
    renewable: bool,
    lease_duration: u32,
    data: &'a T,
    wrap_info: Option<()>,
    warnings: Option<Vec<String>>,
    auth: Option<()>,
    mount_type: &'static str,
}

/// The answer with `data`, and warnings where there are some.
pub(super) fn enveloped<T: Serialize>(
    status: u16,
    mount_type: &'static str,
    data: &T,
    warnings: Vec<String>,
) -> Answer {
    let Ok(request_id) = request_id() else { return refused(&WrapError::NoRandomness) };
    let warnings = Some(warnings).filter(|list| !list.is_empty());
    let envelope = Envelope {
        request_id,
        lease_id: "",
        renewable: false,
        lease_duration: 0,
        data,
        wrap_info: None,
        warnings,
        auth: None,
        mount_type,
    };
    answer(status, &envelope)
}

/// A random UUID (RFC 9562, section 5.4).
fn request_id() -> Result<String, WrapError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| WrapError::NoRandomness)?;
    let number = u128::from_be_bytes(bytes);
    let number = number & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let text = format!("{number:032x}");
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default().to_string();
    Ok([part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-"))
}

#[derive(Serialize)]
struct Errors<'a> {
    errors: &'a [String],
}

/// The answer to what was refused or failed.
pub(super) fn refused(error: &WrapError) -> Answer {
    // Reading what is not there has no message in Vault, and its clients take 404 for an answer.
    let status = match error {
        WrapError::NotFound(_) | WrapError::DeletionRefused(_) => 400,
        other => other.status(),
    };
    errors(status, Some(error.code()), &[error.to_string()])
}

/// The answer to reading or listing what is not there.
pub(super) fn absent() -> Answer {
    errors(404, Some("wrapping.not-found"), &[])
}

pub(super) fn errors(status: u16, code: Option<&'static str>, errors: &[String]) -> Answer {
    Answer { code, ..answer(status, &Errors { errors }) }
}

#[derive(Serialize)]
pub(super) struct Names {
    pub(super) keys: Vec<String>,
}

/// A key's description.
#[derive(Serialize)]
pub(super) struct Description {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    derived: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    kdf: Option<&'static str>,
    deletion_allowed: bool,
    exportable: bool,
    allow_plaintext_backup: bool,
    imported_key: bool,
    supports_encryption: bool,
    supports_decryption: bool,
    supports_derivation: bool,
    supports_signing: bool,
    auto_rotate_period: u32,
    latest_version: u32,
    min_available_version: u32,
    min_decryption_version: u32,
    min_encryption_version: u32,
    /// When each version was made; of destroyed ones nothing is said, as of trimmed ones in Vault.
    keys: BTreeMap<u32, u64>,
    disabled_versions: Vec<u32>,
    insecure_plaintext_over_tls: bool,
}

impl Description {
    pub(super) fn of(key: &WrappingKey) -> Self {
        let options = key.options();
        let derived = options.derivation == Derivation::ByContext;
        let there = |state: VersionState| state != VersionState::Destroyed;
        Self {
            name: key.name().to_string(),
            kind: KEY_TYPE,
            derived,
            kdf: derived.then_some("hmac-sha256"),
            deletion_allowed: options.deletion == Deletion::Allowed,
            exportable: false,
            allow_plaintext_backup: false,
            imported_key: false,
            supports_encryption: true,
            supports_decryption: true,
            supports_derivation: true,
            supports_signing: false,
            auto_rotate_period: 0,
            latest_version: key.latest(),
            min_available_version: 0,
            min_decryption_version: key.min_decryption_version(),
            min_encryption_version: key.min_encryption_version(),
            keys: key
                .versions()
                .filter(|version| there(version.state))
                .map(|version| (version.number, version.created_at.seconds()))
                .collect(),
            disabled_versions: key
                .versions()
                .filter(|version| version.state == VersionState::Disabled)
                .map(|version| version.number)
                .collect(),
            insecure_plaintext_over_tls: options.plaintext_over_tls == PlaintextOverTls::InsecureAllowed,
        }
    }
}

/// One item's result.
#[derive(Default, Serialize)]
pub(super) struct Outcome {
    #[serde(skip_serializing_if = "Option::is_none")]
    ciphertext: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plaintext: Option<SecretText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reference: Option<String>,
}

impl Outcome {
    pub(super) fn wrapped(wrapped: &Wrapped) -> Self {
        let ciphertext = format!("vault:v{}:{}", wrapped.version, STANDARD.encode(&wrapped.sealed));
        Self { ciphertext: Some(ciphertext), key_version: Some(wrapped.version), ..Self::default() }
    }

    pub(super) fn plaintext(plaintext: SecretText) -> Self {
        Self { plaintext: Some(plaintext), ..Self::default() }
    }

    pub(super) fn with_plaintext(self, plaintext: SecretText) -> Self {
        Self { plaintext: Some(plaintext), ..self }
    }

    pub(super) fn error(error: &WrapError) -> Self {
        Self { error: Some(error.to_string()), ..Self::default() }
    }
}

#[derive(Serialize)]
pub(super) struct Batch {
    pub(super) batch_results: Vec<Outcome>,
}

/// What there is to say of a caller. The token itself is not repeated.
#[derive(Serialize)]
pub(super) struct Lookup<'a> {
    pub(super) display_name: &'a str,
    pub(super) policies: &'a [String],
    pub(super) ttl: u64,
    pub(super) renewable: bool,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
}

/// Whether the broker serves, with the fields that clients read. What the broker has not is not there.
#[derive(Serialize)]
pub(super) struct Health {
    pub(super) initialized: bool,
    pub(super) sealed: bool,
    pub(super) standby: bool,
    pub(super) server_time_utc: u64,
    pub(super) version: &'static str,
}

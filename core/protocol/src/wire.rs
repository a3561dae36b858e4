//! The protocol's messages as JSON (KBS protocol 0.4).
//!
//! Members that are not known are ignored, as the protocol asks; bounds are checked before parsing.
//! A TEE and a key stay text and JSON here and become types in the handshake, so that a refusal can name them.

use std::fmt;
use std::str::FromStr;

use coffer_core_digest::Algorithm;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

pub use crate::error::{Cause, ErrorBody};

/// What we say that we speak.
pub const VERSION: Version = Version { major: 0, minor: 4, patch: 0 };
/// The cookie that carries the challenge.
pub const COOKIE: &str = "kbs-session-id";
/// The longest body of an auth request.
pub const MAX_AUTH: usize = 64 << 10;
/// The longest body of an attest request: evidence, event log, init-data and device evidence.
pub const MAX_ATTEST: usize = 8 << 20;
/// The longest reply that a guest reads.
pub const MAX_REPLY: usize = 8 << 20;

/// Our addition to `extra-params`, in both directions: the `alg` of the keys that an attester can make, and of those
/// among them that the broker can encrypt to. Peers that do not know it never see it.
pub const KEY_ALGORITHMS: &str = "coffer-tee-key-algorithms";

/// A protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Major.
    pub major: u16,
    /// Minor.
    pub minor: u16,
    /// Patch.
    pub patch: u16,
}

/// A version that is not spoken here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("protocol version {found:?} is not spoken here; expected 0.1.0 to 0.4.x")]
pub struct VersionError {
    /// What was found.
    pub found: String,
}

impl Version {
    /// Reads a version and refuses what is outside 0.1.0 to 0.4.x.
    pub fn negotiate(text: &str) -> Result<Self, VersionError> {
        match text.parse::<Self>() {
            Ok(version) if version.major == 0 && (1..=4).contains(&version.minor) => Ok(version),
            _ => Err(VersionError { found: text.chars().take(32).collect() }),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let error = || VersionError { found: text.chars().take(32).collect() };
        let number = |part: Option<&str>| {
            let part = part.filter(|part| part.bytes().all(|b| b.is_ascii_digit()))?;
            let plain = part == "0" || !part.starts_with('0');
            part.parse::<u16>().ok().filter(|_| plain)
        };
        let mut parts = text.split('.');
        match (number(parts.next()), number(parts.next()), number(parts.next()), parts.next()) {
            (Some(major), Some(minor), Some(patch), None) => Ok(Self { major, minor, patch }),
            _ => Err(error()),
        }
    }
}

/// `POST /kbs/v0/auth`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthRequest {
    /// The version that the attester speaks.
    pub version: String,
    /// The TEE's name.
    pub tee: String,
    /// `""`, or an object with `supported-hash-algorithms`.
    #[serde(rename = "extra-params", default)]
    pub extra_params: Value,
}

impl AuthRequest {
    /// The hash algorithms that the attester offers, if it offers any.
    pub fn hash_algorithms(&self) -> Option<Vec<&str>> {
        let list = self.extra_params.get("supported-hash-algorithms")?.as_array()?;
        Some(list.iter().filter_map(Value::as_str).collect())
    }

    /// The `alg` of the keys that the attester can make, if it says so.
    pub fn key_algorithms(&self) -> Option<Vec<&str>> {
        names(&self.extra_params)
    }
}

fn names(extra_params: &Value) -> Option<Vec<&str>> {
    let list = extra_params.get(KEY_ALGORITHMS)?.as_array()?;
    Some(list.iter().filter_map(Value::as_str).collect())
}

/// The reply to auth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// What the evidence must answer; base64 of 32 bytes, if the broker is ours.
    pub nonce: String,
    /// `""`, or an object with `selected-hash-algorithm`.
    #[serde(rename = "extra-params", default)]
    pub extra_params: Value,
}

impl Challenge {
    /// A challenge. The hash algorithm is named only when it is not the default.
    pub fn new(nonce: String, hash: Option<Algorithm>) -> Self {
        let extra_params = match hash {
            None => json!(""),
            Some(hash) => json!({"selected-hash-algorithm": hash.name()}),
        };
        Self { nonce, extra_params }
    }

    /// Names the keys that are taken, for an attester that asked.
    #[must_use]
    pub fn with_key_algorithms(mut self, algorithms: &[&str]) -> Self {
        match &mut self.extra_params {
            Value::Object(members) => {
                members.insert(KEY_ALGORITHMS.to_owned(), json!(algorithms));
            }
            other => *other = json!({KEY_ALGORITHMS: algorithms}),
        }
        self
    }

    /// The keys that are taken, if the relying party says so.
    pub fn key_algorithms(&self) -> Option<Vec<&str>> {
        names(&self.extra_params)
    }

    /// The hash algorithm that the relying party selected, if it did.
    pub fn selected_hash(&self) -> Option<&str> {
        self.extra_params.get("selected-hash-algorithm")?.as_str()
    }
}

/// `POST /kbs/v0/attest`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AttestRequest {
    /// What the guest was configured with, or null.
    #[serde(default)]
    pub init_data: Option<InitDataText>,
    /// What the evidence is bound to.
    pub runtime_data: RuntimeData,
    /// The evidence.
    pub tee_evidence: TeeEvidence,
}

/// Init-data as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitDataText {
    /// `toml`.
    pub format: String,
    /// The text that was measured.
    pub body: String,
}

/// What the evidence is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RuntimeData {
    /// The challenge's nonce, as received.
    pub nonce: String,
    /// The attester's key, as JSON: what is hashed is what was sent.
    pub tee_pubkey: Value,
}

/// The evidence of the machine and of its devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeeEvidence {
    /// The TEE's evidence, in its own form.
    pub primary_evidence: Value,
    /// Empty, or the JSON text of a map from device kind to evidence.
    #[serde(default)]
    pub additional_evidence: String,
}

/// The reply to attest. Whoever has the verdict as text writes it as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttestResponse<V = Value> {
    /// The attestation result as a JWT.
    pub token: String,
    /// Our addition: the verdict tree, so that the guest can say why it was trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<V>,
    /// Our addition: the attempt's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<String>,
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_0_1_to_0_4_are_spoken() {
        for text in ["0.1.0", "0.1.1", "0.2.0", "0.3.7", "0.4.0", "0.4.99"] {
            assert_eq!(Version::negotiate(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_versions_are_refused_and_the_range_is_named() {
        for text in [
            "0.0.9",
            "0.5.0",
            "1.0.0",
            "1.4.0",
            "0.4",
            "0.4.0.0",
            "0.4.0-rc1",
            "0.04.0",
            "",
            "v0.4.0",
            "0.4.99999",
        ] {
            let error = Version::negotiate(text).expect_err(text);
            assert!(error.to_string().contains("0.1.0 to 0.4.x"), "{error}");
        }
    }

    #[test]
    fn absent_optional_members_are_read() {
        let auth: AuthRequest = serde_json::from_str(r#"{"version":"0.4.0","tee":"tpm"}"#).unwrap();
        assert_eq!(auth.hash_algorithms(), None);
        let attest: AttestRequest = serde_json::from_str(
            r#"{"runtime-data":{"nonce":"","tee-pubkey":{}},"tee-evidence":{"primary_evidence":1},"more":2}"#,
        )
        .unwrap();
        assert_eq!((attest.init_data, attest.tee_evidence.additional_evidence.as_str()), (None, ""));
    }

    #[test]
    fn a_challenge_names_the_hash_only_when_it_is_not_the_default() {
        let text = |hash| serde_json::to_string(&Challenge::new("bm9uY2U=".into(), hash)).unwrap();
        assert_eq!(text(None), r#"{"nonce":"bm9uY2U=","extra-params":""}"#);
        assert!(text(Some(Algorithm::Sha512)).ends_with(r#"{"selected-hash-algorithm":"sha512"}}"#));
    }
}

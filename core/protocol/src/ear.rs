//! The attestation result that a token carries: EAT attestation results (draft-ietf-rats-ear) in the profile of
//! the KBS protocol, section 3.9.
//!
//! Holds true: reading a token means verifying it with a key that was pinned; time is an argument.
//! Left out: choosing what the claims are, which is `verify/appraisal`.

use std::collections::BTreeMap;

use coffer_core_digest::Digest;
use coffer_core_evidence::Tee;
pub use coffer_core_evidence::ar4si::{Status, TrustVector};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::Code;
use crate::handshake::relying_party::Submission;
use crate::jwk::{JwkError, PublicKey};
use crate::jws::{Compact, JwsError, SigningKey, VerifyingKey};

/// The profile that KBS peers expect.
pub const PROFILE: &str = "tag:github.com,2024:confidential-containers/Trustee";
/// The submodule of the machine itself.
pub const CPU: &str = "cpu0";
/// How long a token is valid, unless it is set otherwise.
pub const LIFETIME_S: u64 = 300;
const CLOCK_SKEW_S: u64 = 60;

/// Why a token is refused.
#[derive(Debug, thiserror::Error)]
pub enum EarError {
    /// No pinned key verifies it.
    #[error("the token is refused: {0}")]
    Signature(#[from] JwsError),
    /// The claims are not those of an attestation result.
    #[error("the token's claims are not an attestation result: {0}")]
    Claims(#[from] serde_json::Error),
    /// Of another profile.
    #[error("the token is of profile {found:?}; expected {PROFILE:?}")]
    Profile {
        /// What was found.
        found: String,
    },
    /// Too old.
    #[error("the token expired {ago_s} s ago")]
    Expired {
        /// How long ago.
        ago_s: u64,
    },
    /// From the future.
    #[error("the token is valid only in {ahead_s} s")]
    NotYetValid {
        /// How long until then.
        ahead_s: u64,
    },
    /// There is no machine or no key in it.
    #[error("the token has no {0}")]
    Missing(&'static str),
    /// The key in it is not one that secrets can be encrypted to.
    #[error("the token's tee-pubkey is refused: {0}")]
    Key(#[from] JwkError),
}

impl EarError {
    /// The code for the wire.
    pub const fn code(&self) -> Code {
        match self {
            Self::Expired { .. } => Code::TokenExpired,
            Self::Key(_) => Code::KeyUnsupported,
            _ => Code::TokenInvalid,
        }
    }
}

/// Who verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifierId {
    /// Who made the verifier.
    pub developer: String,
    /// Its version.
    pub build: String,
}

/// What is said of one part of the attester.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submodule {
    /// The result.
    #[serde(rename = "ear.status")]
    pub status: Status,
    /// The result in detail.
    #[serde(rename = "ear.trustworthiness-vector", default)]
    pub trust: TrustVector,
    /// The policy that appraised.
    #[serde(rename = "ear.appraisal-policy-id", default)]
    pub policy: String,
    /// The claims: those of the TEE under its name, `report_data`, `init_data`, `runtime_data_claims` and
    /// `init_data_claims`.
    #[serde(rename = "ear.veraison.annotated-evidence", default)]
    pub evidence: Map<String, Value>,
    /// Identities that the verifier knows (extension of the profile).
    #[serde(rename = "ear.trustee.identifiers", default, skip_serializing_if = "Option::is_none")]
    pub identifiers: Option<Value>,
}

/// What an appraisal of the machine said.
#[derive(Clone, Debug)]
pub struct Appraisal {
    /// The result.
    pub status: Status,
    /// The result in detail.
    pub trust: TrustVector,
    /// The policy that appraised.
    pub policy: String,
    /// The TEE's claims.
    pub claims: Map<String, Value>,
    /// The digest of the init-data, if there was any.
    pub init_data: Option<Digest>,
    /// The entries of the init-data, if they are to be seen by policies.
    pub init_data_claims: Option<Value>,
}

/// An attestation result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ear {
    /// The profile.
    #[serde(rename = "eat_profile")]
    pub profile: String,
    /// When it was issued, in seconds since 1970.
    pub iat: u64,
    /// Who verified.
    #[serde(rename = "ear.verifier-id")]
    pub verifier: VerifierId,
    /// The parts of the attester: `cpu0`, and later devices.
    pub submods: BTreeMap<String, Submodule>,
    /// When it stops being valid.
    pub exp: u64,
    /// Before when it is not valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// Who issued it.
    pub iss: String,
}

impl Ear {
    /// The result of appraising a submission.
    pub fn new(
        submission: &Submission,
        appraisal: Appraisal,
        issuer: &str,
        verifier: VerifierId,
        now_s: u64,
        lifetime_s: u64,
    ) -> Self {
        let mut evidence = Map::new();
        evidence.insert(submission.tee.name().into(), Value::Object(appraisal.claims));
        evidence.insert("report_data".into(), submission.report_data.digest().hex().into());
        if let Some(digest) = appraisal.init_data {
            evidence.insert("init_data".into(), digest.hex().into());
        }
        evidence.insert("runtime_data_claims".into(), submission.runtime_claims.clone());
        if let Some(claims) = appraisal.init_data_claims {
            evidence.insert("init_data_claims".into(), claims);
        }
        let cpu = Submodule {
            status: appraisal.status,
            trust: appraisal.trust,
            policy: appraisal.policy,
            evidence,
            identifiers: None,
        };
        Self {
            profile: PROFILE.into(),
            iat: now_s,
            verifier,
            submods: BTreeMap::from([(CPU.to_owned(), cpu)]),
            exp: now_s.saturating_add(lifetime_s),
            nbf: None,
            iss: issuer.into(),
        }
    }

    /// Signs it as a JWT.
    pub fn sign(&self, key: &SigningKey) -> Result<String, JwsError> {
        key.sign_jwt(self)
    }

    /// Reads a token that one of the pinned keys signed and that is valid now. The header's `kid`, where there is one,
    /// decides which of them.
    pub fn verify(token: &str, pinned: &[VerifyingKey], now_s: u64) -> Result<Self, EarError> {
        let compact = Compact::parse(token)?;
        Self::read(compact.verify_among(pinned)?, now_s)
    }

    fn read(payload: &[u8], now_s: u64) -> Result<Self, EarError> {
        let ear: Self = serde_json::from_slice(payload)?;
        if ear.profile != PROFILE {
            return Err(EarError::Profile { found: ear.profile.chars().take(64).collect() });
        }
        ear.check_time(now_s).map(|()| ear)
    }

    /// Whether it is valid at a time. [`Ear::verify`] asks this; whoever keeps a result must ask it again.
    pub fn check_time(&self, now_s: u64) -> Result<(), EarError> {
        if now_s >= self.exp {
            return Err(EarError::Expired { ago_s: now_s.saturating_sub(self.exp) });
        }
        let begin = self.iat.max(self.nbf.unwrap_or(0));
        match begin.saturating_sub(now_s) {
            0..=CLOCK_SKEW_S => Ok(()),
            ahead_s => Err(EarError::NotYetValid { ahead_s }),
        }
    }

    /// The submodule of the machine itself.
    pub fn cpu(&self) -> Result<&Submodule, EarError> {
        self.submods.get(CPU).ok_or(EarError::Missing("submods.cpu0"))
    }

    /// The key that secrets are encrypted to.
    pub fn tee_pubkey(&self) -> Result<PublicKey, EarError> {
        let claims = self.cpu()?.evidence.get("runtime_data_claims");
        let key = claims.and_then(|claims| claims.get("tee-pubkey"));
        Ok(PublicKey::from_json(key.ok_or(EarError::Missing("tee-pubkey"))?)?)
    }

    /// The nonce of the challenge that was answered.
    pub fn nonce(&self) -> Option<&str> {
        self.cpu().ok()?.evidence.get("runtime_data_claims")?.get("nonce")?.as_str()
    }

    /// The name of the attempt that this is the result of.
    pub fn attempt(&self) -> Option<String> {
        self.nonce().map(crate::handshake::attempt_id)
    }

    /// The TEE's claims.
    pub fn tee_claims(&self, tee: Tee) -> Option<&Value> {
        self.cpu().ok()?.evidence.get(tee.name())
    }
}

#[cfg(test)]
mod tests;

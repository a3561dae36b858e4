//! The guest's end: offer, answer the challenge with evidence, hold the session.
//!
//! Each state is consumed by the step that leaves it, so that a nonce is answered once and with one key. The key is
//! either there from the beginning, or it is made when the broker has said which kinds it takes.

use coffer_core_digest::Algorithm;
use coffer_core_evidence::{ReportData, Tee};
use coffer_core_secret::SecretBytes;
use serde_json::{Value, json};

use super::{DEFAULT_HASH, HASHES, attempt_id, report_data, runtime_claims};
use crate::jcs::NotCanonical;
use crate::jwe::{Jwe, JweError};
use crate::jwk::{ECDH_ES_A256KW, HYBRID, PublicKey};
use crate::tee_key::{TeeKey, TeeKeyError};
use crate::wire::{
    AttestRequest, AttestResponse, AuthRequest, Challenge, ErrorBody, InitDataText, KEY_ALGORITHMS,
    MAX_REPLY, RuntimeData, TeeEvidence, VERSION,
};

/// Why the guest does not go on.
#[derive(Debug, thiserror::Error)]
pub enum AttesterError {
    /// The broker refused.
    #[error("the broker refused: {0}")]
    Refused(Box<ErrorBody>),
    /// A reply is not what the protocol says.
    #[error("the broker's reply to {step} is not what the protocol says: {why}")]
    Reply {
        /// `auth` or `attest`.
        step: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The broker selected a hash algorithm that was not offered.
    #[error("the broker selected hash algorithm {found:?}; offered were sha256, sha384 and sha512")]
    Hash {
        /// What it selected.
        found: String,
    },
    /// What is to be sent has no JSON form.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// What is to be hashed has no canonical form.
    #[error(transparent)]
    NotCanonical(#[from] NotCanonical),
}

/// The offer is made with a key; a challenge is awaited.
pub struct Attester {
    key: TeeKey,
}

impl Attester {
    /// Offers. The bytes are the body of `POST /kbs/v0/auth`.
    pub fn begin(tee: Tee, key: TeeKey) -> Result<(Self, Vec<u8>), AttesterError> {
        Ok((Self { key }, offer(tee, json!({"supported-hash-algorithms": HASH_NAMES}))?))
    }

    /// Offers every kind of key. The bytes are as those of [`Attester::begin`], with our addition.
    pub fn negotiate(tee: Tee) -> Result<(Negotiating, Vec<u8>), AttesterError> {
        let kinds = [KeyKind::Hybrid, KeyKind::P256].map(KeyKind::algorithm);
        let body = offer(tee, json!({"supported-hash-algorithms": HASH_NAMES, KEY_ALGORITHMS: kinds}))?;
        Ok((Negotiating(()), body))
    }

    /// Takes the reply. The report data is for evidence without devices; with devices ask
    /// [`Challenged::report_data_with`].
    pub fn on_challenge(self, body: &[u8]) -> Result<(Challenged, ReportData), AttesterError> {
        KeyWanted::read(body)?.with_key(self.key)
    }
}

/// The offer is made, without a key yet; a challenge is awaited.
pub struct Negotiating(());

impl Negotiating {
    /// Takes the reply, and says which key to make.
    pub fn on_challenge(self, body: &[u8]) -> Result<KeyWanted, AttesterError> {
        KeyWanted::read(body)
    }
}

/// A kind of key that our attesters make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// P-256, which every broker takes.
    P256,
    /// P-256 and ML-KEM-768.
    Hybrid,
}

impl KeyKind {
    /// The `alg` of its JWK.
    pub const fn algorithm(self) -> &'static str {
        match self {
            Self::P256 => ECDH_ES_A256KW,
            Self::Hybrid => HYBRID,
        }
    }

    /// A new key of this kind.
    pub fn generate(self) -> Result<TeeKey, TeeKeyError> {
        match self {
            Self::P256 => TeeKey::generate(),
            Self::Hybrid => TeeKey::generate_hybrid(),
        }
    }
}

/// The challenge is known; a key is to be made for it.
pub struct KeyWanted {
    challenge: Challenge,
    hash: Algorithm,
}

impl KeyWanted {
    fn read(body: &[u8]) -> Result<Self, AttesterError> {
        let challenge: Challenge = read("auth", body)?;
        let hash = match challenge.selected_hash() {
            None => DEFAULT_HASH,
            Some(name) => name
                .parse()
                .ok()
                .filter(|hash| HASHES.contains(hash))
                .ok_or_else(|| AttesterError::Hash { found: name.chars().take(32).collect() })?,
        };
        Ok(Self { challenge, hash })
    }

    /// The best kind that the broker says it takes; the classical one where it says nothing.
    pub fn kind(&self) -> KeyKind {
        let taken = self.challenge.key_algorithms().unwrap_or_default();
        if taken.contains(&HYBRID) { KeyKind::Hybrid } else { KeyKind::P256 }
    }

    /// Goes on with a key. The report data is as that of [`Attester::on_challenge`].
    pub fn with_key(self, key: TeeKey) -> Result<(Challenged, ReportData), AttesterError> {
        let tee_pubkey = serde_json::to_value(key.public())?;
        let runtime = RuntimeData { nonce: self.challenge.nonce, tee_pubkey };
        let challenged = Challenged { key, hash: self.hash, runtime };
        let report_data = challenged.report_data_with("")?;
        Ok((challenged, report_data))
    }
}

/// What every attester offers to hash with.
const HASH_NAMES: [&str; 3] = ["sha256", "sha384", "sha512"];

fn offer(tee: Tee, extra_params: Value) -> Result<Vec<u8>, AttesterError> {
    let request = AuthRequest { version: VERSION.to_string(), tee: tee.name().to_owned(), extra_params };
    Ok(serde_json::to_vec(&request)?)
}

/// The challenge is known; evidence is to be collected.
pub struct Challenged {
    key: TeeKey,
    hash: Algorithm,
    runtime: RuntimeData,
}

impl Challenged {
    /// What the TEE's evidence must be bound to, given the device evidence that will be sent with it.
    pub fn report_data_with(&self, additional: &str) -> Result<ReportData, AttesterError> {
        Ok(report_data(self.hash, &runtime_claims(&self.runtime, Some(additional)))?)
    }

    /// What the devices' evidence must be bound to.
    pub fn device_report_data(&self) -> Result<ReportData, AttesterError> {
        Ok(report_data(self.hash, &runtime_claims(&self.runtime, None))?)
    }

    /// The attempt's name, as the broker logs it.
    pub fn attempt(&self) -> String {
        attempt_id(&self.runtime.nonce)
    }

    /// Answers. The bytes are the body of `POST /kbs/v0/attest`; send the cookie of auth with it.
    pub fn evidence(
        self,
        primary: Value,
        additional: &str,
        init_data: Option<&str>,
    ) -> Result<(Attesting, Vec<u8>), AttesterError> {
        let attempt = self.attempt();
        let request = AttestRequest {
            init_data: init_data.map(|body| InitDataText { format: "toml".into(), body: body.into() }),
            runtime_data: self.runtime,
            tee_evidence: TeeEvidence { primary_evidence: primary, additional_evidence: additional.into() },
        };
        Ok((Attesting { key: self.key, attempt }, serde_json::to_vec(&request)?))
    }
}

/// The evidence is sent; the result is awaited.
pub struct Attesting {
    key: TeeKey,
    attempt: String,
}

impl Attesting {
    /// The attempt's name, as the broker logs it.
    pub fn attempt(&self) -> &str {
        &self.attempt
    }

    /// Takes the reply, whatever its status was.
    pub fn on_response(self, body: &[u8]) -> Result<Session, AttesterError> {
        let response: AttestResponse = read("attest", body)?;
        Ok(Session { key: self.key, attempt: self.attempt, token: response.token, verdict: response.verdict })
    }
}

/// Attested: a token, and the key that opens what is released for it.
pub struct Session {
    key: TeeKey,
    attempt: String,
    token: String,
    verdict: Option<Value>,
}

impl Session {
    /// The token, for `Authorization: Bearer`.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The verdict tree, if the broker sent it.
    pub fn verdict(&self) -> Option<&Value> {
        self.verdict.as_ref()
    }

    /// The attempt's name, as the broker logs it.
    pub fn attempt(&self) -> &str {
        &self.attempt
    }

    /// The key that the token is bound to.
    pub fn public_key(&self) -> PublicKey {
        self.key.public()
    }

    /// Opens a resource reply.
    pub fn open(&self, jwe: &[u8]) -> Result<SecretBytes, JweError> {
        self.key.open(&Jwe::from_json(jwe)?)
    }
}

fn read<T: serde::de::DeserializeOwned>(step: &'static str, body: &[u8]) -> Result<T, AttesterError> {
    if body.len() > MAX_REPLY {
        return Err(AttesterError::Reply { step, why: format!("it has more than {MAX_REPLY} bytes") });
    }
    if let Ok(refusal) = serde_json::from_slice::<ErrorBody>(body) {
        return Err(AttesterError::Refused(Box::new(refusal)));
    }
    serde_json::from_slice(body).map_err(|error| AttesterError::Reply { step, why: error.to_string() })
}

//! The broker's end: issue a challenge, accept the answer. It keeps nothing between the two.
//!
//! A [`Submission`] exists only if its cookie was sealed by this cluster, is fresh, and its evidence names the
//! cookie's nonce. Whether the evidence is genuine is for `verify/` to say.

use std::collections::BTreeSet;

use coffer_core_digest::Algorithm;
use coffer_core_evidence::{ReportData, Tee};
use coffer_core_secret::NoRandomness;
use serde_json::Value;

pub use super::challenge::{ClusterKey, NONCE_LEN};
use super::challenge::{CookieError, Sealed, attempt_of, tee_from_name};
use super::{DEFAULT_HASH, HASHES, report_data, runtime_claims};
use crate::error::{Code, ErrorBody};
use crate::jcs::NotCanonical;
use crate::jwk::{ECDH_ES_A256KW, HYBRID, JwkError, ML_KEM_768_A192KW, PublicKey, RSA_OAEP_256};
use crate::wire::{AttestRequest, AuthRequest, Challenge, MAX_ATTEST, MAX_AUTH, Version, VersionError};

/// How long a challenge may be answered, unless it is set otherwise.
pub const LIFETIME_S: u64 = 300;
/// How far the clocks of two replicas may differ.
const CLOCK_SKEW_S: u64 = 60;
/// The keys that every broker takes.
const WITHOUT_ML_KEM: &str = "ECDH-ES+ML-KEM-768+A256KW, ECDH-ES+A256KW or RSA-OAEP-256";

/// Why a request of the handshake is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Over the bound.
    #[error("the {step} request has {found} bytes; at most {limit} are read")]
    TooLarge {
        /// `auth` or `attest`.
        step: &'static str,
        /// The bound.
        limit: usize,
        /// The length found.
        found: usize,
    },
    /// Not the JSON of the step.
    #[error("the {step} request is not what the protocol says: {why}")]
    Malformed {
        /// `auth` or `attest`.
        step: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A version that is not spoken.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// A TEE that is not judged here.
    #[error("evidence of TEE {found:?} is not judged here; judged are: {judged}")]
    Tee {
        /// What was asked for.
        found: String,
        /// What there is.
        judged: String,
    },
    /// No common hash algorithm.
    #[error("no common hash algorithm: offered are {offered:?}, known are sha256, sha384 and sha512")]
    Hash {
        /// What was offered.
        offered: Vec<String>,
    },
    /// The key is not one that secrets can be encrypted to.
    #[error("tee-pubkey is refused: {0}")]
    Key(#[from] JwkError),
    /// Init-data in a form other than TOML.
    #[error("init-data has format {found:?}; expected \"toml\"")]
    InitDataFormat {
        /// What was found.
        found: String,
    },
    /// The cookie has not the form of one.
    #[error("the challenge cookie is not one of this protocol")]
    CookieForm,
    /// The cookie is sealed under an unknown key.
    #[error("the challenge was sealed under a key that this cluster does not have, or no longer has")]
    Foreign,
    /// The cookie's tag does not fit.
    #[error("the challenge cookie was changed after it was sealed")]
    Tampered,
    /// The cookie is too old.
    #[error("the challenge is {age_s} s old; it may be answered within {lifetime_s} s")]
    Expired {
        /// Its age.
        age_s: u64,
        /// Its lifetime.
        lifetime_s: u64,
    },
    /// The cookie is from the future.
    #[error("the challenge was issued {ahead_s} s in the future")]
    Future {
        /// By how much.
        ahead_s: u64,
    },
    /// The cookie's TEE is not judged here, but was where it was issued.
    #[error("the challenge was issued for TEE {found}, which is not judged here; judged are: {judged}")]
    ChallengeTee {
        /// The cookie's TEE.
        found: Tee,
        /// What there is.
        judged: String,
    },
    /// The runtime data names another nonce than the cookie.
    #[error("runtime-data.nonce is not the nonce of the challenge in the cookie")]
    Nonce,
    /// What was sent has no canonical form.
    #[error(transparent)]
    NotCanonical(#[from] NotCanonical),
    /// The system gave no random bytes.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// The provider failed with a valid key.
    #[error("sealing the challenge failed")]
    Provider,
}

impl Refusal {
    /// The code for the wire.
    pub const fn code(&self) -> Code {
        match self {
            Self::TooLarge { .. } => Code::TooLarge,
            Self::Malformed { .. } | Self::NotCanonical(_) => Code::Malformed,
            Self::Version(_) => Code::Version,
            Self::Tee { .. } => Code::TeeUnsupported,
            Self::Hash { .. } => Code::HashUnsupported,
            Self::Key(_) => Code::KeyUnsupported,
            Self::InitDataFormat { .. } => Code::InitDataFormat,
            Self::CookieForm => Code::ChallengeMalformed,
            Self::Foreign => Code::ChallengeForeign,
            Self::Tampered => Code::ChallengeTampered,
            Self::Expired { .. } => Code::ChallengeExpired,
            Self::Future { .. } => Code::ChallengeFuture,
            Self::ChallengeTee { .. } => Code::ChallengeTee,
            Self::Nonce => Code::ChallengeNonce,
            Self::Randomness(_) | Self::Provider => Code::Internal,
        }
    }

    /// The body for the wire.
    pub fn body(&self) -> ErrorBody {
        ErrorBody::new(self.code(), self.to_string())
    }
}

impl From<CookieError> for Refusal {
    fn from(error: CookieError) -> Self {
        match error {
            CookieError::Form => Self::CookieForm,
            CookieError::Foreign => Self::Foreign,
            CookieError::Tampered => Self::Tampered,
            CookieError::Randomness(error) => Self::Randomness(error),
            CookieError::Provider => Self::Provider,
        }
    }
}

/// Issues challenges and accepts their answers.
pub struct Challenger {
    current: ClusterKey,
    previous: Option<ClusterKey>,
    tees: BTreeSet<Tee>,
    lifetime_s: u64,
    ml_kem: MlKem,
}

/// Whether keys of ML-KEM alone are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MlKem {
    Refused,
    Taken,
}

/// A challenge as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The value of the cookie `kbs-session-id`.
    pub cookie: String,
    /// The reply's body.
    pub body: Vec<u8>,
    /// The TEE that was announced.
    pub tee: Tee,
    /// The attempt's name, for the log.
    pub attempt: String,
    /// When the cookie is of no more use, in seconds since 1970.
    pub expires_at: u64,
}

/// Evidence that answers a fresh challenge of ours. Not yet judged.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The TEE that was announced at auth.
    pub tee: Tee,
    /// What the TEE's evidence must be bound to.
    pub report_data: ReportData,
    /// What device evidence must be bound to.
    pub device_report_data: ReportData,
    /// The text of the init-data, if it was sent.
    pub init_data: Option<String>,
    /// The key that secrets are encrypted to; none where a relying party only asks for a result.
    pub tee_pubkey: Option<PublicKey>,
    /// The TEE's evidence.
    pub primary: Value,
    /// Empty, or the JSON text of a map from device kind to evidence.
    pub additional: String,
    /// The nonce as it was sent.
    pub nonce: String,
    /// What was hashed: `runtime_data_claims` of the token.
    pub runtime_claims: Value,
    /// The hash algorithm of the report data.
    pub hash: Algorithm,
    attempt: String,
}

impl Submission {
    /// The attempt's name: 32 hexadecimal digits derived from the nonce.
    pub fn id(&self) -> &str {
        &self.attempt
    }

    /// Evidence that a relying party sends to be judged. Whether it is fresh is that party's to know: it made the nonce.
    pub fn of_relying_party(tee: Tee, report_data: ReportData, hash: Algorithm, primary: Value) -> Self {
        Self {
            tee,
            report_data,
            device_report_data: report_data,
            init_data: None,
            tee_pubkey: None,
            primary,
            additional: String::new(),
            nonce: String::new(),
            runtime_claims: Value::Null,
            hash,
            attempt: String::new(),
        }
    }
}

impl Challenger {
    /// A challenger for the TEEs that are judged here.
    pub fn new(current: ClusterKey, tees: impl IntoIterator<Item = Tee>) -> Self {
        let tees = tees.into_iter().collect();
        Self { current, previous: None, tees, lifetime_s: LIFETIME_S, ml_kem: MlKem::Refused }
    }

    /// Accepts answers to challenges that were sealed before the last rotation, too.
    #[must_use]
    pub fn with_previous(mut self, key: ClusterKey) -> Self {
        self.previous = Some(key);
        self
    }

    /// Sets how long a challenge may be answered.
    #[must_use]
    pub fn with_lifetime(mut self, seconds: u64) -> Self {
        self.lifetime_s = seconds;
        self
    }

    /// Takes keys of upstream's ML-KEM form, for a broker whose [`crate::jwe::Sealer`] has KMAC256.
    #[must_use]
    pub fn with_ml_kem(mut self) -> Self {
        self.ml_kem = MlKem::Taken;
        self
    }

    /// Seals from now on under another key, and still accepts what the present one sealed.
    pub fn rotate(&mut self, next: ClusterKey) {
        self.previous = Some(std::mem::replace(&mut self.current, next));
    }

    /// Answers `POST /kbs/v0/auth`. `now_s` is in seconds since 1970.
    pub fn issue(&self, auth_body: &[u8], now_s: u64) -> Result<Issued, Refusal> {
        let announced = self.announced(auth_body)?;
        self.seal(&Sealed::new(announced.tee, announced.hash, now_s)?, &announced.keys)
    }

    /// As [`Challenger::issue`], with a nonce that the caller chose. For reproducing recorded exchanges: a nonce
    /// that somebody could know beforehand proves no freshness.
    pub fn insecure_issue_with_nonce(
        &self,
        auth_body: &[u8],
        nonce: [u8; NONCE_LEN],
        now_s: u64,
    ) -> Result<Issued, Refusal> {
        let Announced { tee, hash, keys } = self.announced(auth_body)?;
        self.seal(&Sealed { tee, hash, issued_at: now_s, nonce }, &keys)
    }

    /// Takes `POST /kbs/v0/attest` with its cookie.
    pub fn accept(&self, cookie: &str, attest_body: &[u8], now_s: u64) -> Result<Submission, Refusal> {
        let sealed = self.open_fresh(cookie, now_s)?;
        let request: AttestRequest = read("attest", attest_body, MAX_ATTEST)?;
        if request.runtime_data.nonce != sealed.nonce_text() {
            return Err(Refusal::Nonce);
        }
        self.submission(&sealed, request)
    }

    /// Whether a cookie could still be answered: all that [`Challenger::accept`] asks of the cookie itself. So
    /// that nothing is read from whoever has none. Gives the attempt's name.
    pub fn check(&self, cookie: &str, now_s: u64) -> Result<String, Refusal> {
        Ok(attempt_of(&self.open_fresh(cookie, now_s)?.nonce))
    }

    fn open_fresh(&self, cookie: &str, now_s: u64) -> Result<Sealed, Refusal> {
        let sealed = self.open(cookie)?;
        let age_s = now_s.saturating_sub(sealed.issued_at);
        if age_s > self.lifetime_s {
            return Err(Refusal::Expired { age_s, lifetime_s: self.lifetime_s });
        }
        let ahead_s = sealed.issued_at.saturating_sub(now_s);
        if ahead_s > CLOCK_SKEW_S {
            return Err(Refusal::Future { ahead_s });
        }
        if !self.tees.contains(&sealed.tee) {
            return Err(Refusal::ChallengeTee { found: sealed.tee, judged: self.judged() });
        }
        Ok(sealed)
    }

    /// The name of the attempt that a cookie of ours belongs to. Says nothing of whether there was evidence, nor
    /// of time: what was recorded under that name, and the token's own end, decide.
    pub fn session(&self, cookie: &str) -> Result<String, Refusal> {
        Ok(attempt_of(&self.open(cookie)?.nonce))
    }

    fn open(&self, cookie: &str) -> Result<Sealed, Refusal> {
        let keys = std::iter::once(&self.current).chain(&self.previous);
        Ok(Sealed::open(cookie, keys)?)
    }

    fn submission(&self, sealed: &Sealed, request: AttestRequest) -> Result<Submission, Refusal> {
        let AttestRequest { init_data, runtime_data, tee_evidence } = request;
        let init_data = match init_data {
            None => None,
            Some(text) if text.format == "toml" => Some(text.body),
            Some(text) => {
                return Err(Refusal::InitDataFormat { found: text.format.chars().take(32).collect() });
            }
        };
        let tee_pubkey = PublicKey::from_json(&runtime_data.tee_pubkey)?;
        if matches!(tee_pubkey, PublicKey::MlKem(_)) && self.ml_kem == MlKem::Refused {
            let found = ML_KEM_768_A192KW.to_owned();
            return Err(JwkError::Algorithm { expected: WITHOUT_ML_KEM, found }.into());
        }
        let runtime_claims_value = runtime_claims(&runtime_data, Some(&tee_evidence.additional_evidence));
        Ok(Submission {
            tee: sealed.tee,
            report_data: report_data(sealed.hash, &runtime_claims_value)?,
            device_report_data: report_data(sealed.hash, &runtime_claims(&runtime_data, None))?,
            init_data,
            tee_pubkey: Some(tee_pubkey),
            primary: tee_evidence.primary_evidence,
            additional: tee_evidence.additional_evidence,
            nonce: runtime_data.nonce,
            runtime_claims: runtime_claims_value,
            hash: sealed.hash,
            attempt: attempt_of(&sealed.nonce),
        })
    }

    fn announced(&self, auth_body: &[u8]) -> Result<Announced, Refusal> {
        let request: AuthRequest = read("auth", auth_body, MAX_AUTH)?;
        Version::negotiate(&request.version)?;
        let tee = tee_from_name(&request.tee).filter(|tee| self.tees.contains(tee));
        let tee = tee.ok_or_else(|| Refusal::Tee {
            found: request.tee.chars().take(32).collect(),
            judged: self.judged(),
        })?;
        let hash = match request.hash_algorithms() {
            None => preferred(tee),
            Some(offered) => {
                let known: Vec<Algorithm> = offered.iter().filter_map(|name| name.parse().ok()).collect();
                let order = std::iter::once(preferred(tee)).chain(HASHES);
                order.into_iter().find(|hash| known.contains(hash)).ok_or_else(|| Refusal::Hash {
                    offered: offered.iter().take(8).map(|name| name.chars().take(16).collect()).collect(),
                })?
            }
        };
        let keys = request.key_algorithms().map(|offered| self.keys_among(&offered));
        Ok(Announced { tee, hash, keys: keys.unwrap_or_default() })
    }

    /// Which of the offered keys are taken, best first.
    fn keys_among(&self, offered: &[&str]) -> Vec<&'static str> {
        let taken = [HYBRID, ECDH_ES_A256KW, RSA_OAEP_256];
        let ml_kem = (self.ml_kem == MlKem::Taken).then_some(ML_KEM_768_A192KW);
        taken.into_iter().chain(ml_kem).filter(|name| offered.contains(name)).collect()
    }

    fn seal(&self, sealed: &Sealed, keys: &[&str]) -> Result<Issued, Refusal> {
        let named = (sealed.hash != DEFAULT_HASH).then_some(sealed.hash);
        let challenge = Challenge::new(sealed.nonce_text(), named);
        let challenge = if keys.is_empty() { challenge } else { challenge.with_key_algorithms(keys) };
        let body = serde_json::to_vec(&challenge).map_err(NotCanonical::from)?;
        Ok(Issued {
            cookie: sealed.seal(&self.current)?,
            body,
            tee: sealed.tee,
            attempt: attempt_of(&sealed.nonce),
            expires_at: sealed.issued_at.saturating_add(self.lifetime_s),
        })
    }

    fn judged(&self) -> String {
        let names: Vec<&str> = self.tees.iter().map(|tee| tee.name()).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }
}

/// What an auth request asks for.
struct Announced {
    tee: Tee,
    hash: Algorithm,
    /// The keys that the reply names; none where the attester did not ask.
    keys: Vec<&'static str>,
}

/// IBM Secure Execution's user data has room for SHA-512, and its peers expect it (KBS protocol, section on SE).
fn preferred(tee: Tee) -> Algorithm {
    match tee {
        Tee::Se => Algorithm::Sha512,
        _ => DEFAULT_HASH,
    }
}

fn read<T: serde::de::DeserializeOwned>(step: &'static str, body: &[u8], limit: usize) -> Result<T, Refusal> {
    if body.len() > limit {
        return Err(Refusal::TooLarge { step, limit, found: body.len() });
    }
    serde_json::from_slice(body).map_err(|error| Refusal::Malformed { step, why: error.to_string() })
}

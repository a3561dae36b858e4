//! Attestation results that others signed: passports, which the broker takes in place of a handshake of its own.
//!
//! INVARIANT: a [`Passport`] exists only after a key that this [`Authority`] trusts verified the signature with an
//! algorithm that it allows, no member is there twice, the token is valid now, and its profile, issuer and audience
//! are those that were asked for. It says which authority and which key spoke, so that a policy can tell.
//! SPEC: KBS protocol 0.4, section 3.9. Left out: fetching key sets, and paths of certificates, which a
//! [`ChainCheck`] of the assembling program verifies.

mod claims;

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_core_digest::Digest;
use serde_json::{Map, Value};

use crate::ear::{CPU, Ear, Submodule, TrustVector, VerifierId};
use crate::error::Code;
use crate::jwk::{JwkError, PublicKey, short};
use crate::jwks::{JwkSet, SignatureAlgorithm, SignatureKey};
use crate::jws::{Compact, JwsError};
use crate::strict;

pub use claims::TEE_KEY_POINTERS;

/// The longest token that is read.
pub const MAX_TOKEN: usize = 256 << 10;
/// The most certificates in a chain, and the longest one.
const MAX_CHAIN: usize = 8;
const MAX_CERTIFICATE: usize = 16 << 10;
/// The most that clocks may be allowed to differ.
const MAX_LEEWAY_S: u64 = 300;

/// Why a passport is refused.
#[derive(Debug, thiserror::Error)]
pub enum PassportError {
    /// Over the bound.
    #[error("the token has {found} bytes; at most {MAX_TOKEN} are read")]
    TooLarge {
        /// The length found.
        found: usize,
    },
    /// The signature's form, algorithm or value is wrong.
    #[error("the token is refused: {0}")]
    Signature(#[from] JwsError),
    /// The algorithm is not among those that this authority signs with.
    #[error("the token is signed with {found:?}; expected one of {expected}")]
    Algorithm {
        /// What the authority signs with.
        expected: String,
        /// What the header says.
        found: String,
    },
    /// The token names a key that is not trusted.
    #[error("the token is signed with key {found:?}, which is not in the key set of {authority:?}")]
    UnknownKey {
        /// Whose keys were looked at.
        authority: String,
        /// The header's `kid`.
        found: String,
    },
    /// The token says nothing of its key that could be trusted.
    #[error(
        "the token's header names no key (kid) that could be looked up, and its own key (jwk) is not taken"
    )]
    NoKey,
    /// There is no chain where one is needed.
    #[error("the key in the token's header has no certificates (x5c), without which it proves nothing")]
    NoChain,
    /// The certificates are not in the form of RFC 7517, section 4.7.
    #[error("the certificates (x5c) in the token's header are not usable: {0}")]
    ChainForm(&'static str),
    /// The certificates lead to nobody who is trusted.
    #[error("the certificates (x5c) of the token's key are refused: {0}")]
    Chain(String),
    /// The chain certifies another key than the one in the header.
    #[error("the first certificate (x5c) is for another key than the one in the token's header")]
    ChainKey,
    /// The claims are not JSON, or a member is there twice.
    #[error("the token's claims are refused: {0}")]
    Claims(serde_json::Error),
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
    /// A claim has another value than the one that was asked for.
    #[error("the token's {claim} is {found:?}; expected {expected:?}")]
    Claim {
        /// The claim.
        claim: &'static str,
        /// What was asked for.
        expected: String,
        /// What was found.
        found: String,
    },
    /// A claim is missing or is of another type.
    #[error("the token has no usable {0}")]
    Missing(&'static str),
    /// The guest's key is at none of the places.
    #[error("the token has no TEE key at any of the places where one is looked for")]
    NoTeeKey,
    /// The places hold different keys.
    #[error("the token has different TEE keys at two of the places where one is looked for")]
    TwoTeeKeys,
    /// The guest's key is not one that secrets can be encrypted to.
    #[error("the token's TEE key is refused: {0}")]
    TeeKey(#[from] JwkError),
}

impl PassportError {
    /// The code for the wire.
    pub const fn code(&self) -> Code {
        match self {
            Self::Expired { .. } => Code::TokenExpired,
            Self::TeeKey(_) => Code::KeyUnsupported,
            Self::TooLarge { .. } => Code::TooLarge,
            _ => Code::TokenInvalid,
        }
    }
}

/// Verifies paths of certificates. The assembling program has one, over the authority's trusted certificates.
pub trait ChainCheck: Send + Sync {
    /// The public key of the first certificate as `SubjectPublicKeyInfo` in DER, if a path leads from it to a trusted
    /// one at a time in seconds since 1970; otherwise why not.
    fn leaf_key(&self, leaf_first: &[Vec<u8>], now_s: u64) -> Result<Vec<u8>, String>;
}

/// What the key in a token's own header is worth.
#[derive(Clone, Default)]
pub enum HeaderKey {
    /// Nothing: only keys of the set verify.
    #[default]
    Refused,
    /// As much as the certificates that come with it.
    Certified(Arc<dyn ChainCheck>),
    /// Everything: whoever makes a token is believed. For experiments only.
    InsecureBelieved,
}

/// Who signs passports, and what they must say.
#[derive(Clone)]
pub struct Authority {
    /// What policies and the log call it.
    pub name: String,
    /// Its keys, looked up by the token's `kid`.
    pub keys: JwkSet,
    /// What a key in the token's own header is worth.
    pub header_key: HeaderKey,
    /// What it signs with. None of the list, no passport.
    pub algorithms: Vec<SignatureAlgorithm>,
    /// The `eat_profile` that is asked for; nothing is asked where there is none.
    pub profile: Option<String>,
    /// The `iss` that is asked for.
    pub issuer: Option<String>,
    /// The `aud` that is asked for. A token that names several is for each of them.
    pub audience: Option<String>,
    /// How far its clock may differ from ours, at most five minutes.
    pub leeway_s: u64,
    /// JSON pointers to the guest's key, beside those of the protocol.
    pub tee_key_pointers: Vec<String>,
}

/// Who spoke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The authority's name.
    pub authority: String,
    /// The token's `iss`, if it has one.
    pub issuer: Option<String>,
    /// The signing key's thumbprint (RFC 7638).
    pub key: String,
    /// Why that key was believed.
    pub trust: Trust,
}

/// Why a key was believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It is in the authority's key set.
    KeySet,
    /// Certificates lead from it to one that is trusted.
    Chain,
    /// It was in the token, and the authority is configured to believe that.
    InsecureHeader,
}

impl Trust {
    /// The word for policies and the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::KeySet => "key-set",
            Self::Chain => "chain",
            Self::InsecureHeader => "insecure-header",
        }
    }
}

/// A verified attestation result of somebody else's.
#[derive(Clone, Debug)]
pub struct Passport {
    origin: Origin,
    claims: Map<String, Value>,
    tee_pubkey: PublicKey,
    tee_key_json: Value,
    times: claims::Times,
    attempt: String,
}

impl Authority {
    /// Reads a token that this authority signed and that is valid now.
    pub fn verify(&self, token: &str, now_s: u64) -> Result<Passport, PassportError> {
        if token.len() > MAX_TOKEN {
            return Err(PassportError::TooLarge { found: token.len() });
        }
        let compact = Compact::parse(token)?;
        let algorithm = self.algorithm(compact.algorithm())?;
        let (key, trust) = self.verified_by(&compact, algorithm, now_s)?;
        let claims = strict::object(compact.unverified_payload()).map_err(PassportError::Claims)?;
        let times = claims::Times::read(&claims, self.leeway_s.min(MAX_LEEWAY_S))?;
        times.check(now_s)?;
        claims::expect("eat_profile", self.profile.as_deref(), &claims)?;
        claims::expect("iss", self.issuer.as_deref(), &claims)?;
        claims::expect_audience(self.audience.as_deref(), &claims)?;
        let (tee_pubkey, tee_key_json) = claims::tee_key(&claims, &self.tee_key_pointers)?;
        let issuer = claims.get("iss").and_then(Value::as_str).map(str::to_owned);
        let origin = Origin { authority: self.name.clone(), issuer, key: key.thumbprint(), trust };
        // Over what is signed only: an ECDSA signature can be rewritten by anybody (r, n - s), and a token that was
        // counted once must not be another one then.
        let attempt = Digest::sha256(compact.signed().0).hex().chars().take(32).collect();
        Ok(Passport { origin, claims, tee_pubkey, tee_key_json, times, attempt })
    }

    fn algorithm(&self, named: &str) -> Result<SignatureAlgorithm, PassportError> {
        let algorithm = SignatureAlgorithm::from_name(named).filter(|found| self.algorithms.contains(found));
        algorithm.ok_or_else(|| {
            let names: Vec<&str> = self.algorithms.iter().map(|algorithm| algorithm.name()).collect();
            PassportError::Algorithm { expected: names.join(", "), found: short(named) }
        })
    }

    /// The key that verified the signature. A key of the set goes before the token's own.
    fn verified_by(
        &self,
        compact: &Compact,
        algorithm: SignatureAlgorithm,
        now_s: u64,
    ) -> Result<(SignatureKey, Trust), PassportError> {
        let (text, signature) = compact.signed();
        let named = compact.key_id();
        let mut refusal = match named {
            Some(id) => PassportError::UnknownKey {
                authority: short(&self.name),
                found: id.chars().take(64).collect(),
            },
            None => PassportError::NoKey,
        };
        for key in named.into_iter().flat_map(|id| self.keys.named(id)) {
            match key.verify(algorithm, text, signature) {
                Ok(()) => return Ok((key.clone(), Trust::KeySet)),
                Err(error) => refusal = error.into(),
            }
        }
        let Some(jwk) = compact.header().get("jwk") else { return Err(refusal) };
        let trust = match &self.header_key {
            HeaderKey::Refused => return Err(refusal),
            HeaderKey::Certified(_) => Trust::Chain,
            HeaderKey::InsecureBelieved => Trust::InsecureHeader,
        };
        let key = SignatureKey::from_jwk(jwk)?;
        if let HeaderKey::Certified(check) = &self.header_key {
            let chain = chain(compact, jwk)?;
            let leaf = check.leaf_key(&chain, now_s).map_err(PassportError::Chain)?;
            if leaf != key.spki_der()? {
                return Err(PassportError::ChainKey);
            }
        }
        key.verify(algorithm, text, signature)?;
        Ok((key, trust))
    }
}

/// The certificates with the key, or those of the header (RFC 7517, section 4.7; RFC 7515, section 4.1.6): DER in
/// standard base64, the key's own first.
fn chain(compact: &Compact, jwk: &Value) -> Result<Vec<Vec<u8>>, PassportError> {
    let list = jwk.get("x5c").or_else(|| compact.header().get("x5c")).ok_or(PassportError::NoChain)?;
    let list = list.as_array().ok_or(PassportError::ChainForm("expected a list"))?;
    if !(1..=MAX_CHAIN).contains(&list.len()) {
        return Err(PassportError::ChainForm("expected 1 to 8 certificates"));
    }
    let certificate = |value: &Value| {
        let text = value.as_str().ok_or(PassportError::ChainForm("a certificate is no text"))?;
        let der =
            STANDARD.decode(text).map_err(|_| PassportError::ChainForm("a certificate is not base64"))?;
        match der.len() <= MAX_CERTIFICATE {
            true => Ok(der),
            false => Err(PassportError::ChainForm("a certificate has more than 16 KiB")),
        }
    };
    list.iter().map(certificate).collect()
}

impl Passport {
    /// Who spoke.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The claims as they were signed: what a policy that was written for this authority reads.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// The key that secrets are encrypted to.
    pub fn tee_pubkey(&self) -> &PublicKey {
        &self.tee_pubkey
    }

    /// The name under which releases are counted: 32 hexadecimal digits of what was signed.
    pub fn attempt(&self) -> &str {
        &self.attempt
    }

    /// When it stops being valid, leeway included, in seconds since 1970.
    pub fn expires_at(&self) -> u64 {
        self.times.end()
    }

    /// Whether it is valid at a time. [`Authority::verify`] asks this; whoever keeps a passport must ask it again.
    pub fn check_time(&self, now_s: u64) -> Result<(), PassportError> {
        self.times.check(now_s)
    }

    /// The passport in the form of our own results. One of the protocol's profile reads as it was signed; of any other
    /// the claims stand in the machine's evidence under `foreign`, with no status, because nobody here appraised it.
    pub fn to_ear(&self) -> Ear {
        if let Ok(ear) = serde_json::from_value::<Ear>(Value::Object(self.claims.clone()))
            && ear.tee_pubkey().is_ok_and(|key| key == self.tee_pubkey)
        {
            return ear;
        }
        let text =
            |claim: &str| self.claims.get(claim).and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut evidence = Map::new();
        let runtime = Map::from_iter([("tee-pubkey".to_owned(), self.tee_key_json.clone())]);
        evidence.insert("runtime_data_claims".into(), Value::Object(runtime));
        evidence.insert("foreign".into(), Value::Object(self.claims.clone()));
        let cpu = Submodule {
            status: crate::ear::Status::None,
            trust: TrustVector::default(),
            policy: String::new(),
            evidence,
            identifiers: None,
        };
        Ear {
            profile: text("eat_profile"),
            iat: self.times.begin(),
            verifier: VerifierId { developer: self.origin.authority.clone(), build: String::new() },
            submods: [(CPU.to_owned(), cpu)].into(),
            exp: self.times.end(),
            nbf: None,
            iss: text("iss"),
        }
    }
}

#[cfg(test)]
mod tests;

//! Challenges that are kept by the attester, not by us: the cookie is the challenge, sealed under a cluster key.
//!
//! An unauthenticated request leaves no memory behind, and any replica that has the key can take the answer.
//! Cookie: base64url(key id ‖ IV ‖ AES-256-GCM(version ‖ hash ‖ issued at ‖ nonce ‖ TEE)), with the key id as AAD.
//! IVs are random, so a key must be rotated before 2^32 challenges (NIST SP 800-38D, section 8.3).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::Tee;
use coffer_core_secret::{NoRandomness, Secret};

use crate::b64;

/// The number of bytes that evidence must answer.
pub const NONCE_LEN: usize = 32;
const IV_LEN: usize = 12;
const ID_LEN: usize = 4;
const FORM: u8 = 1;
const MAX_COOKIE: usize = 512;

/// The key under which a cluster's replicas seal challenges.
pub struct ClusterKey {
    id: [u8; ID_LEN],
    key: Secret<[u8; 32]>,
}

impl ClusterKey {
    /// Takes a key. Its id is derived from it, so that replicas with the same key agree on it.
    pub fn new(key: Secret<[u8; 32]>) -> Self {
        let mut hasher = coffer_core_digest::Hasher::new(Algorithm::Sha256);
        hasher.update(b"coffer challenge key id");
        hasher.update(key.expose());
        let mut id = [0; ID_LEN];
        for (to, from) in id.iter_mut().zip(hasher.finish().as_bytes()) {
            *to = *from;
        }
        Self { id, key }
    }

    /// Makes a key.
    pub fn generate() -> Result<Self, NoRandomness> {
        Ok(Self::new(Secret::random()?))
    }

    /// The key's bytes, to be stored or given to the other replicas.
    pub fn secret(&self) -> &Secret<[u8; 32]> {
        &self.key
    }

    fn provider(&self) -> Result<LessSafeKey, CookieError> {
        let key = UnboundKey::new(&AES_256_GCM, self.key.expose()).map_err(|_| CookieError::Provider)?;
        Ok(LessSafeKey::new(key))
    }
}

/// What is remembered of a challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) tee: Tee,
    pub(crate) hash: Algorithm,
    pub(crate) issued_at: u64,
    pub(crate) nonce: [u8; NONCE_LEN],
}

/// Why a cookie is none of ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CookieError {
    #[error("the cookie is not in the form of a challenge")]
    Form,
    #[error("the cookie was sealed under a key that this cluster does not have")]
    Foreign,
    #[error("the cookie was changed")]
    Tampered,
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    #[error("the provider refused a valid key")]
    Provider,
}

impl Sealed {
    pub(crate) fn new(tee: Tee, hash: Algorithm, issued_at: u64) -> Result<Self, NoRandomness> {
        Ok(Self { tee, hash, issued_at, nonce: *Secret::<[u8; NONCE_LEN]>::random()?.expose() })
    }

    /// The nonce as it is written in JSON.
    pub(crate) fn nonce_text(&self) -> String {
        b64::std(&self.nonce)
    }

    pub(crate) fn seal(&self, key: &ClusterKey) -> Result<String, CookieError> {
        let iv = *Secret::<[u8; IV_LEN]>::random()?.expose();
        let mut text = vec![FORM, hash_byte(self.hash)];
        text.extend_from_slice(&self.issued_at.to_be_bytes());
        text.extend_from_slice(&self.nonce);
        text.extend_from_slice(self.tee.name().as_bytes());
        key.provider()?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(iv), Aad::from(key.id), &mut text)
            .map_err(|_| CookieError::Provider)?;
        Ok(b64::url(&[&key.id[..], &iv, &text].concat()))
    }

    /// Opens a cookie with the key that it names.
    pub(crate) fn open<'a>(
        cookie: &str,
        mut keys: impl Iterator<Item = &'a ClusterKey>,
    ) -> Result<Self, CookieError> {
        if cookie.len() > MAX_COOKIE {
            return Err(CookieError::Form);
        }
        let bytes = b64::from_url(cookie).map_err(|_| CookieError::Form)?;
        let (id, rest) = bytes.split_first_chunk::<ID_LEN>().ok_or(CookieError::Form)?;
        let (iv, text) = rest.split_first_chunk::<IV_LEN>().ok_or(CookieError::Form)?;
        let key = keys.find(|key| key.id == *id).ok_or(CookieError::Foreign)?;
        let mut text = text.to_vec();
        let plain = key
            .provider()?
            .open_in_place(Nonce::assume_unique_for_key(*iv), Aad::from(*id), &mut text)
            .map_err(|_| CookieError::Tampered)?;
        Self::parse(plain).ok_or(CookieError::Form)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let ([form, hash], rest) = bytes.split_first_chunk::<2>()?;
        let (issued_at, rest) = rest.split_first_chunk::<8>()?;
        let (nonce, tee) = rest.split_first_chunk::<NONCE_LEN>()?;
        if *form != FORM {
            return None;
        }
        let tee = tee_from_name(std::str::from_utf8(tee).ok()?)?;
        Some(Self { tee, hash: hash_from(*hash)?, issued_at: u64::from_be_bytes(*issued_at), nonce: *nonce })
    }
}

/// A TEE by its name on the wire.
pub(crate) fn tee_from_name(name: &str) -> Option<Tee> {
    serde_json::from_value(name.into()).ok()
}

/// The name of an attempt, as the log has it.
pub(crate) fn attempt_of(nonce: &[u8; NONCE_LEN]) -> String {
    Digest::sha256(nonce).hex().chars().take(32).collect()
}

fn hash_byte(hash: Algorithm) -> u8 {
    match hash {
        Algorithm::Sha1 => 0,
        Algorithm::Sha256 => 1,
        Algorithm::Sha384 => 2,
        Algorithm::Sha512 => 3,
        Algorithm::Sm3 => 4,
    }
}

fn hash_from(byte: u8) -> Option<Algorithm> {
    match byte {
        1 => Some(Algorithm::Sha256),
        2 => Some(Algorithm::Sha384),
        3 => Some(Algorithm::Sha512),
        _ => None,
    }
}

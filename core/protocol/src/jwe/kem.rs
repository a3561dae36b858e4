//! Key-encryption keys from an encapsulation: upstream's ML-KEM-768+A192KW and our hybrid.
//!
//! SPEC: KBS protocol 0.4, section 3.5 (with draft-ietf-jose-pqc-kem, key derivation for JOSE) for the one, and
//! `docs/formats/kbs-hybrid.md` for the other, whose key depends on both secrets and on all public values.

use coffer_core_secret::{Secret, SecretBytes};
use zeroize::Zeroizing;

use super::wrapping::Key192;
use super::{JweError, KEY_LEN, concat_kdf};
use crate::jwk::{Curve, EcKey, HYBRID, HybridKey, ML_KEM_768_A192KW, ML_KEM_CIPHERTEXT, MlKemKey, POINT};
use crate::kmac::Kmac256;
use crate::tee_key::{EphemeralKey, HybridPrivate, MlKemPrivate};

/// A ciphertext and the secret in it.
struct Encapsulated {
    ciphertext: Vec<u8>,
    secret: SecretBytes,
}

fn encapsulate(key: &MlKemKey) -> Result<Encapsulated, JweError> {
    let failed = JweError::Provider("the encapsulation");
    let made = key.to_provider().and_then(|key| key.encapsulate().ok());
    let (ciphertext, secret) = made.ok_or(failed)?;
    Ok(Encapsulated {
        ciphertext: ciphertext.as_ref().to_vec(),
        secret: SecretBytes::copy_of(secret.as_ref()),
    })
}

/// Encapsulates to a key: what the header's `ek` is, and the key that wraps.
pub(super) fn to_ml_kem(key: &MlKemKey, kmac: Kmac256) -> Result<(Vec<u8>, Key192), JweError> {
    let Encapsulated { ciphertext, secret } = encapsulate(key)?;
    Ok((ciphertext, ml_kem_kek(&secret, kmac)))
}

/// The key that wraps, from the header's `ek`.
pub(super) fn from_ml_kem(key: &MlKemPrivate, ek: &[u8], kmac: Kmac256) -> Result<Key192, JweError> {
    Ok(ml_kem_kek(&decapsulate(key, ek, ML_KEM_CIPHERTEXT, ek.len())?, kmac))
}

/// As [`to_ml_kem`], to a hybrid key.
pub(super) fn to_hybrid(key: &HybridKey) -> Result<(Vec<u8>, Secret<[u8; KEY_LEN]>), JweError> {
    let ephemeral = EphemeralKey::generate_on(Curve::P256).ok_or(JweError::Provider("the ephemeral key"))?;
    let agreed = ephemeral.agree(&key.point).ok_or(JweError::Provider("the key agreement"))?;
    let Encapsulated { ciphertext, secret } = encapsulate(&key.kem)?;
    let ek = [&ephemeral.public().to_point()[..], &ciphertext].concat();
    let kek = hybrid_kek(&secret, &agreed, &ek, key);
    Ok((ek, kek))
}

/// As [`from_ml_kem`], for a hybrid key.
pub(super) fn from_hybrid(key: &HybridPrivate, ek: &[u8]) -> Result<Secret<[u8; KEY_LEN]>, JweError> {
    let expected = POINT.saturating_add(ML_KEM_CIPHERTEXT);
    let wrong = || JweError::Length { part: "ek", expected, found: ek.len() };
    let (point, ciphertext) = ek.split_at_checked(POINT).ok_or_else(wrong)?;
    let secret = decapsulate(&key.kem, ciphertext, expected, ek.len())?;
    let point = EcKey::from_point(Curve::P256, point).map_err(JweError::EphemeralKey)?;
    let agreed = key.ec.agree(&point).ok_or(JweError::Provider("the key agreement"))?;
    Ok(hybrid_kek(&secret, &agreed, ek, &key.public))
}

fn decapsulate(
    key: &MlKemPrivate,
    ciphertext: &[u8],
    expected: usize,
    found: usize,
) -> Result<SecretBytes, JweError> {
    if ciphertext.len() != ML_KEM_CIPHERTEXT {
        return Err(JweError::Length { part: "ek", expected, found });
    }
    key.decapsulate(ciphertext).ok_or(JweError::Provider("the decapsulation"))
}

/// KMAC256 over the algorithm's name and the length in bits, keyed with the shared secret.
fn ml_kem_kek(secret: &SecretBytes, kmac: Kmac256) -> Key192 {
    let mut context = Vec::with_capacity(32);
    let length = u32::try_from(ML_KEM_768_A192KW.len()).unwrap_or(u32::MAX);
    context.extend_from_slice(&length.to_be_bytes());
    context.extend_from_slice(ML_KEM_768_A192KW.as_bytes());
    context.extend_from_slice(&192_u32.to_be_bytes());
    let mut key = Zeroizing::new([0; 24]);
    kmac(secret.expose(), &context, key.as_mut_slice());
    Secret::new(*key)
}

/// One step of the Concat KDF over both secrets, ML-KEM's first (NIST SP 800-56C, section 2: the approved secret leads,
/// and here both are approved). The sender's public values stand in PartyUInfo, the recipient's in PartyVInfo.
fn hybrid_kek(
    secret: &SecretBytes,
    agreed: &SecretBytes,
    ek: &[u8],
    key: &HybridKey,
) -> Secret<[u8; KEY_LEN]> {
    let both = SecretBytes::new([secret.expose().as_slice(), agreed.expose()].concat());
    concat_kdf(&both, HYBRID, ek, &key.to_bytes(), 256)
}

#[cfg(test)]
mod tests;

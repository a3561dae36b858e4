//! The content key under a key of the recipient's: AES key wrap (RFC 3394) and RSA.
//!
//! The provider has the wrap with 128 and 256 bits. The one with 192, which upstream's ML-KEM form asks for, is
//! composed here of the provider's AES.

use aws_lc_rs::cipher::{AES_192, DecryptingKey, DecryptionContext, EncryptingKey, UnboundCipherKey};
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap};
use aws_lc_rs::rsa::{
    OAEP_SHA256_MGF1SHA256, OaepAlgorithm, OaepPrivateDecryptingKey, OaepPublicEncryptingKey,
    PublicEncryptingKey,
};
use coffer_core_secret::Secret;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{JweError, KEY_LEN, exact};
use crate::jwk::RsaKey;

/// A wrapped content key: eight bytes longer than the key.
const WRAPPED_LEN: usize = 40;
/// RFC 3394, section 2.2.3.1.
const CHECK: [u8; 8] = [0xa6; 8];
/// A content key's 64-bit words.
const WORDS: u64 = 4;

/// The key of the wrap with 192 bits.
pub(crate) type Key192 = Secret<[u8; 24]>;

pub(super) fn wrap(kek: &Secret<[u8; KEY_LEN]>, cek: &Secret<[u8; KEY_LEN]>) -> Result<Vec<u8>, JweError> {
    let failed = |_| JweError::Provider("the key wrapping");
    let mut wrapped = vec![0; WRAPPED_LEN];
    AesKek::new(&AES_256, kek.expose()).map_err(failed)?.wrap(cek.expose(), &mut wrapped).map_err(failed)?;
    Ok(wrapped)
}

pub(super) fn unwrap(kek: &Secret<[u8; KEY_LEN]>, wrapped: &[u8]) -> Result<Secret<[u8; KEY_LEN]>, JweError> {
    let wrapped = exact::<WRAPPED_LEN>("encrypted_key", wrapped)?;
    let mut room = Zeroizing::new([0; KEY_LEN]);
    let kek = AesKek::new(&AES_256, kek.expose()).map_err(|_| JweError::Provider("the key unwrapping"))?;
    let key = kek.unwrap(&wrapped, room.as_mut_slice()).map_err(|_| JweError::Unwrap)?;
    Ok(Secret::new(exact::<KEY_LEN>("content key", key)?))
}

pub(super) fn wrap_rsa(key: &RsaKey, cek: &Secret<[u8; KEY_LEN]>) -> Result<Vec<u8>, JweError> {
    let provider = key.to_provider().map_err(|_| JweError::Provider("the RSA key"))?;
    wrap_oaep(provider, &OAEP_SHA256_MGF1SHA256, cek)
}

pub(super) fn wrap_oaep(
    key: PublicEncryptingKey,
    padding: &'static OaepAlgorithm,
    cek: &Secret<[u8; KEY_LEN]>,
) -> Result<Vec<u8>, JweError> {
    let failed = |_| JweError::Provider("the RSA encryption");
    let key = OaepPublicEncryptingKey::new(key).map_err(failed)?;
    let mut wrapped = vec![0; key.ciphertext_size()];
    key.encrypt(padding, cek.expose(), &mut wrapped, None).map_err(failed)?;
    Ok(wrapped)
}

/// The content key out of what was wrapped for an RSA key.
pub(super) fn unwrap_oaep(
    key: &OaepPrivateDecryptingKey,
    padding: &'static OaepAlgorithm,
    wrapped: &[u8],
) -> Result<Secret<[u8; KEY_LEN]>, JweError> {
    let mut room = Zeroizing::new(vec![0; key.min_output_size()]);
    let opened = key.decrypt(padding, wrapped, &mut room, None).map_err(|_| JweError::Unwrap)?;
    Ok(Secret::new(exact::<KEY_LEN>("content key", opened)?))
}

/// RFC 3394, section 2.2.1, with a key of 192 bits.
pub(super) fn wrap_192(kek: &Key192, cek: &Secret<[u8; KEY_LEN]>) -> Result<Vec<u8>, JweError> {
    let failed = |_| JweError::Provider("the key wrapping with 192 bits");
    let aes = UnboundCipherKey::new(&AES_192, kek.expose()).and_then(EncryptingKey::ecb).map_err(failed)?;
    let mut state = Zeroizing::new([0; WRAPPED_LEN]);
    let (check, words) = state.split_at_mut(CHECK.len());
    check.copy_from_slice(&CHECK);
    words.copy_from_slice(cek.expose());
    for round in 0..6_u64 {
        for (word, number) in words.chunks_exact_mut(8).zip(1..=WORDS) {
            let mut block = Zeroizing::new([0; 16]);
            let (left, right) = block.split_at_mut(8);
            left.copy_from_slice(check);
            right.copy_from_slice(word);
            aes.encrypt(block.as_mut_slice()).map_err(failed)?;
            let (left, right) = block.split_at(8);
            check.copy_from_slice(left);
            count(check, round, number);
            word.copy_from_slice(right);
        }
    }
    Ok(state.to_vec())
}

/// RFC 3394, section 2.2.2, with a key of 192 bits.
pub(super) fn unwrap_192(kek: &Key192, wrapped: &[u8]) -> Result<Secret<[u8; KEY_LEN]>, JweError> {
    let failed = |_| JweError::Provider("the key unwrapping with 192 bits");
    let aes = UnboundCipherKey::new(&AES_192, kek.expose()).and_then(DecryptingKey::ecb).map_err(failed)?;
    let mut state = Zeroizing::new(exact::<WRAPPED_LEN>("encrypted_key", wrapped)?);
    let (check, words) = state.split_at_mut(CHECK.len());
    for round in (0..6_u64).rev() {
        for (word, number) in words.chunks_exact_mut(8).rev().zip((1..=WORDS).rev()) {
            count(check, round, number);
            let mut block = Zeroizing::new([0; 16]);
            let (left, right) = block.split_at_mut(8);
            left.copy_from_slice(check);
            right.copy_from_slice(word);
            aes.decrypt(block.as_mut_slice(), DecryptionContext::None).map_err(failed)?;
            let (left, right) = block.split_at(8);
            check.copy_from_slice(left);
            word.copy_from_slice(right);
        }
    }
    match bool::from(check.as_ref().ct_eq(&CHECK)) {
        true => Ok(Secret::new(exact::<KEY_LEN>("content key", words)?)),
        false => Err(JweError::Unwrap),
    }
}

/// Adds the step's number, `t` of the specification, to the check value.
fn count(check: &mut [u8], round: u64, number: u64) {
    let step = round.saturating_mul(WORDS).saturating_add(number);
    for (byte, of_step) in check.iter_mut().zip(step.to_be_bytes()) {
        *byte ^= of_step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with another implementation of RFC 3394.
    #[test]
    fn the_wrap_with_192_bits_gives_the_known_answer_and_takes_it_back() {
        let kek = Secret::new(std::array::from_fn(|at| at as u8));
        let cek = Secret::new(std::array::from_fn(|at| 0xff - at as u8));
        let wrapped = wrap_192(&kek, &cek).unwrap();
        assert_eq!(hex::encode(&wrapped), KNOWN);
        assert!(unwrap_192(&kek, &wrapped).unwrap().equals(cek.expose()));
    }

    const KNOWN: &str = "dd92137dfded4baae47b7d8d0208cf4525c9593d7d622fc707ae71a3cd0b406c685923fe42261fd1";

    #[test]
    fn a_wrap_changed_in_any_byte_is_refused() {
        let kek = Secret::new([7; 24]);
        let wrapped = wrap_192(&kek, &Secret::new([9; KEY_LEN])).unwrap();
        for at in 0..wrapped.len() {
            let mut changed = wrapped.clone();
            changed[at] ^= 1;
            assert!(matches!(unwrap_192(&kek, &changed), Err(JweError::Unwrap)), "byte {at}");
        }
        assert!(matches!(unwrap_192(&kek, &wrapped[1..]), Err(JweError::Length { .. })));
        assert!(matches!(unwrap_192(&Secret::new([8; 24]), &wrapped), Err(JweError::Unwrap)));
    }
}

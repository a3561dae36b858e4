//! Sealing of records: AES-256-GCM under a key derived for each record, with its place as associated data.
//!
//! A sealed record is `1 || salt (16) || nonce (12) || ciphertext || tag (16)`, and the record's key is
//! HMAC-SHA256(data key, label || salt). With salt and nonce both random there is no limit on the number of
//! records that a broker could reach, which random nonces alone under one key would have (2^32, NIST SP 800-38D).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hmac, rand};
use coffer_core_secret::{Secret, SecretBytes};
use zeroize::Zeroizing;

use crate::format1::StoreError;

const FORM: u8 = 1;
const SALT: usize = 16;
const HEADER: usize = 1 + SALT + NONCE_LEN;
const LABEL: &[u8] = b"coffer store record v1";

/// A key that seals records.
pub(crate) struct SealingKey(hmac::Key);

/// The seal does not open: other bytes, another place, or another key.
#[derive(Debug)]
pub(crate) struct Broken;

impl SealingKey {
    pub(crate) fn new(key: &Secret<[u8; 32]>) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.expose()))
    }

    fn record_key(&self, salt: &[u8]) -> Result<LessSafeKey, Broken> {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(LABEL);
        context.update(salt);
        let tag = context.sign();
        UnboundKey::new(&AES_256_GCM, tag.as_ref()).map(LessSafeKey::new).map_err(|_| Broken)
    }

    /// Seals `value` for its place.
    pub(crate) fn seal(&self, table: &str, name: &str, value: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut header = [0; HEADER];
        rand::fill(&mut header).map_err(|_| StoreError::NoRandomness)?;
        header[0] = FORM;
        let (salt, nonce) = header[1..].split_at(SALT);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| StoreError::NoRandomness)?;
        let key = self.record_key(salt).map_err(|Broken| StoreError::NoRandomness)?;
        let mut sealed = Vec::with_capacity(HEADER + value.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&header);
        sealed.extend_from_slice(value);
        let tag = key
            .seal_in_place_separate_tag(nonce, Aad::from(place(table, name)), &mut sealed[HEADER..])
            .map_err(|_| StoreError::NoRandomness)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Opens what was sealed for this place.
    pub(crate) fn open(&self, table: &str, name: &str, sealed: &[u8]) -> Result<SecretBytes, Broken> {
        let (header, body) = sealed.split_at_checked(HEADER).ok_or(Broken)?;
        let (form, rest) = header.split_first().ok_or(Broken)?;
        if *form != FORM {
            return Err(Broken);
        }
        let (salt, nonce) = rest.split_at(SALT);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Broken)?;
        let mut plain = Zeroizing::new(body.to_vec());
        let opened = self.record_key(salt)?.open_in_place(nonce, Aad::from(place(table, name)), &mut plain);
        let length = opened.map_err(|_| Broken)?.len();
        plain.truncate(length);
        Ok(SecretBytes::new(std::mem::take(&mut *plain)))
    }
}

/// Lengths first, so that no two places have the same bytes.
fn place(table: &str, name: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(table.len() + name.len() + 8);
    bytes.extend_from_slice(&(table.len() as u64).to_be_bytes());
    bytes.extend_from_slice(table.as_bytes());
    bytes.extend_from_slice(name.as_bytes());
    bytes
}

//! Sealing of records: AES-256-GCM under a derived key, with the record's place as associated data.
//!
//! A sealed record is `2 || epoch (4, big-endian) || salt (16) || nonce (12) || ciphertext || tag (16)`. Its key is
//! HMAC-SHA256(data key of that epoch, label || salt). The records that one transaction seals for one tenant share a
//! salt, and their nonces count up from a random one: within a salt none repeats, and salts are random, so there is no
//! limit on the number of records that a broker could reach (random nonces alone under one key would have 2^32, NIST
//! SP 800-38D). Epoch 0 is the cluster's own data key, which seals the tenants' keys and what belongs to no epoch.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hmac, rand};
use coffer_core_secret::{Secret, SecretBytes};
use zeroize::Zeroizing;

use crate::StoreError;

const FORM: u8 = 2;
const SALT: usize = 16;
const TAG: usize = 16;
/// What stands before the ciphertext.
pub(crate) const HEADER: usize = 1 + 4 + SALT + NONCE_LEN;
const LABEL: &[u8] = b"coffer store record v2";

/// A data key.
pub(crate) struct SealingKey(hmac::Key);

/// The seal does not open: other bytes, another place, or another key.
#[derive(Debug)]
pub(crate) struct Broken;

/// The epoch of the key that a record was sealed with; any record of this form says it in plain.
pub(crate) fn epoch_of(sealed: &[u8]) -> Result<u32, Broken> {
    match sealed {
        [FORM, a, b, c, d, ..] => Ok(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => Err(Broken),
    }
}

impl SealingKey {
    pub(crate) fn new(key: &Secret<[u8; 32]>) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.expose()))
    }

    /// A key for another purpose than records.
    pub(crate) fn derive(&self, label: &[u8]) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&self.0, label).as_ref())
    }

    fn record_key(&self, salt: &[u8]) -> Result<LessSafeKey, Broken> {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(LABEL);
        context.update(salt);
        let tag = context.sign();
        UnboundKey::new(&AES_256_GCM, tag.as_ref()).map(LessSafeKey::new).map_err(|_| Broken)
    }

    /// Seals one value for its place.
    pub(crate) fn seal(
        &self,
        epoch: u32,
        table: &str,
        key: &str,
        value: &[u8],
    ) -> Result<Vec<u8>, StoreError> {
        Sealer::new(self, epoch)?.seal(table, key, value)
    }

    /// Opens what was sealed for this place.
    pub(crate) fn open(&self, table: &str, key: &str, sealed: &[u8]) -> Result<SecretBytes, Broken> {
        epoch_of(sealed)?;
        let (header, body) = sealed.split_at_checked(HEADER).ok_or(Broken)?;
        let (body, tag) = body.split_at_checked(body.len().checked_sub(TAG).ok_or(Broken)?).ok_or(Broken)?;
        let salt = header.get(5..5 + SALT).ok_or(Broken)?;
        let nonce = header.get(5 + SALT..).ok_or(Broken)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Broken)?;
        let mut plain = Zeroizing::new(vec![0; body.len()]);
        let context = Aad::from(place(header, table, key)?);
        let opened = self.record_key(salt)?.open_separate_gather(nonce, context, body, tag, &mut plain);
        opened.map_err(|_| Broken)?;
        Ok(SecretBytes::new(std::mem::take(&mut *plain)))
    }
}

/// Seals the records that one transaction writes for one tenant.
pub(crate) struct Sealer {
    epoch: u32,
    salt: [u8; SALT],
    key: LessSafeKey,
    /// The next record's nonce, as a number of 96 bits.
    nonce: u128,
}

impl Sealer {
    pub(crate) fn new(key: &SealingKey, epoch: u32) -> Result<Self, StoreError> {
        let (mut salt, mut start) = ([0; SALT], [0; 16]);
        rand::fill(&mut salt).map_err(|_| StoreError::NoRandomness)?;
        rand::fill(&mut start).map_err(|_| StoreError::NoRandomness)?;
        let key = key.record_key(&salt).map_err(|Broken| StoreError::NoRandomness)?;
        Ok(Self { epoch, salt, key, nonce: u128::from_be_bytes(start) })
    }

    pub(crate) fn seal(&mut self, table: &str, key: &str, value: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.nonce = self.nonce.wrapping_add(1);
        let counted = self.nonce.to_be_bytes();
        let mut nonce = [0; NONCE_LEN];
        // The low 96 bits: they repeat after 2^96 records.
        nonce.copy_from_slice(counted.split_at(counted.len() - NONCE_LEN).1);
        let mut sealed = Vec::with_capacity(HEADER + value.len() + TAG);
        sealed.push(FORM);
        sealed.extend_from_slice(&self.epoch.to_be_bytes());
        sealed.extend_from_slice(&self.salt);
        sealed.extend_from_slice(&nonce);
        let context = Aad::from(place(&sealed, table, key).map_err(|Broken| StoreError::NoRandomness)?);
        sealed.extend_from_slice(value);
        let body = sealed.get_mut(HEADER..).unwrap_or_default();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, context, body)
            .map_err(|_| StoreError::NoRandomness)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }
}

/// Form and epoch, then table and key with the table's length first, so that no two places have the same bytes.
fn place(header: &[u8], table: &str, key: &str) -> Result<Vec<u8>, Broken> {
    let mut bytes = Vec::with_capacity(table.len() + key.len() + 13);
    bytes.extend_from_slice(header.get(..5).ok_or(Broken)?);
    bytes.extend_from_slice(&(table.len() as u64).to_be_bytes());
    bytes.extend_from_slice(table.as_bytes());
    bytes.extend_from_slice(key.as_bytes());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_opens_only_at_its_place_with_its_key_and_unchanged() {
        let key = SealingKey::new(&Secret::random().unwrap());
        let sealed = key.seal(7, "resources", "a/b/c", b"value").unwrap();
        assert_eq!(epoch_of(&sealed).unwrap(), 7);
        assert_eq!(key.open("resources", "a/b/c", &sealed).unwrap().expose(), b"value");
        assert!(key.open("resources", "a/b/d", &sealed).is_err());
        assert!(key.open("policies", "a/b/c", &sealed).is_err());
        assert!(key.open("resource", "sa/b/c", &sealed).is_err());
        assert!(SealingKey::new(&Secret::random().unwrap()).open("resources", "a/b/c", &sealed).is_err());
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert!(key.open("resources", "a/b/c", &changed).is_err(), "byte {index}");
            assert!(key.open("resources", "a/b/c", &sealed[..index]).is_err(), "cut at {index}");
        }
    }

    #[test]
    fn the_same_value_never_gives_the_same_bytes() {
        let key = SealingKey::new(&Secret::random().unwrap());
        assert_ne!(key.seal(1, "t", "n", b"v").unwrap(), key.seal(1, "t", "n", b"v").unwrap());
        let mut sealer = Sealer::new(&key, 1).unwrap();
        let sealed: Vec<Vec<u8>> = (0..100).map(|_| sealer.seal("t", "n", b"v").unwrap()).collect();
        let mut nonces: Vec<&[u8]> = sealed.iter().map(|record| &record[5 + SALT..HEADER]).collect();
        nonces.sort_unstable();
        nonces.dedup();
        assert_eq!(nonces.len(), sealed.len(), "a nonce was used twice under one salt");
    }

    #[test]
    fn an_empty_value_is_sealed_too() {
        let key = SealingKey::new(&Secret::random().unwrap());
        let sealed = key.seal(1, "t", "n", b"").unwrap();
        assert_eq!(sealed.len(), HEADER + TAG);
        assert!(key.open("t", "n", &sealed).unwrap().expose().is_empty());
    }
}

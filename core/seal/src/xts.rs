//! AES-256-XTS over 4096-byte sectors (IEEE 1619-2018; NIST SP 800-38E), as dm-crypt does it with
//! `aes-xts-plain64`, `sector_size:4096` and `iv_large_sectors`: the tweak is the sector's index in units of
//! 4096 bytes, little-endian.
//!
//! Sectors are whole multiples of 16 bytes, so there is no ciphertext stealing.

use aws_lc_rs::cipher::{AES_256, DecryptingKey, DecryptionContext, EncryptingKey, UnboundCipherKey};
use coffer_core_secret::Secret;

use crate::BLOCK;

/// The length of an AES-256-XTS key: two AES-256 keys.
pub const KEY: usize = 64;

/// Why bytes are not a key, or a sector could not be worked on.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum XtsError {
    /// Not 64 bytes.
    #[error("an AES-256-XTS key has {KEY} bytes; found {0}")]
    KeyLength(usize),
    /// The halves are equal, which makes XTS weak (SP 800-38E refers to IEEE 1619, which forbids it).
    #[error("the two halves of the AES-256-XTS key are equal; make a new key of {KEY} random bytes")]
    WeakKey,
    /// The data is not whole sectors.
    #[error("the data has {0} bytes; expected whole sectors of {BLOCK}")]
    Sector(usize),
    /// The library refused.
    #[error("the cipher library failed")]
    Library,
}

/// AES-256-XTS with one key.
pub struct Xts {
    encrypt: EncryptingKey,
    decrypt: DecryptingKey,
    tweak: EncryptingKey,
}

impl Xts {
    /// Takes a 64-byte key; the first half encrypts data, the second tweaks.
    pub fn new(key: &Secret<[u8; KEY]>) -> Result<Self, XtsError> {
        let (data, tweak) = key.expose().split_at(KEY / 2);
        if Secret::<[u8; 32]>::new(data.try_into().map_err(|_| XtsError::Library)?).equals(tweak) {
            return Err(XtsError::WeakKey);
        }
        let unbound = |half| UnboundCipherKey::new(&AES_256, half).map_err(|_| XtsError::Library);
        Ok(Self {
            encrypt: EncryptingKey::ecb(unbound(data)?).map_err(|_| XtsError::Library)?,
            decrypt: DecryptingKey::ecb(unbound(data)?).map_err(|_| XtsError::Library)?,
            tweak: EncryptingKey::ecb(unbound(tweak)?).map_err(|_| XtsError::Library)?,
        })
    }

    /// Encrypts whole sectors in place; `first` is the index of the first one.
    pub fn encrypt(&self, first: u64, sectors: &mut [u8]) -> Result<(), XtsError> {
        self.each(first, sectors, |sector| {
            self.encrypt.encrypt(sector).map(|_| ()).map_err(|_| XtsError::Library)
        })
    }

    /// Decrypts whole sectors in place; `first` is the index of the first one.
    pub fn decrypt(&self, first: u64, sectors: &mut [u8]) -> Result<(), XtsError> {
        self.each(first, sectors, |sector| {
            self.decrypt.decrypt(sector, DecryptionContext::None).map(|_| ()).map_err(|_| XtsError::Library)
        })
    }

    fn each(
        &self,
        first: u64,
        sectors: &mut [u8],
        cipher: impl Fn(&mut [u8]) -> Result<(), XtsError>,
    ) -> Result<(), XtsError> {
        if !sectors.len().is_multiple_of(BLOCK) {
            return Err(XtsError::Sector(sectors.len()));
        }
        for (offset, sector) in sectors.chunks_exact_mut(BLOCK).enumerate() {
            let index = first.wrapping_add(offset as u64);
            let mut tweak = u128::from(index).to_le_bytes();
            self.tweak.encrypt(&mut tweak).map_err(|_| XtsError::Library)?;
            mask(sector, tweak);
            cipher(sector)?;
            mask(sector, tweak);
        }
        Ok(())
    }
}

/// Adds the tweak sequence: each next tweak is the one before, times x in GF(2^128) (IEEE 1619-2018, 5.2).
fn mask(sector: &mut [u8], tweak: [u8; 16]) {
    let mut tweak = u128::from_le_bytes(tweak);
    for block in sector.as_chunks_mut::<16>().0 {
        *block = (u128::from_le_bytes(*block) ^ tweak).to_le_bytes();
        let carry = if tweak >> 127 == 1 { 0x87 } else { 0 };
        tweak = (tweak << 1) ^ carry;
    }
}

#[cfg(test)]
mod tests {
    use aes::cipher::KeyInit;

    use super::*;

    fn key() -> Secret<[u8; KEY]> {
        let mut bytes = [0; KEY];
        bytes.iter_mut().zip(1u8..).for_each(|(to, from)| *to = from);
        Secret::new(bytes)
    }

    #[test]
    fn sectors_are_what_an_independent_implementation_makes() {
        let halves = key();
        let other = xts_mode::Xts128::new(
            aes::Aes256::new_from_slice(&halves.expose()[..32]).unwrap(),
            aes::Aes256::new_from_slice(&halves.expose()[32..]).unwrap(),
        );
        let plain: Vec<u8> = (0..3 * BLOCK).map(|i| (i % 251) as u8).collect();
        for first in [0, 1, u64::from(u32::MAX), u64::MAX - 3] {
            let (mut ours, mut theirs) = (plain.clone(), plain.clone());
            let xts = Xts::new(&key()).unwrap();
            xts.encrypt(first, &mut ours).unwrap();
            other.encrypt_area(&mut theirs, BLOCK, u128::from(first), xts_mode::get_tweak_default);
            assert!(ours == theirs, "first sector {first}");
            xts.decrypt(first, &mut ours).unwrap();
            assert!(ours == plain);
        }
    }

    #[test]
    fn key_with_equal_halves_is_refused() {
        assert_eq!(Xts::new(&Secret::new([5; KEY])).err(), Some(XtsError::WeakKey));
    }

    #[test]
    fn part_of_a_sector_is_refused() {
        let xts = Xts::new(&key()).unwrap();
        assert_eq!(xts.encrypt(0, &mut [0; 100]), Err(XtsError::Sector(100)));
    }
}

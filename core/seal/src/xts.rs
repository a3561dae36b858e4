//! AES-256-XTS (IEEE 1619-2018; NIST SP 800-38E) as dm-crypt does it with `aes-xts-plain64`: the tweak is the
//! sector's number, little-endian. What a sector is and in which units it is counted is in [`Sectors`].
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
    #[error("the data has {found} bytes; expected whole sectors of {expected}")]
    Sector {
        /// A sector's bytes.
        expected: usize,
        /// The data's bytes.
        found: usize,
    },
    /// The library refused.
    #[error("the cipher library failed")]
    Library,
}

/// What is encrypted as one piece, and by how much the tweak grows from one piece to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sectors {
    bytes: usize,
    tweaks: u64,
}

impl Sectors {
    /// Sealed blocks: 4096 bytes, counted one by one (dm-crypt's `sector_size:4096 iv_large_sectors`).
    pub const SEALED: Self = Self { bytes: BLOCK, tweaks: 1 };
    /// 512 bytes, counted one by one: dm-crypt's default, and the key slots of LUKS.
    pub const SMALL: Self = Self { bytes: 512, tweaks: 1 };
    /// 4096 bytes, counted in units of 512: dm-crypt's `sector_size:4096` alone, as LUKS2 segments have it.
    pub const LARGE: Self = Self { bytes: BLOCK, tweaks: 8 };
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

    /// Encrypts whole sealed blocks in place; `first` is the index of the first one.
    pub fn encrypt(&self, first: u64, sectors: &mut [u8]) -> Result<(), XtsError> {
        self.encrypt_sectors(Sectors::SEALED, first, sectors)
    }

    /// Decrypts whole sealed blocks in place; `first` is the index of the first one.
    pub fn decrypt(&self, first: u64, sectors: &mut [u8]) -> Result<(), XtsError> {
        self.decrypt_sectors(Sectors::SEALED, first, sectors)
    }

    /// Encrypts whole sectors of a kind in place; `first` is the tweak of the first one.
    pub fn encrypt_sectors(&self, kind: Sectors, first: u64, sectors: &mut [u8]) -> Result<(), XtsError> {
        self.each(kind, first, sectors, |sector| {
            self.encrypt.encrypt(sector).map(|_| ()).map_err(|_| XtsError::Library)
        })
    }

    /// Decrypts whole sectors of a kind in place; `first` is the tweak of the first one.
    pub fn decrypt_sectors(&self, kind: Sectors, first: u64, sectors: &mut [u8]) -> Result<(), XtsError> {
        self.each(kind, first, sectors, |sector| {
            self.decrypt.decrypt(sector, DecryptionContext::None).map(|_| ()).map_err(|_| XtsError::Library)
        })
    }

    fn each(
        &self,
        kind: Sectors,
        first: u64,
        sectors: &mut [u8],
        cipher: impl Fn(&mut [u8]) -> Result<(), XtsError>,
    ) -> Result<(), XtsError> {
        if !sectors.len().is_multiple_of(kind.bytes) {
            return Err(XtsError::Sector { expected: kind.bytes, found: sectors.len() });
        }
        for (offset, sector) in sectors.chunks_exact_mut(kind.bytes).enumerate() {
            let index = first.wrapping_add((offset as u64).wrapping_mul(kind.tweaks));
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
        assert_eq!(xts.encrypt(0, &mut [0; 100]), Err(XtsError::Sector { expected: BLOCK, found: 100 }));
    }

    #[test]
    fn large_sectors_are_counted_in_units_of_512_bytes() {
        let xts = Xts::new(&key()).unwrap();
        let (mut two, mut second) = (vec![7; 2 * BLOCK], vec![7; BLOCK]);
        xts.encrypt_sectors(Sectors::LARGE, 16, &mut two).unwrap();
        xts.encrypt(24, &mut second).unwrap();
        assert_eq!(two.split_off(BLOCK), second);
    }
}

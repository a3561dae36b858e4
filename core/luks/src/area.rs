//! A key slot's area: PBKDF2, the anti-forensic splitter (LUKS1 On-Disk Format 1.2.3, section 2.4) and AES-XTS over
//! sectors of 512 bytes, counted from the area's begin.

use std::num::NonZeroU32;

use aws_lc_rs::{digest, pbkdf2};
use coffer_core_seal::xts::{Sectors, Xts};
use coffer_core_secret::Secret;
use zeroize::Zeroizing;

use crate::{KEY, LuksError};

pub(crate) const STRIPES: usize = 4000;
/// A key's stripes' bytes; for both lengths of keys a multiple of 512.
pub(crate) const fn length(key: usize) -> usize {
    STRIPES.saturating_mul(key)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    pub(crate) fn named(name: &str) -> Result<Self, LuksError> {
        match name {
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            other => Err(LuksError::not_accepted("hash", "sha256 or sha512", other)),
        }
    }

    const fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        }
    }

    const fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }
}

/// PBKDF2 (RFC 8018, 5.2) with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pbkdf2 {
    pub(crate) hash: Hash,
    pub(crate) iterations: u32,
    pub(crate) salt: Vec<u8>,
}

impl Pbkdf2 {
    pub(crate) fn derive(&self, secret: &[u8], out: &mut [u8]) -> Result<(), LuksError> {
        let iterations = NonZeroU32::new(self.iterations).ok_or(LuksError::Library)?;
        pbkdf2::derive(self.hash.pbkdf2(), iterations, &self.salt, secret, out);
        Ok(())
    }

    fn cipher(&self, passphrase: &[u8]) -> Result<Xts, LuksError> {
        let mut key = Zeroizing::new([0; KEY]);
        self.derive(passphrase, key.as_mut_slice())?;
        Xts::new(&Secret::new(*key)).map_err(|_| LuksError::Library)
    }
}

/// Decrypts an area and merges its stripes.
pub(crate) fn open(
    kdf: &Pbkdf2,
    af_hash: Hash,
    passphrase: &[u8],
    key: usize,
    mut area: Zeroizing<Vec<u8>>,
) -> Result<Zeroizing<Vec<u8>>, LuksError> {
    let cipher = kdf.cipher(passphrase)?;
    cipher.decrypt_sectors(Sectors::SMALL, 0, &mut area).map_err(|_| LuksError::Library)?;
    let (mut mixed, last) = mix(af_hash, key, &area);
    mixed.iter_mut().zip(last).for_each(|(to, from)| *to ^= from);
    Ok(mixed)
}

/// Splits a key into an area whose bytes are random but for the last stripe, and encrypts it.
pub(crate) fn close(
    kdf: &Pbkdf2,
    af_hash: Hash,
    passphrase: &[u8],
    key: &[u8],
    mut area: Zeroizing<Vec<u8>>,
) -> Result<Zeroizing<Vec<u8>>, LuksError> {
    let (mixed, _) = mix(af_hash, key.len(), &area);
    let at = area.len().checked_sub(key.len()).ok_or(LuksError::Library)?;
    let last = area.get_mut(at..).ok_or(LuksError::Library)?;
    let both = mixed.iter().zip(key);
    last.iter_mut().zip(both).for_each(|(to, (a, b))| *to = a ^ b);
    let cipher = kdf.cipher(passphrase)?;
    cipher.encrypt_sectors(Sectors::SMALL, 0, &mut area).map_err(|_| LuksError::Library)?;
    Ok(area)
}

/// All stripes but the last, mixed; and the last.
fn mix(hash: Hash, key: usize, area: &[u8]) -> (Zeroizing<Vec<u8>>, &[u8]) {
    let (first, last) = area.split_at_checked(area.len().saturating_sub(key)).unwrap_or_default();
    let mut mixed = Zeroizing::new(vec![0; key]);
    for stripe in first.chunks_exact(key.max(1)) {
        mixed.iter_mut().zip(stripe).for_each(|(to, from)| *to ^= from);
        diffuse(hash, &mut mixed);
    }
    (mixed, last)
}

/// Replaces each hash-sized piece by the hash of its number and itself.
fn diffuse(hash: Hash, block: &mut [u8]) {
    let algorithm = hash.digest();
    for (number, piece) in (0_u32..).zip(block.chunks_mut(algorithm.output_len())) {
        let mut context = digest::Context::new(algorithm);
        context.update(&number.to_be_bytes());
        context.update(piece);
        piece.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    }
}

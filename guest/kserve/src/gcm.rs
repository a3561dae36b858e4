//! AES-256-GCM over what does not fit into memory: once to authenticate, once to decrypt.
//!
//! SPEC: NIST SP 800-38D, sections 6.4, 6.5 and 7.2, with an IV of 96 bits. The provider's AEAD takes whole messages
//! only, so its counter mode is used, and GHASH beside it.

use aws_lc_rs::cipher::{AES_256, DecryptionContext, StreamingDecryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use ghash::GHash;
use ghash::universal_hash::{KeyInit, UniversalHash};
use zeroize::Zeroizing;

use crate::error::JweError;

const BLOCK: usize = 16;
/// SP 800-38D, section 5.2.1.1: 2^39 − 256 bits of plaintext.
const MOST: u64 = (1 << 36) - 32;

/// Decrypts in counter mode, from block `counter` on.
pub(crate) struct Counter {
    key: StreamingDecryptingKey,
}

impl Counter {
    /// `counter` 1 is the tag's block, 2 the first of the message.
    pub(crate) fn new(key: &[u8; 32], iv: &[u8; 12], counter: u32) -> Result<Self, JweError> {
        let mut block = [0; BLOCK];
        for (to, from) in block.iter_mut().zip(iv.iter().chain(&counter.to_be_bytes())) {
            *to = *from;
        }
        Self::from_block(key, block)
    }

    fn from_block(key: &[u8; 32], block: [u8; BLOCK]) -> Result<Self, JweError> {
        let own = UnboundCipherKey::new(&AES_256, key).map_err(|_| JweError::Provider)?;
        let context = DecryptionContext::Iv128(FixedLength::from(block));
        let key = StreamingDecryptingKey::ctr(own, context).map_err(|_| JweError::Provider)?;
        Ok(Self { key })
    }

    /// Decrypts the next bytes into `plain`, which is as long.
    pub(crate) fn next(&mut self, sealed: &[u8], plain: &mut Vec<u8>) -> Result<(), JweError> {
        // The provider wants room for one block more.
        plain.resize(sealed.len().saturating_add(BLOCK), 0);
        let written = self.key.update(sealed, plain).map_err(|_| JweError::Provider)?.written().len();
        plain.truncate(written);
        if written == sealed.len() { Ok(()) } else { Err(JweError::Provider) }
    }
}

/// Computes a tag.
pub(crate) struct Tag {
    hash: GHash,
    /// What does not fill a block.
    rest: Vec<u8>,
    associated: u64,
    length: u64,
    mask: Zeroizing<Vec<u8>>,
}

impl Tag {
    pub(crate) fn new(key: &[u8; 32], iv: &[u8; 12], associated: &[u8]) -> Result<Self, JweError> {
        let (mut subkey, mut mask) = (Zeroizing::new(Vec::new()), Zeroizing::new(Vec::new()));
        Counter::from_block(key, [0; BLOCK])?.next(&[0; BLOCK], &mut subkey)?;
        Counter::new(key, iv, 1)?.next(&[0; BLOCK], &mut mask)?;
        let mut hash = GHash::new_from_slice(&subkey).map_err(|_| JweError::Provider)?;
        hash.update_padded(associated);
        Ok(Self { hash, rest: Vec::new(), associated: associated.len() as u64, length: 0, mask })
    }

    pub(crate) fn update(&mut self, mut sealed: &[u8]) -> Result<(), JweError> {
        self.length = self.length.saturating_add(sealed.len() as u64);
        if self.length > MOST {
            return Err(JweError::TooLong);
        }
        if !self.rest.is_empty() {
            let (head, behind) = sealed.split_at(sealed.len().min(BLOCK - self.rest.len()));
            self.rest.extend_from_slice(head);
            sealed = behind;
            if self.rest.len() < BLOCK {
                return Ok(());
            }
            self.hash.update_padded(&self.rest);
            self.rest.clear();
        }
        let (whole, rest) = sealed.split_at(sealed.len() / BLOCK * BLOCK);
        self.hash.update_padded(whole);
        self.rest.extend_from_slice(rest);
        Ok(())
    }

    /// Compares in constant time.
    pub(crate) fn verify(mut self, tag: &[u8]) -> Result<(), JweError> {
        self.hash.update_padded(&self.rest);
        let bits = [self.associated, self.length].map(|bytes| bytes.saturating_mul(8).to_be_bytes());
        self.hash.update_padded(bits.as_flattened());
        let own: Vec<u8> =
            self.hash.finalize().iter().zip(self.mask.iter()).map(|(one, two)| one ^ two).collect();
        aws_lc_rs::constant_time::verify_slices_are_equal(&own, tag).map_err(|_| JweError::Tag)
    }
}

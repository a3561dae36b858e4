//! Generation records: which copy of a volume this is.
//!
//! Two blocks of 4096 bytes before the data, used in turn so that a torn write leaves the older one. A record is
//! `COFFERGN`, the number (8 bytes, big-endian), the mark (16 random bytes) and an HMAC-SHA-256 over these and the
//! volume's UUID, with a key that HKDF-SHA-256 derives from the volume's. The mark tells apart two copies that
//! counted on from one: the number alone would accept both.

use aws_lc_rs::{hkdf, hmac};
use coffer_core_secret::Secret;

use crate::{KEY, LuksError};

/// The length of a mark.
pub const MARK: usize = 16;
/// The room of both records.
pub const RECORDS: usize = 2 * BLOCK;
const BLOCK: usize = 4096;
const MAGIC: &[u8; 8] = b"COFFERGN";
const SIGNED: usize = 32;
const PURPOSE: &[u8] = b"coffer volume generation v1";

/// A number that only grows, and the mark of who counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Generation {
    /// 0 for a new volume.
    pub number: u64,
    /// Random; zero for a new volume.
    pub mark: [u8; MARK],
}

/// What a volume's records say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The newest.
    pub newest: Generation,
    /// The one before, if it is still there.
    pub before: Option<Generation>,
}

/// Authenticates records of one volume.
pub struct GenerationKey {
    key: hmac::Key,
    uuid: String,
}

impl GenerationKey {
    /// Derives the key from a volume's.
    ///
    /// # Errors
    /// When the library fails.
    pub fn derive(volume: &Secret<[u8; KEY]>, uuid: &str) -> Result<Self, LuksError> {
        let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(volume.expose());
        let mut key = zeroize::Zeroizing::new([0; 32]);
        extracted
            .expand(&[PURPOSE], hkdf::HKDF_SHA256)
            .and_then(|derived| derived.fill(key.as_mut_slice()))
            .map_err(|_| LuksError::Library)?;
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()), uuid: uuid.to_owned() })
    }

    /// The block of a record, and its offset among the records.
    #[must_use]
    pub fn encode(&self, generation: &Generation) -> (u64, Vec<u8>) {
        let mut block = Vec::with_capacity(BLOCK);
        block.extend_from_slice(MAGIC);
        block.extend_from_slice(&generation.number.to_be_bytes());
        block.extend_from_slice(&generation.mark);
        let tag = self.sign(&block);
        block.extend_from_slice(tag.as_ref());
        block.resize(BLOCK, 0);
        let odd = generation.number & 1 == 1;
        (if odd { BLOCK as u64 } else { 0 }, block)
    }

    /// Reads the records' area. Gives nothing when no record is authentic.
    #[must_use]
    pub fn decode(&self, records: &[u8]) -> Option<Record> {
        let mut found: Vec<_> =
            records.chunks(BLOCK).take(2).filter_map(|block| self.verify(block)).collect();
        found.sort_by_key(|generation| generation.number);
        let newest = found.pop()?;
        let before = found.pop().filter(|before| before.number.checked_add(1) == Some(newest.number));
        Some(Record { newest, before })
    }

    fn sign(&self, fields: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(fields);
        context.update(self.uuid.as_bytes());
        context.sign()
    }

    fn verify(&self, block: &[u8]) -> Option<Generation> {
        let (fields, rest) = block.split_at_checked(SIGNED)?;
        let mut signed = fields.to_vec();
        signed.extend_from_slice(self.uuid.as_bytes());
        hmac::verify(&self.key, &signed, rest.get(..32)?).ok()?;
        parse(block)
    }
}

/// The newest generation of a records' area, whoever wrote it: for an owner who says which copy is good. A guest that
/// gets a forged one refuses it all the same.
#[must_use]
pub fn insecure_newest(records: &[u8]) -> Option<Generation> {
    records.chunks(BLOCK).take(2).filter_map(parse).max_by_key(|generation| generation.number)
}

fn parse(block: &[u8]) -> Option<Generation> {
    let fields = block.get(..SIGNED)?.strip_prefix(MAGIC)?;
    let (number, mark) = fields.split_first_chunk::<8>()?;
    Some(Generation { number: u64::from_be_bytes(*number), mark: mark.try_into().ok()? })
}

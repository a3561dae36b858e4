//! dm-verity hash trees, version 1, SHA-256, blocks of 4096 bytes, data and tree on one device, no superblock
//! (Linux `Documentation/admin-guide/device-mapper/verity.rst`).
//!
//! A hash block holds 128 digests and is padded with nothing: 128 × 32 = 4096. A digest is
//! `SHA-256(salt ‖ block)`. Levels are stored from the root down. With one data block there is no tree: its
//! digest is the root.

use std::io::{self, Read, Seek, SeekFrom, Write};

use coffer_core_digest::{Algorithm, Digest, Hasher};

use crate::BLOCK;

const HASH: usize = 32;
const PER_BLOCK: u64 = 128;

/// The digest of one block.
pub fn block_digest(salt: &[u8], block: &[u8]) -> Digest {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    hasher.update(salt);
    hasher.update(block);
    hasher.finish()
}

/// Takes the digests of the data blocks in order and makes the tree above them.
pub struct TreeBuilder {
    salt: [u8; 32],
    leaves: Vec<u8>,
}

impl TreeBuilder {
    /// Begins.
    pub fn new(salt: [u8; 32]) -> Self {
        Self { salt, leaves: Vec::new() }
    }

    /// Takes the next data block.
    pub fn push(&mut self, block: &[u8]) {
        self.leaves.extend_from_slice(block_digest(&self.salt, block).as_bytes());
    }

    /// The data blocks so far.
    pub fn blocks(&self) -> u64 {
        (self.leaves.len() / HASH) as u64
    }

    /// Writes the tree, root level first, and returns the root hash. There must be at least one block.
    pub fn finish(self, out: &mut impl Write) -> io::Result<Digest> {
        let mut levels = Vec::new();
        let mut digests = self.leaves;
        while digests.len() > HASH {
            let mut level = digests;
            level.resize(level.len().next_multiple_of(BLOCK), 0);
            digests = Vec::with_capacity((level.len() / BLOCK).saturating_mul(HASH));
            for block in level.chunks_exact(BLOCK) {
                digests.extend_from_slice(block_digest(&self.salt, block).as_bytes());
            }
            levels.push(level);
        }
        for level in levels.iter().rev() {
            out.write_all(level)?;
        }
        Digest::from_bytes(Algorithm::Sha256, &digests).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, "a hash tree needs at least one data block")
        })
    }
}

/// A block that is not what the tree says.
#[derive(Debug, thiserror::Error)]
pub enum VerityError {
    /// A data block was changed.
    #[error("data block {block} of the image was changed")]
    Data {
        /// The block's index.
        block: u64,
    },
    /// A block of the hash tree was changed.
    #[error("hash block {block} of the image (byte {offset}) was changed")]
    Tree {
        /// The block's index in the tree area.
        block: u64,
        /// The byte at which it begins.
        offset: u64,
    },
    /// There is no such block.
    #[error("there is no data block {block}; the image has {blocks}")]
    Beyond {
        /// The block asked for.
        block: u64,
        /// The blocks that there are.
        blocks: u64,
    },
    /// Reading failed.
    #[error("the image could not be read: {0}")]
    Io(#[from] io::Error),
}

/// Reads data blocks and checks each against the root hash.
pub struct Verifier<R> {
    device: R,
    salt: [u8; 32],
    root: Digest,
    data_blocks: u64,
    /// For each level from the leaves up: the first block of the level within the tree area.
    levels: Vec<u64>,
    /// The hash block read last on each level, already checked, so that sequential reading is cheap.
    cached: Vec<Option<(u64, Box<[u8; BLOCK]>)>>,
}

impl<R: Read + Seek> Verifier<R> {
    /// A device whose tree begins right after `data_blocks` blocks.
    pub fn new(device: R, data_blocks: u64, salt: [u8; 32], root: Digest) -> Self {
        let mut sizes = Vec::new();
        let mut count = data_blocks;
        while count > 1 {
            count = count.div_ceil(PER_BLOCK);
            sizes.push(count);
        }
        let mut levels = Vec::with_capacity(sizes.len());
        for level in 1..=sizes.len() {
            levels.push(sizes.iter().skip(level).fold(0, |sum: u64, size| sum.saturating_add(*size)));
        }
        let cached = sizes.iter().map(|_| None).collect();
        Self { device, salt, root, data_blocks, levels, cached }
    }

    /// Reads a data block and checks it and the path above it.
    pub fn read(&mut self, block: u64) -> Result<[u8; BLOCK], VerityError> {
        if block >= self.data_blocks {
            return Err(VerityError::Beyond { block, blocks: self.data_blocks });
        }
        let data = self.load(block)?;
        let expected = self.expected(block, 0)?;
        if block_digest(&self.salt, &data) == expected { Ok(data) } else { Err(VerityError::Data { block }) }
    }

    /// The digest that the tree has for entry `index` of the level below `level`.
    fn expected(&mut self, index: u64, level: usize) -> Result<Digest, VerityError> {
        let Some(&start) = self.levels.get(level) else {
            return Ok(self.root);
        };
        let number = index / PER_BLOCK;
        let cached = self.cached.get(level).and_then(Option::as_ref).is_some_and(|(have, _)| *have == number);
        if !cached {
            let expected = self.expected(number, level.saturating_add(1))?;
            let block = start.saturating_add(number);
            let at = self.data_blocks.saturating_add(block);
            let bytes = self.load(at)?;
            if block_digest(&self.salt, &bytes) != expected {
                return Err(VerityError::Tree { block, offset: at.saturating_mul(BLOCK as u64) });
            }
            if let Some(slot) = self.cached.get_mut(level) {
                *slot = Some((number, Box::new(bytes)));
            }
        }
        let digest = self
            .cached
            .get(level)
            .and_then(Option::as_ref)
            .and_then(|(_, bytes)| bytes.as_chunks::<HASH>().0.get((index % PER_BLOCK) as usize))
            .and_then(|bytes| Digest::from_bytes(Algorithm::Sha256, bytes).ok());
        digest.ok_or_else(|| VerityError::Io(io::Error::other("hash block is not where it was put")))
    }

    fn load(&mut self, block: u64) -> io::Result<[u8; BLOCK]> {
        let mut bytes = [0; BLOCK];
        self.device.seek(SeekFrom::Start(block.saturating_mul(BLOCK as u64)))?;
        self.device.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
#[path = "verity_tests.rs"]
mod tests;

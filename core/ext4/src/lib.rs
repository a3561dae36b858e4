//! A maker of empty ext4 file systems (Linux, Documentation/filesystems/ext4): pure blocks, no files, no randomness; and
//! a reader of how large one is.
//!
//! INVARIANT: no block that is not written here is relied on; under a volume's encryption it is noise. Left out:
//! reading files, growing, `metadata_csum` and `64bit`.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod inode;
mod layout;
mod superblock;
#[cfg(test)]
mod tests;

use std::io;

use layout::Layout;
pub use superblock::{Extent, extent};

/// A block's length in bytes.
pub const BLOCK: usize = 4096;
/// The least size of a file system.
pub const LEAST_SIZE: u64 = 8 << 20;
/// The largest: block numbers stay well within 32 bits.
pub const MOST_SIZE: u64 = 8 << 40;

/// What a file system is made with.
#[derive(Clone, Debug)]
pub struct Making<'a> {
    /// The device's bytes; what is beyond whole blocks is not used.
    pub size: u64,
    /// Random, version 4.
    pub uuid: [u8; 16],
    /// The seed of directory hashes: random, so that nobody can choose names that collide.
    pub hash_seed: [u8; 16],
    /// At most 16 bytes.
    pub label: &'a str,
    /// Seconds since 1970.
    pub time: u32,
    /// User and group of the root directory.
    pub owner: (u32, u32),
    /// Whether what is written outlasts a machine that is killed.
    pub journal: Journal,
}

/// Whether a file system has a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Journal {
    /// It has: it is whole again after a machine that was killed.
    Kept,
    /// It has none: it is faster, and nobody opens it a second time.
    None,
}

/// Why no file system is made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// Too small or too large.
    #[error("a file system of {found} bytes cannot be made; expected {LEAST_SIZE} to {MOST_SIZE}")]
    Size {
        /// What was asked for.
        found: u64,
    },
    /// The label is too long.
    #[error("the label has {found} bytes; expected at most 16")]
    Label {
        /// Its length.
        found: usize,
    },
    /// Writing a block failed.
    #[error("writing the file system: {0}")]
    Io(#[from] io::Error),
}

/// Makes a file system; `put` takes a block's number and its [`BLOCK`] bytes, each number at most once.
///
/// # Errors
/// When the size is out of bounds, the label is too long or `put` fails.
pub fn make(making: &Making<'_>, put: &mut dyn FnMut(u64, &[u8]) -> io::Result<()>) -> Result<(), MakeError> {
    if !(LEAST_SIZE..=MOST_SIZE).contains(&making.size) {
        return Err(MakeError::Size { found: making.size });
    }
    if making.label.len() > 16 {
        return Err(MakeError::Label { found: making.label.len() });
    }
    let layout = Layout::new(making.size, making.journal);
    let descriptors = layout.descriptors(&making.uuid);
    for group in 0..layout.groups {
        let first = layout.first_block(group);
        if Layout::has_superblock(group) {
            put(u64::from(first), &superblock::encode(making, &layout, group))?;
            for (number, block) in (1..).zip(descriptors.chunks(BLOCK)) {
                let mut whole = block.to_vec();
                whole.resize(BLOCK, 0);
                put(u64::from(first).saturating_add(number), &whole)?;
            }
        }
        put(u64::from(layout.block_bitmap(group)), &layout.used_blocks(group))?;
        if group == 0 {
            put(u64::from(layout.inode_bitmap(group)), &layout.used_inodes())?;
        }
    }
    let table = u64::from(layout.inode_table(0));
    put(table, &inode::table(making, &layout))?;
    put(u64::from(layout.root_block()), &inode::root_directory())?;
    put(u64::from(layout.lost_block()), &inode::lost_directory())?;
    let mut journal = superblock::journal(&layout);
    for number in 0..layout.journal_blocks {
        put(u64::from(layout.journal_block()).saturating_add(u64::from(number)), &journal)?;
        // What a journal's other blocks hold must not look like a transaction.
        journal.fill(0);
    }
    Ok(())
}

/// Writes little-endian fields into a block.
struct Fields(Vec<u8>);

impl Fields {
    fn new(length: usize) -> Self {
        Self(vec![0; length])
    }

    /// Fields that do not fit are a defect of this crate, which `e2fsck` shows in its tests.
    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(field) = self.0.get_mut(at..).and_then(|rest| rest.get_mut(..bytes.len())) {
            field.copy_from_slice(bytes);
        }
    }

    fn u16(&mut self, at: usize, value: u16) {
        self.put(at, &value.to_le_bytes());
    }

    fn u32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }
}

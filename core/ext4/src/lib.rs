//! Makes empty ext4 file systems, block by block.
//!
//! SPEC: Linux `Documentation/filesystems/ext4/` (superblock, group descriptors, bitmaps, inodes, directory entries,
//! journal). Blocks of 4096 bytes; extents, a journal inside, lazily initialised inode tables (`uninit_bg`, whose
//! descriptors carry CRC-16), sparse backups of the superblock. Grows online with the kernel's help. Left out: reading,
//! checksums of metadata, encryption of names, and more than 16 TiB.
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

mod disk;
mod geometry;

use std::io;

use geometry::Geometry;

/// Bytes in a block.
pub const BLOCK: usize = 4096;
/// The smallest file system, in bytes: room for metadata, a journal and some files.
pub const MIN: u64 = 8 << 20;
/// The largest, in bytes.
pub const MAX: u64 = 16 << 40;

/// What is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes. What is not a whole block is left over, and so is a last group that is too small to be one.
    pub size: u64,
    /// The file system's UUID.
    pub uuid: [u8; 16],
    /// Its label; at most 16 bytes.
    pub label: String,
    /// Seconds since 1970 that stand as the time of its making.
    pub time: u32,
    /// Whether changes go through a journal, which what is to outlive its guest needs.
    pub journal: Journal,
}

/// Whether changes go through a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Journal {
    /// They do: after a crash the file system is as it was at some moment.
    Inside,
    /// They do not: for what is thrown away.
    None,
}

/// Why nothing can be made.
#[derive(Debug, thiserror::Error)]
pub enum Ext4Error {
    /// Too small or too large.
    #[error("a file system of {found} bytes cannot be made; expected {MIN} to {MAX}")]
    Size {
        /// The size asked for.
        found: u64,
    },
    /// The label does not fit.
    #[error("the label has {0} bytes; at most 16 fit")]
    Label(usize),
    /// Writing failed.
    #[error("the file system could not be written: {0}")]
    Io(#[from] io::Error),
}

/// Makes a file system: gives `write` every block that it needs, by number. Returns its size in blocks.
///
/// # Errors
/// When it cannot be of that size, or when `write` fails.
pub fn make(
    options: &Options,
    write: &mut dyn FnMut(u64, &[u8; BLOCK]) -> io::Result<()>,
) -> Result<u64, Ext4Error> {
    if !(MIN..=MAX).contains(&options.size) {
        return Err(Ext4Error::Size { found: options.size });
    }
    if options.label.len() > 16 {
        return Err(Ext4Error::Label(options.label.len()));
    }
    let geometry = Geometry::of(options.size, options.journal);
    let mut place = |block: u32, bytes: &[u8; BLOCK]| write(u64::from(block), bytes);
    let descriptors = disk::descriptors(&geometry, &options.uuid);
    for group in (0..geometry.groups).filter(|group| geometry.has_backup(*group)) {
        let first = geometry.first_block(group);
        let superblock = disk::superblock(options, &geometry, group);
        place(first, &disk::within(&superblock, if group == 0 { 1024 } else { 0 }))?;
        for (number, table) in (1_u32..).zip(descriptors.chunks(BLOCK)) {
            place(first.saturating_add(number), &disk::within(table, 0))?;
        }
    }
    place(geometry.block_bitmap(0), &disk::block_bitmap(&geometry, 0))?;
    if let Some(last) = geometry.groups.checked_sub(1).filter(|last| *last > 0) {
        place(geometry.block_bitmap(last), &disk::block_bitmap(&geometry, last))?;
    }
    place(geometry.inode_bitmap(0), &disk::inode_bitmap(&geometry))?;
    let table = disk::inodes(options, &geometry);
    for (number, block) in (0_u32..).zip(table.chunks(BLOCK)) {
        place(geometry.inode_table(0).saturating_add(number), &disk::within(block, 0))?;
    }
    let [root, lost] = disk::directories();
    place(geometry.root_directory(), &root)?;
    place(geometry.lost_and_found(), &lost)?;
    if geometry.journal_blocks > 0 {
        place(geometry.journal(), &disk::journal(options, &geometry))?;
    }
    Ok(u64::from(geometry.blocks))
}

#[cfg(test)]
mod tests;

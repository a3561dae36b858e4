//! A writer of EROFS images: uncompressed, deterministic, in one pass over the output; and a reader of them.
//!
//! SPEC: Linux `fs/erofs/erofs_fs.h` and `Documentation/filesystems/erofs.rst`. Blocks of 4096 bytes, compact
//! and extended inodes, plain files, tails of files packed behind their inode where they fit, inline extended
//! attributes. Mounts with Linux 5.4 and later. Left out: compression (it would undo lazy, page-sharing reads
//! under dm-crypt for little gain on what registries hold), shared xattrs and sub-second times.
//!
//! The same tree and contents give the same bytes: inodes stand in breadth-first order of sorted names.

mod disk;
mod emit;
mod plan;
mod read;

use std::collections::BTreeMap;
use std::io::{self, Write};

use crate::tree::{Contents, Tree};

pub use read::{FileContents, ReadError, read};

/// Whether an image's first bytes have the file system's magic where its superblock is.
#[must_use]
pub fn has_magic(start: &[u8]) -> bool {
    start.get(disk::SUPERBLOCK..).is_some_and(|superblock| superblock.starts_with(&disk::MAGIC.to_le_bytes()))
}

/// How to write an image.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Seconds since 1970 that stand in the superblock; files of this time need smaller inodes. Without it,
    /// the most frequent time of the tree.
    pub build_time: Option<i64>,
    /// The volume's UUID.
    pub uuid: [u8; 16],
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// Blocks of 4096 bytes.
    pub blocks: u64,
    /// Files, directories, links and devices.
    pub inodes: u64,
}

/// Why a tree cannot be an EROFS image.
#[derive(Debug, thiserror::Error)]
pub enum ErofsError {
    /// More blocks than 32 bits count.
    #[error("the image would have more than 16 TiB")]
    TooLarge,
    /// An attribute in a namespace that EROFS has no number for.
    #[error("EROFS cannot hold the extended attribute {0:?}")]
    XattrName(String),
    /// More attributes than fit behind an inode.
    #[error("a file has {0} bytes of extended attributes; EROFS holds 256 KiB")]
    XattrSize(usize),
    /// Device numbers beyond 12 bits of major and 20 bits of minor.
    #[error("device number {0}:{1} is not one that Linux has")]
    Device(u32, u32),
    /// More names than an inode counts.
    #[error("a file has more than 2^32 names")]
    Links,
    /// Reading a file's content or writing the image failed.
    #[error("writing the image stopped: {0}")]
    Io(#[from] io::Error),
}

/// Writes a tree as an EROFS image.
pub fn write(
    tree: &Tree,
    contents: &mut dyn Contents,
    options: &Options,
    out: &mut dyn Write,
) -> Result<Image, ErofsError> {
    let build_time = options.build_time.unwrap_or_else(|| common_time(tree));
    let plan = plan::Plan::of(tree, build_time)?;
    emit::emit(&plan, contents, options.uuid, out)?;
    Ok(Image { blocks: plan.blocks, inodes: plan.inodes.len() as u64 })
}

/// The most frequent time of the tree's nodes, the earliest of several.
fn common_time(tree: &Tree) -> i64 {
    let mut counts: BTreeMap<i64, u64> = BTreeMap::new();
    for node in tree.nodes() {
        let count = counts.entry(node.meta.mtime).or_default();
        *count = count.saturating_add(1);
    }
    counts.iter().rev().max_by_key(|(_, count)| **count).map_or(0, |(time, _)| *time)
}

#[cfg(test)]
mod tests;

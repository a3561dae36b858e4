//! The on-disk structures (Linux `fs/erofs/erofs_fs.h`), all little-endian.

use std::collections::BTreeMap;

use crate::BLOCK;
use crate::tree::Kind;

use super::ErofsError;

/// Where the superblock is.
pub(super) const SUPERBLOCK: usize = 1024;
/// Its length.
pub(super) const SUPERBLOCK_LEN: usize = 128;
/// Inode numbers count slots of this many bytes.
pub(super) const SLOT: u64 = 32;
/// The length of a directory entry without its name.
pub(super) const DIRENT: usize = 12;

pub(super) const MAGIC: u32 = 0xe0f5_e1e2;
/// Times of files are modification times.
const COMPAT_MTIME: u32 = 2;
const BLOCK_BITS: u8 = 12;
/// The header before inline attributes, and the alignment of each.
pub(super) const XATTR_HEADER: usize = 12;
pub(super) const XATTR_ALIGN: usize = 4;

/// What the superblock says.
pub(super) struct Superblock {
    pub(super) root: u16,
    pub(super) inodes: u64,
    pub(super) build_time: i64,
    pub(super) blocks: u32,
    pub(super) uuid: [u8; 16],
}

impl Superblock {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SUPERBLOCK_LEN);
        out.extend(MAGIC.to_le_bytes());
        out.extend(0_u32.to_le_bytes()); // checksum, not used: dm-verity covers every block
        out.extend(COMPAT_MTIME.to_le_bytes());
        out.push(BLOCK_BITS);
        out.push(0); // extra slots
        out.extend(self.root.to_le_bytes());
        out.extend(self.inodes.to_le_bytes());
        out.extend(self.build_time.to_le_bytes());
        out.extend(0_u32.to_le_bytes()); // nanoseconds
        out.extend(self.blocks.to_le_bytes());
        out.extend(0_u32.to_le_bytes()); // block of the inode area
        out.extend(0_u32.to_le_bytes()); // block of shared attributes
        out.extend(self.uuid);
        out.resize(SUPERBLOCK_LEN, 0); // no volume name, no incompatible features
        out
    }
}

/// Where a file's data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Data {
    /// Whole blocks, from this one on.
    Plain(u32),
    /// Whole blocks, then the tail behind the inode.
    Inline(u32),
    /// None; a device number instead.
    Device(u32),
}

/// An inode.
pub(super) struct Inode {
    pub(super) extended: bool,
    pub(super) data: Data,
    pub(super) xattr_len: usize,
    pub(super) mode: u16,
    pub(super) links: u32,
    pub(super) size: u64,
    pub(super) number: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: i64,
}

impl Inode {
    pub(super) fn encode(&self) -> Vec<u8> {
        let (layout, union) = match self.data {
            Data::Plain(block) => (0_u16, block),
            Data::Inline(block) => (2, block),
            Data::Device(number) => (0, number),
        };
        let format = (layout << 1) | u16::from(self.extended);
        let xattrs = match self.xattr_len {
            0 => 0,
            len => (len.saturating_sub(XATTR_HEADER) / XATTR_ALIGN).saturating_add(1) as u16,
        };
        let mut out = Vec::with_capacity(64);
        out.extend(format.to_le_bytes());
        out.extend(xattrs.to_le_bytes());
        out.extend(self.mode.to_le_bytes());
        if self.extended {
            out.extend(0_u16.to_le_bytes());
            out.extend(self.size.to_le_bytes());
            out.extend(union.to_le_bytes());
            out.extend(self.number.to_le_bytes());
            out.extend(self.uid.to_le_bytes());
            out.extend(self.gid.to_le_bytes());
            out.extend(self.mtime.to_le_bytes());
            out.extend(0_u32.to_le_bytes()); // nanoseconds
            out.extend(self.links.to_le_bytes());
            out.resize(64, 0);
        } else {
            out.extend((self.links as u16).to_le_bytes());
            out.extend((self.size as u32).to_le_bytes());
            out.extend(0_u32.to_le_bytes());
            out.extend(union.to_le_bytes());
            out.extend(self.number.to_le_bytes());
            out.extend((self.uid as u16).to_le_bytes());
            out.extend((self.gid as u16).to_le_bytes());
            out.extend(0_u32.to_le_bytes());
        }
        out
    }
}

/// `i_mode`'s file type.
pub(super) fn mode_type(kind: &Kind) -> u16 {
    match kind {
        Kind::Fifo => 0o010_000,
        Kind::Character(..) => 0o020_000,
        Kind::Directory(_) => 0o040_000,
        Kind::Block(..) => 0o060_000,
        Kind::File(_) => 0o100_000,
        Kind::Symlink(_) => 0o120_000,
        Kind::Socket => 0o140_000,
    }
}

/// A directory entry's file type.
pub(super) fn entry_type(kind: &Kind) -> u8 {
    match kind {
        Kind::File(_) => 1,
        Kind::Directory(_) => 2,
        Kind::Character(..) => 3,
        Kind::Block(..) => 4,
        Kind::Fifo => 5,
        Kind::Socket => 6,
        Kind::Symlink(_) => 7,
    }
}

/// A device number as `new_encode_dev` makes it.
pub(super) fn device(major: u32, minor: u32) -> Result<u32, ErofsError> {
    if major >= 1 << 12 || minor >= 1 << 20 {
        return Err(ErofsError::Device(major, minor));
    }
    Ok((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}

/// An entry of a directory.
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    pub(super) nid: u64,
    pub(super) kind: u8,
}

/// How many of `names` each directory block takes, and the directory's size.
pub(super) fn pack<'a>(names: impl Iterator<Item = &'a [u8]>) -> (Vec<usize>, u64) {
    let (mut blocks, mut count, mut used) = (Vec::new(), 0_usize, 0_usize);
    for name in names {
        let need = DIRENT.saturating_add(name.len());
        if used.saturating_add(need) > BLOCK {
            blocks.push(count);
            (count, used) = (0, 0);
        }
        count = count.saturating_add(1);
        used = used.saturating_add(need);
    }
    let size = (blocks.len() as u64).saturating_mul(BLOCK as u64).saturating_add(used as u64);
    blocks.push(count);
    (blocks, size)
}

/// A directory's bytes. Entries are sorted by name; each block has its entries first, then their names.
pub(super) fn directory(entries: &[Entry<'_>]) -> Vec<u8> {
    let (blocks, _) = pack(entries.iter().map(|entry| entry.name));
    let mut out = Vec::new();
    let mut rest = entries;
    for count in blocks {
        let (here, after) = rest.split_at_checked(count).unwrap_or((rest, &[]));
        rest = after;
        out.resize(out.len().next_multiple_of(BLOCK), 0);
        let mut offset = here.len().saturating_mul(DIRENT);
        for entry in here {
            out.extend(entry.nid.to_le_bytes());
            out.extend((offset as u16).to_le_bytes());
            out.extend([entry.kind, 0]);
            offset = offset.saturating_add(entry.name.len());
        }
        here.iter().for_each(|entry| out.extend(entry.name));
    }
    out
}

/// The extended attributes that stand behind an inode; nothing if there are none.
pub(super) fn xattrs(attributes: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<Vec<u8>, ErofsError> {
    if attributes.is_empty() {
        return Ok(Vec::new());
    }
    let mut out = vec![0; XATTR_HEADER];
    for (name, value) in attributes {
        let (index, rest) = split_name(name)?;
        let (Ok(name_len), Ok(value_len)) = (u8::try_from(rest.len()), u16::try_from(value.len())) else {
            return Err(ErofsError::XattrSize(value.len()));
        };
        out.push(name_len);
        out.push(index);
        out.extend(value_len.to_le_bytes());
        out.extend(rest);
        out.extend(value);
        out.resize(out.len().next_multiple_of(XATTR_ALIGN), 0);
    }
    match out.len().saturating_sub(XATTR_HEADER) / XATTR_ALIGN < usize::from(u16::MAX) {
        true => Ok(out),
        false => Err(ErofsError::XattrSize(out.len())),
    }
}

/// The numbers of names' beginnings (`EROFS_XATTR_INDEX_*`).
const NAMESPACES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
];

/// The beginning of names with this number.
pub(super) fn namespace(index: u8) -> Option<&'static [u8]> {
    NAMESPACES.iter().find(|(_, number)| *number == index).map(|(prefix, _)| *prefix)
}

fn split_name(name: &[u8]) -> Result<(u8, &[u8]), ErofsError> {
    let fits = |(prefix, index): &(&[u8], u8)| {
        let rest = name.strip_prefix(*prefix)?;
        // A namespace has names in it; an access list is one itself.
        (prefix.ends_with(b".") != rest.is_empty()).then_some((*index, rest))
    };
    NAMESPACES
        .iter()
        .find_map(fits)
        .ok_or_else(|| ErofsError::XattrName(String::from_utf8_lossy(name).chars().take(128).collect()))
}

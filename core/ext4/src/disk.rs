//! The on-disk structures, all little-endian but the journal, which is big-endian.

use crate::geometry::{GROUP, Geometry, INODE};
use crate::{BLOCK, Journal, Options};

/// Reserved inodes, and the first that is not.
const ROOT: u32 = 2;
const JOURNAL: u32 = 8;
const LOST_AND_FOUND: u32 = 11;
/// Features: journal, extended attributes, hashed directories.
const HAS_JOURNAL: u32 = 4;
const COMPATIBLE: u32 = 0x8 | 0x20;
/// File types in directories, extents.
const INCOMPATIBLE: u32 = 0x2 | 0x40;
/// Sparse backups, large and huge files, descriptors with checksums, many subdirectories, large inodes.
const READ_ONLY_COMPATIBLE: u32 = 0x1 | 0x2 | 0x8 | 0x10 | 0x20 | 0x40;
/// States of groups: no inode is in use, no block beside metadata is, the inode table is zero.
const INODE_UNINIT: u16 = 1;
const BLOCK_UNINIT: u16 = 2;
const ITABLE_ZEROED: u16 = 4;
/// The inode's data is found by extents.
const EXTENTS: u32 = 0x80000;
/// Bytes of an inode beyond the first 128 that are in use.
const EXTRA: u16 = 32;
const DIRECTORY: u16 = 0o040_000;
const FILE: u16 = 0o100_000;

/// Fields that are written one after the other.
struct Fields(Vec<u8>);

impl Fields {
    /// The next field is at this offset; what was left out is zero.
    fn at(&mut self, offset: usize) -> &mut Self {
        debug_assert!(self.0.len() <= offset, "fields are written in order");
        self.0.resize(offset, 0);
        self
    }

    fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn finish(&mut self, length: usize) -> Vec<u8> {
        self.at(length);
        std::mem::take(&mut self.0)
    }
}

/// A block with bytes at an offset; the rest is zero.
pub(crate) fn within(bytes: &[u8], offset: usize) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block.iter_mut().skip(offset).zip(bytes).for_each(|(to, from)| *to = *from);
    block
}

/// `struct ext4_super_block`, for the copy in a group.
pub(crate) fn superblock(options: &Options, geometry: &Geometry, group: u32) -> Vec<u8> {
    let journal = options.journal == Journal::Inside;
    let mut fields = Fields(Vec::with_capacity(1024));
    fields.u32(geometry.inodes()).u32(geometry.blocks).u32(0);
    fields.u32(geometry.all_free()).u32(geometry.inodes().saturating_sub(LOST_AND_FOUND)).u32(0);
    fields.u32(2).u32(2); // 1024 << 2 bytes in a block, and in a cluster
    fields.u32(GROUP).u32(GROUP).u32(geometry.inodes_per_group);
    fields.u32(0).u32(options.time); // never mounted; written
    fields.u16(0).u16(u16::MAX).u16(0xef53);
    fields.u16(1).u16(2).u16(0); // clean; on errors it becomes read-only
    fields.u32(options.time).u32(0).u32(0).u32(1); // checked; no interval; Linux; dynamic revision
    fields.u16(0).u16(0).u32(LOST_AND_FOUND).u16(INODE as u16);
    fields.u16(u16::try_from(group).unwrap_or(u16::MAX));
    fields.u32(if journal { COMPATIBLE | HAS_JOURNAL } else { COMPATIBLE });
    fields.u32(INCOMPATIBLE).u32(READ_ONLY_COMPATIBLE);
    fields.bytes(&options.uuid).bytes(options.label.as_bytes());
    fields.at(0xe0).u32(if journal { JOURNAL } else { 0 });
    // The seed of directories' hashes: of no use to who does not know the volume.
    fields.at(0xec).bytes(&options.uuid);
    fields.at(0xfc).u8(1).u8(u8::from(journal)); // half MD4; the journal's inode is backed up
    fields.at(0x100).u32(0xc).u32(0).u32(options.time); // attributes of users, access lists
    if journal {
        let size = geometry.journal_blocks.saturating_mul(BLOCK as u32);
        fields.bytes(&extent(geometry.journal(), geometry.journal_blocks)).u32(0).u32(size);
    }
    fields.at(0x15c).u16(EXTRA).u16(EXTRA).u32(1); // directories are hashed with signed characters
    fields.finish(1024)
}

/// All group descriptors (`struct ext4_group_desc` of 32 bytes).
pub(crate) fn descriptors(geometry: &Geometry, uuid: &[u8; 16]) -> Vec<u8> {
    let mut all = Vec::new();
    let last = geometry.groups.saturating_sub(1);
    for group in 0..geometry.groups {
        let unused = match group {
            0 => geometry.inodes_per_group.saturating_sub(LOST_AND_FOUND),
            _ => geometry.inodes_per_group,
        } as u16;
        let (directories, flags) = match group {
            0 => (2, ITABLE_ZEROED),
            // Its bitmap says where it ends.
            group if group == last => (0, INODE_UNINIT),
            _ => (0, INODE_UNINIT | BLOCK_UNINIT),
        };
        let mut fields = Fields(Vec::with_capacity(32));
        fields.u32(geometry.block_bitmap(group)).u32(geometry.inode_bitmap(group));
        fields.u32(geometry.inode_table(group)).u16(geometry.free(group) as u16);
        fields.u16(unused).u16(directories).u16(flags).u32(0).u16(0).u16(0).u16(unused);
        let checksum = crc16(crc16(crc16(u16::MAX, uuid), &group.to_le_bytes()), &fields.0);
        all.extend(fields.u16(checksum).finish(32));
    }
    all
}

/// CRC-16 with the reversed polynomial 0xa001, as `lib/crc16.c` has it.
fn crc16(seed: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(seed, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xa001 } else { 0 })
    })
}

/// Which blocks of a group are taken; those beyond its end are, too.
pub(crate) fn block_bitmap(geometry: &Geometry, group: u32) -> [u8; BLOCK] {
    let (used, blocks) = (geometry.used(group), geometry.group_blocks(group));
    bitmap(|bit| bit < used || bit >= blocks)
}

/// Which inodes of the first group are taken; those beyond its end are, too.
pub(crate) fn inode_bitmap(geometry: &Geometry) -> [u8; BLOCK] {
    bitmap(|bit| bit < LOST_AND_FOUND || bit >= geometry.inodes_per_group)
}

fn bitmap(taken: impl Fn(u32) -> bool) -> [u8; BLOCK] {
    let mut bytes = [0_u8; BLOCK];
    for (byte, first) in bytes.iter_mut().zip((0_u32..).step_by(8)) {
        *byte = (0..8).filter(|bit| taken(first.saturating_add(*bit))).fold(0, |byte, bit| byte | (1 << bit));
    }
    bytes
}

/// The first group's inode table.
pub(crate) fn inodes(options: &Options, geometry: &Geometry) -> Vec<u8> {
    let mut table = vec![0; (geometry.table_blocks() as usize).saturating_mul(BLOCK)];
    let mut put = |number: u32, inode: Vec<u8>| {
        let at = number.saturating_sub(1).saturating_mul(INODE) as usize;
        table.iter_mut().skip(at).zip(inode).for_each(|(to, from)| *to = from);
    };
    put(ROOT, inode(options, DIRECTORY | 0o755, 3, (geometry.root_directory(), 1)));
    put(LOST_AND_FOUND, inode(options, DIRECTORY | 0o700, 2, (geometry.lost_and_found(), 1)));
    if geometry.journal_blocks > 0 {
        put(JOURNAL, inode(options, FILE | 0o600, 1, (geometry.journal(), geometry.journal_blocks)));
    }
    table
}

/// `struct ext4_inode` of root's, with one extent.
fn inode(options: &Options, mode: u16, links: u16, (first, blocks): (u32, u32)) -> Vec<u8> {
    let size = blocks.saturating_mul(BLOCK as u32);
    let mut fields = Fields(Vec::with_capacity(INODE as usize));
    fields.u16(mode).u16(0).u32(size);
    fields.u32(options.time).u32(options.time).u32(options.time).u32(0);
    fields.u16(0).u16(links).u32(blocks.saturating_mul(8)).u32(EXTENTS).u32(0);
    fields.bytes(&extent(first, blocks));
    fields.at(0x80).u16(EXTRA);
    fields.at(0x90).u32(options.time); // made
    fields.finish(INODE as usize)
}

/// `i_block` with a tree of one extent.
fn extent(first: u32, blocks: u32) -> Vec<u8> {
    let mut fields = Fields(Vec::with_capacity(60));
    fields.u16(0xf30a).u16(1).u16(4).u16(0).u32(0); // magic, entries, most entries, depth, generation
    fields.u32(0).u16(blocks as u16).u16(0).u32(first);
    fields.finish(60)
}

/// The root directory and `lost+found`.
pub(crate) fn directories() -> [[u8; BLOCK]; 2] {
    let all = |entries: &[(u32, &str)]| {
        let mut fields = Fields(Vec::with_capacity(BLOCK));
        let mut left = entries.len();
        for (inode, name) in entries {
            left = left.saturating_sub(1);
            let here = fields.0.len();
            let short = name.len().next_multiple_of(4).saturating_add(8);
            // The last entry reaches to the block's end.
            let length = if left == 0 { BLOCK.saturating_sub(here) } else { short };
            fields.u32(*inode).u16(length as u16).u8(name.len() as u8).u8(2).bytes(name.as_bytes());
            fields.at(here.saturating_add(length));
        }
        within(&fields.0, 0)
    };
    [
        all(&[(ROOT, "."), (ROOT, ".."), (LOST_AND_FOUND, "lost+found")]),
        all(&[(LOST_AND_FOUND, "."), (ROOT, "..")]),
    ]
}

/// The journal's superblock (`journal_superblock_t`, version 2), big-endian: an empty journal.
pub(crate) fn journal(options: &Options, geometry: &Geometry) -> [u8; BLOCK] {
    let words: [u32; 12] = [
        0xc03b_3998,
        4, // superblock, version 2
        0,
        BLOCK as u32,
        geometry.journal_blocks,
        1, // first block of the log
        1, // first sequence number
        0, // empty
        0,
        0,
        0,
        0,
    ];
    let mut fields = Fields(words.iter().flat_map(|word| word.to_be_bytes()).collect());
    fields.bytes(&options.uuid).bytes(&1_u32.to_be_bytes());
    within(&fields.0, 0)
}

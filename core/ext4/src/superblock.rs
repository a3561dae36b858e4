//! The superblock and the journal's (ext4 documentation, "Super Block" and "Journal (jbd2)").

use crate::layout::{BLOCKS_PER_GROUP, INODE, Layout, USED_INODES};
use crate::{BLOCK, Fields, Journal, Making, inode};

/// `ext_attr`, `dir_index`.
const COMPATIBLE: u32 = 0x8 | 0x20;
/// `has_journal`, among the former.
const HAS_JOURNAL: u32 = 0x4;
/// `filetype`, `extents`.
const INCOMPATIBLE: u32 = 0x2 | 0x40;
/// `sparse_super`, `large_file`, `huge_file`, `uninit_bg`, `dir_nlink`, `extra_isize`.
const READ_ONLY_COMPATIBLE: u32 = 0x1 | 0x2 | 0x8 | 0x10 | 0x20 | 0x40;
/// Blocks that only root may fill: one in so many.
const RESERVED: u32 = 50;

/// A block with a superblock: the first group's begins at 1024, copies begin with their block.
pub(crate) fn encode(making: &Making<'_>, layout: &Layout, group: u32) -> Vec<u8> {
    let mut fields = Fields::new(1024);
    let (journal, journal_inode) = match making.journal {
        Journal::Kept => (HAS_JOURNAL, inode::JOURNAL),
        Journal::None => (0, 0),
    };
    let free_inodes = layout.inodes().saturating_sub(USED_INODES);
    let numbers = [
        (0, layout.inodes()),
        (4, layout.blocks),
        (8, layout.blocks / RESERVED),
        (12, layout.free_blocks()),
        (16, free_inodes),
        // The block's length is 1024 << 2.
        (24, 2),
        (28, 2),
        (32, BLOCKS_PER_GROUP),
        (36, BLOCKS_PER_GROUP),
        (40, layout.inodes_per_group),
        (48, making.time),
        (64, making.time),
        // Revision 1: inode size and features are variable.
        (76, 1),
        (84, USED_INODES),
        (92, COMPATIBLE | journal),
        (96, INCOMPATIBLE),
        (100, READ_ONLY_COMPATIBLE),
        (224, journal_inode),
        // Default mount options: user_xattr, acl.
        (256, 0xc),
        (264, making.time),
        // Directory hashes are of signed characters.
        (352, 1),
    ];
    numbers.into_iter().for_each(|(at, value)| fields.u32(at, value));
    // Counts of mounts do not ask for a check; a clean state; errors make it read-only; which copy this is; the
    // further fields of an inode that are in use.
    let shorts = [
        (54, 0xffff),
        (56, 0xef53),
        (58, 1),
        (60, 2),
        (88, INODE as u16),
        (90, group as u16),
        (348, 32),
        (350, 32),
    ];
    shorts.into_iter().for_each(|(at, value)| fields.u16(at, value));
    fields.put(104, &making.uuid);
    fields.put(120, making.label.as_bytes());
    fields.put(236, &making.hash_seed);
    // Hashes are half_md4, and the journal's place is kept at 268.
    fields.put(252, &[1]);
    if making.journal == Journal::Kept {
        fields.put(253, &[1]);
        fields.put(268, &inode::journal_backup(layout));
    }
    let mut block = Fields::new(BLOCK);
    block.put(if group == 0 { 1024 } else { 0 }, &fields.0);
    block.0
}

/// How large a file system says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes of a block: 1024 to 65536.
    pub block: u64,
    /// How many blocks there are.
    pub blocks: u64,
}

impl Extent {
    /// All its bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.block.saturating_mul(self.blocks)
    }
}

/// Reads a file system's extent from a device's first bytes, 2048 or more; none if that is no ext4. The kernel checks
/// the rest.
#[must_use]
pub fn extent(start: &[u8]) -> Option<Extent> {
    /// `EXT4_FEATURE_INCOMPAT_64BIT`.
    const WIDE: u32 = 0x80;
    let fields = start.get(1024..2048)?;
    let u32_at = |at: usize| fields.get(at..)?.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes));
    let magic = fields.get(56..)?.first_chunk::<2>().map(|bytes| u16::from_le_bytes(*bytes))?;
    let shift = u32_at(24).filter(|shift| *shift <= 6)?;
    if magic != 0xef53 {
        return None;
    }
    let high = if u32_at(96)? & WIDE == 0 { 0 } else { u64::from(u32_at(336)?) };
    let blocks = (high << 32) | u64::from(u32_at(4)?);
    Some(Extent { block: 1024_u64.checked_shl(shift)?, blocks })
}

/// The journal's first block; its fields are big-endian.
pub(crate) fn journal(layout: &Layout) -> Vec<u8> {
    let mut fields = Fields::new(BLOCK);
    // Magic, superblock of version 2; block length, blocks, first block, first sequence number; one user.
    let numbers: [(usize, u32); 7] = [
        (0, 0xc03b_3998),
        (4, 4),
        (12, BLOCK as u32),
        (16, layout.journal_blocks),
        (20, 1),
        (24, 1),
        (64, 1),
    ];
    numbers.into_iter().for_each(|(at, value)| fields.put(at, &value.to_be_bytes()));
    fields.0
}

//! Where things are: block groups, their descriptors and bitmaps (ext4 documentation, "Block Groups").

use crate::{BLOCK, Fields, Journal};

pub(crate) const BLOCKS_PER_GROUP: u32 = 32768;
pub(crate) const INODE: usize = 256;
/// Inodes 1 to 10 are reserved, and 11 is `lost+found`.
pub(crate) const USED_INODES: u32 = 11;
const DESCRIPTOR: usize = 32;
const INODES_PER_BLOCK: u32 = (BLOCK / INODE) as u32;
/// `EXT4_BG_INODE_UNINIT`: the group's inode bitmap and table hold nothing yet.
const INODES_UNINITIALISED: u16 = 1;
/// A last group with fewer blocks for data is left out, as mke2fs does.
const LEAST_DATA: u32 = 50;

/// Numbers of blocks are absolute; counts of `journal_blocks` and so on are in blocks of 4096.
pub(crate) struct Layout {
    pub(crate) blocks: u32,
    pub(crate) groups: u32,
    pub(crate) inodes_per_group: u32,
    pub(crate) journal_blocks: u32,
    descriptor_blocks: u32,
}

#[expect(
    clippy::arithmetic_side_effects,
    reason = "sizes are within LEAST_SIZE and MOST_SIZE, so that counts of blocks are below 2^31"
)]
impl Layout {
    /// For a size within the bounds.
    pub(crate) fn new(size: u64, journal: Journal) -> Self {
        let blocks = u32::try_from(size / BLOCK as u64).unwrap_or(u32::MAX >> 1);
        let mut layout = Self {
            blocks,
            groups: blocks.div_ceil(BLOCKS_PER_GROUP),
            // One inode for 16 KiB.
            inodes_per_group: (blocks.min(BLOCKS_PER_GROUP) / 4).next_multiple_of(INODES_PER_BLOCK),
            journal_blocks: match (journal, blocks) {
                (Journal::None, _) => 0,
                (Journal::Kept, 0..32768) => 1024,
                (Journal::Kept, 32768..262_144) => 4096,
                (Journal::Kept, _) => 8192,
            },
            descriptor_blocks: 0,
        };
        layout.descriptor_blocks = layout.groups.div_ceil((BLOCK / DESCRIPTOR) as u32);
        let last = layout.groups - 1;
        if last > 0 && layout.length(last) < layout.overhead(last) + LEAST_DATA {
            layout.blocks = last * BLOCKS_PER_GROUP;
            layout.groups = last;
        }
        layout
    }

    /// Groups 0 and 1 and the powers of 3, 5 and 7 have copies of the superblock (`sparse_super`).
    pub(crate) fn has_superblock(group: u32) -> bool {
        let power = |base: u32| {
            let mut value = group;
            while value > 1 && value.is_multiple_of(base) {
                value /= base;
            }
            value == 1
        };
        group == 0 || [3, 5, 7].into_iter().any(power)
    }

    pub(crate) fn first_block(&self, group: u32) -> u32 {
        group * BLOCKS_PER_GROUP
    }

    fn length(&self, group: u32) -> u32 {
        (self.blocks - self.first_block(group)).min(BLOCKS_PER_GROUP)
    }

    pub(crate) fn block_bitmap(&self, group: u32) -> u32 {
        let copies = if Self::has_superblock(group) { 1 + self.descriptor_blocks } else { 0 };
        self.first_block(group) + copies
    }

    pub(crate) fn inode_bitmap(&self, group: u32) -> u32 {
        self.block_bitmap(group) + 1
    }

    pub(crate) fn inode_table(&self, group: u32) -> u32 {
        self.block_bitmap(group) + 2
    }

    fn table_blocks(&self) -> u32 {
        self.inodes_per_group / INODES_PER_BLOCK
    }

    pub(crate) fn root_block(&self) -> u32 {
        self.inode_table(0) + self.table_blocks()
    }

    pub(crate) fn lost_block(&self) -> u32 {
        self.root_block() + 1
    }

    pub(crate) fn journal_block(&self) -> u32 {
        self.lost_block() + 1
    }

    /// Blocks of a group that are not for data.
    fn overhead(&self, group: u32) -> u32 {
        self.inode_table(group) + self.table_blocks() - self.first_block(group)
    }

    fn used(&self, group: u32) -> u32 {
        self.overhead(group) + if group == 0 { 2 + self.journal_blocks } else { 0 }
    }

    pub(crate) fn free_blocks(&self) -> u32 {
        (0..self.groups).map(|group| self.length(group) - self.used(group)).sum()
    }

    pub(crate) fn inodes(&self) -> u32 {
        self.groups * self.inodes_per_group
    }

    /// Used blocks are a group's first; blocks behind the end count as used.
    pub(crate) fn used_blocks(&self, group: u32) -> Vec<u8> {
        let (used, length) = (self.used(group), self.length(group));
        bitmap(|bit| bit < used || bit >= length)
    }

    /// Of the first group; inodes behind the end count as used.
    pub(crate) fn used_inodes(&self) -> Vec<u8> {
        bitmap(|bit| bit < USED_INODES || bit >= self.inodes_per_group)
    }

    /// The descriptors of all groups (`struct ext4_group_desc`, 32 bytes each).
    pub(crate) fn descriptors(&self, uuid: &[u8; 16]) -> Vec<u8> {
        (0..self.groups).flat_map(|group| self.descriptor(group, uuid)).collect()
    }

    fn descriptor(&self, group: u32, uuid: &[u8; 16]) -> Vec<u8> {
        let first = group == 0;
        let free = self.inodes_per_group - if first { USED_INODES } else { 0 };
        let mut fields = Fields::new(DESCRIPTOR);
        fields.u32(0, self.block_bitmap(group));
        fields.u32(4, self.inode_bitmap(group));
        fields.u32(8, self.inode_table(group));
        // All of these are at most 32768.
        fields.u16(12, (self.length(group) - self.used(group)) as u16);
        fields.u16(14, free as u16);
        fields.u16(16, if first { 2 } else { 0 });
        fields.u16(18, if first { 0 } else { INODES_UNINITIALISED });
        // Inodes at the table's end that were never used, so that nobody reads them.
        fields.u16(28, free as u16);
        let mut sum = crc16(0xffff, uuid);
        sum = crc16(sum, &group.to_le_bytes());
        sum = crc16(sum, fields.0.get(..30).unwrap_or_default());
        fields.u16(30, sum);
        fields.0
    }
}

/// A block of bits.
fn bitmap(set: impl Fn(u32) -> bool) -> Vec<u8> {
    let byte = |number: u32| {
        (0..8)
            .fold(0, |byte, bit| byte | (u8::from(set(number.saturating_mul(8).saturating_add(bit))) << bit))
    };
    (0..BLOCK as u32).map(byte).collect()
}

/// CRC-16 with the polynomial 0x8005, reflected (ext4 documentation, "Block Group Descriptors", `bg_checksum`).
fn crc16(sum: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(sum, |sum, &byte| {
        (0..8).fold(sum ^ u16::from(byte), |sum, _| if sum & 1 == 1 { (sum >> 1) ^ 0xa001 } else { sum >> 1 })
    })
}

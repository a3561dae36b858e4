//! Where everything is: groups, their metadata, the journal.

use crate::Journal;

/// Blocks in a group: as many as one block of bitmap counts.
pub(crate) const GROUP: u32 = 32_768;
/// Bytes in a block, to count with sizes.
const BLOCK_LEN: u64 = 4096;
/// Bytes in an inode.
pub(crate) const INODE: u32 = 256;
/// Inodes in a block.
const INODES_IN_BLOCK: u32 = 16;
/// Blocks for each inode, as `mke2fs` has it.
const BLOCKS_PER_INODE: u32 = 4;
/// Group descriptors in a block.
const DESCRIPTORS: u32 = 128;
/// A last group needs room for this much beside its metadata.
const LAST: u32 = 64;
/// Journals, in blocks: 4 MiB for small file systems, 64 MiB for large ones.
const JOURNAL_SMALL: u32 = 1024;
const JOURNAL_LARGE: u32 = 16_384;
/// From this size on, in blocks, a journal is large: 1 GiB.
const LARGE: u32 = 1 << 18;

/// The places of a file system's parts, in blocks.
pub(crate) struct Geometry {
    pub(crate) blocks: u32,
    pub(crate) groups: u32,
    pub(crate) inodes_per_group: u32,
    /// Blocks of group descriptors.
    pub(crate) table: u32,
    pub(crate) journal_blocks: u32,
}

impl Geometry {
    /// Of a size that was checked.
    pub(crate) fn of(size: u64, journal: Journal) -> Self {
        let blocks = u32::try_from(size / BLOCK_LEN).unwrap_or(u32::MAX);
        let largest = blocks.min(GROUP);
        let inodes_per_group = (largest / BLOCKS_PER_INODE).next_multiple_of(INODES_IN_BLOCK);
        let journal_blocks = match journal {
            Journal::None => 0,
            Journal::Inside if blocks >= LARGE => JOURNAL_LARGE,
            Journal::Inside => JOURNAL_SMALL,
        };
        let with = |blocks: u32| {
            let groups = blocks.div_ceil(GROUP);
            Self { blocks, groups, inodes_per_group, table: groups.div_ceil(DESCRIPTORS), journal_blocks }
        };
        let whole = with(blocks);
        let last = whole.groups.saturating_sub(1);
        let room = whole.overhead(last).saturating_add(LAST);
        match last > 0 && whole.group_blocks(last) < room {
            true => with(last.saturating_mul(GROUP)),
            false => whole,
        }
    }

    pub(crate) fn first_block(&self, group: u32) -> u32 {
        group.saturating_mul(GROUP)
    }

    /// How many blocks a group has.
    pub(crate) fn group_blocks(&self, group: u32) -> u32 {
        self.blocks.saturating_sub(self.first_block(group)).min(GROUP)
    }

    /// Whether a group has a copy of the superblock and the descriptors: 0, 1, and the powers of 3, 5 and 7.
    pub(crate) fn has_backup(&self, group: u32) -> bool {
        let power = |base: u32| std::iter::successors(Some(base), move |power| power.checked_mul(base));
        group <= 1
            || [3, 5, 7]
                .into_iter()
                .any(|base| power(base).take_while(|power| *power <= group).any(|power| power == group))
    }

    fn copies(&self, group: u32) -> u32 {
        if self.has_backup(group) { self.table.saturating_add(1) } else { 0 }
    }

    pub(crate) fn block_bitmap(&self, group: u32) -> u32 {
        self.first_block(group).saturating_add(self.copies(group))
    }

    pub(crate) fn inode_bitmap(&self, group: u32) -> u32 {
        self.block_bitmap(group).saturating_add(1)
    }

    pub(crate) fn inode_table(&self, group: u32) -> u32 {
        self.block_bitmap(group).saturating_add(2)
    }

    pub(crate) fn table_blocks(&self) -> u32 {
        self.inodes_per_group.div_ceil(INODES_IN_BLOCK)
    }

    /// Blocks of a group's own metadata.
    pub(crate) fn overhead(&self, group: u32) -> u32 {
        self.copies(group).saturating_add(2).saturating_add(self.table_blocks())
    }

    pub(crate) fn root_directory(&self) -> u32 {
        self.overhead(0)
    }

    pub(crate) fn lost_and_found(&self) -> u32 {
        self.root_directory().saturating_add(1)
    }

    /// The journal's first block. It is whole within the first group.
    pub(crate) fn journal(&self) -> u32 {
        self.lost_and_found().saturating_add(1)
    }

    /// Blocks of a group that are taken.
    pub(crate) fn used(&self, group: u32) -> u32 {
        match group {
            0 => self.overhead(0).saturating_add(2).saturating_add(self.journal_blocks),
            _ => self.overhead(group),
        }
    }

    pub(crate) fn free(&self, group: u32) -> u32 {
        self.group_blocks(group).saturating_sub(self.used(group))
    }

    pub(crate) fn all_free(&self) -> u32 {
        (0..self.groups).map(|group| self.free(group)).fold(0, u32::saturating_add)
    }

    pub(crate) fn inodes(&self) -> u32 {
        self.inodes_per_group.saturating_mul(self.groups)
    }
}

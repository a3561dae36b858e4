//! Inodes and directories (ext4 documentation, "Index Nodes", "Directory Entries", "The Contents of inode.i_block").

use crate::layout::{INODE, Layout};
use crate::{BLOCK, Fields, Journal, Making};

const ROOT: u32 = 2;
pub(crate) const JOURNAL: u32 = 8;
const LOST_AND_FOUND: u32 = 11;
/// `EXT4_EXTENTS_FL`.
const EXTENTS: u32 = 0x8_0000;
/// Bytes of the large inode's further fields that are in use.
const EXTRA: u16 = 32;

/// The first block of the first inode table: inodes 1 to 16.
pub(crate) fn table(making: &Making<'_>, layout: &Layout) -> Vec<u8> {
    let root = Inode { mode: 0o40755, links: 3, owner: making.owner, blocks: 1, start: layout.root_block() };
    let lost = Inode { mode: 0o40700, links: 2, owner: (0, 0), blocks: 1, start: layout.lost_block() };
    let mut table = Fields::new(BLOCK);
    let journal = (making.journal == Journal::Kept).then(|| (JOURNAL, journal(layout)));
    for (number, inode) in [(ROOT, root), (LOST_AND_FOUND, lost)].into_iter().chain(journal) {
        let at = (number as usize).saturating_sub(1).saturating_mul(INODE);
        table.put(at, &inode.encode(making.time));
    }
    table.0
}

fn journal(layout: &Layout) -> Inode {
    let (blocks, start) = (layout.journal_blocks, layout.journal_block());
    Inode { mode: 0o100_600, links: 1, owner: (0, 0), blocks, start }
}

/// `i_block` of the journal and its size, which the superblock keeps a copy of (`s_jnl_blocks`).
pub(crate) fn journal_backup(layout: &Layout) -> Vec<u8> {
    let journal = journal(layout);
    let mut fields = Fields(journal.extents());
    fields.0.resize(68, 0);
    fields.u32(64, journal.size());
    fields.0
}

struct Inode {
    mode: u16,
    links: u16,
    owner: (u32, u32),
    /// At most 32768, which one extent holds.
    blocks: u32,
    start: u32,
}

impl Inode {
    fn size(&self) -> u32 {
        self.blocks.saturating_mul(BLOCK as u32)
    }

    fn encode(&self, time: u32) -> Vec<u8> {
        let mut fields = Fields::new(INODE);
        let ((user, user_high), (group, group_high)) = (halves(self.owner.0), halves(self.owner.1));
        fields.u16(0, self.mode);
        fields.u16(2, user);
        fields.u32(4, self.size());
        for at in [8, 12, 16, 144] {
            fields.u32(at, time);
        }
        fields.u16(24, group);
        fields.u16(26, self.links);
        fields.u32(28, self.blocks.saturating_mul(8));
        fields.u32(32, EXTENTS);
        fields.put(40, &self.extents());
        fields.u16(120, user_high);
        fields.u16(122, group_high);
        fields.u16(128, EXTRA);
        fields.0
    }

    /// A tree of one extent.
    fn extents(&self) -> Vec<u8> {
        let mut fields = Fields::new(60);
        fields.u16(0, 0xf30a);
        fields.u16(2, 1);
        fields.u16(4, 4);
        fields.u16(16, self.blocks as u16);
        fields.u32(20, self.start);
        fields.0
    }
}

fn halves(number: u32) -> (u16, u16) {
    (number as u16, (number >> 16) as u16)
}

pub(crate) fn root_directory() -> Vec<u8> {
    directory(&[(ROOT, "."), (ROOT, ".."), (LOST_AND_FOUND, "lost+found")])
}

pub(crate) fn lost_directory() -> Vec<u8> {
    directory(&[(LOST_AND_FOUND, "."), (ROOT, "..")])
}

/// Entries of directories; the last one reaches to the block's end.
fn directory(entries: &[(u32, &str)]) -> Vec<u8> {
    let mut block = Fields::new(BLOCK);
    let mut at = 0_usize;
    for (number, (inode, name)) in (1..).zip(entries) {
        let length = name.len().saturating_add(8).next_multiple_of(4);
        let length = if number == entries.len() { BLOCK.saturating_sub(at) } else { length };
        block.u32(at, *inode);
        block.u16(at.saturating_add(4), length as u16);
        // Two bytes: the name's length and the file type, 2 for a directory.
        block.put(at.saturating_add(6), &[name.len() as u8, 2]);
        block.put(at.saturating_add(8), name.as_bytes());
        at = at.saturating_add(length);
    }
    block.0
}

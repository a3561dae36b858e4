//! Where everything goes: inodes after the superblock, file data after the inodes.

use std::collections::VecDeque;

use crate::tree::{Kind, Node, NodeId, Tree};
use crate::{BLOCK, BLOCK_LEN};

use super::ErofsError;
use super::disk::{self, Data, SLOT};

/// A tail is packed behind its inode if both together take no more than this, so that the space left free
/// before the next block stays small.
const INLINE: usize = BLOCK / 2;

/// One inode and its place.
pub(super) struct Planned<'a> {
    pub(super) node: &'a Node,
    /// The directory above, by its index; the root's is itself.
    pub(super) parent: usize,
    pub(super) links: u32,
    /// The inode's first byte in the image.
    pub(super) offset: u64,
    pub(super) xattrs: Vec<u8>,
    pub(super) size: u64,
    pub(super) extended: bool,
    pub(super) data: Data,
}

impl Planned<'_> {
    pub(super) fn nid(&self) -> u64 {
        self.offset / SLOT
    }

    /// Bytes in whole blocks; the rest, if any, is behind the inode.
    pub(super) fn outside(&self) -> u64 {
        match self.data {
            Data::Plain(_) => self.size,
            Data::Inline(_) => whole(self.size),
            Data::Device(_) => 0,
        }
    }
}

/// The places of all inodes and data.
pub(super) struct Plan<'a> {
    pub(super) inodes: Vec<Planned<'a>>,
    /// For each node of the tree, its inode.
    index: Vec<Option<usize>>,
    pub(super) build_time: i64,
    /// The first byte of file data.
    pub(super) data_start: u64,
    pub(super) blocks: u64,
}

impl<'a> Plan<'a> {
    pub(super) fn of(tree: &'a Tree, build_time: i64) -> Result<Self, ErofsError> {
        let mut plan =
            Self { inodes: Vec::new(), index: vec![None; tree.len()], build_time, data_start: 0, blocks: 0 };
        plan.walk(tree)?;
        plan.place_inodes()?;
        plan.place_data()?;
        Ok(plan)
    }

    /// The inode of a node.
    pub(super) fn inode(&self, id: NodeId) -> Option<&Planned<'a>> {
        self.inodes.get((*self.index.get(id.0)?)?)
    }

    /// Numbers every node that has a name, directories before what is in them, and counts names.
    fn walk(&mut self, tree: &'a Tree) -> Result<(), ErofsError> {
        let mut queue = VecDeque::new();
        self.add(tree, Tree::ROOT, 0)?;
        queue.push_back((Tree::ROOT, 0));
        while let Some((directory, parent)) = queue.pop_front() {
            for child in tree.entries(directory).into_iter().flat_map(|entries| entries.values()) {
                let is_directory = matches!(tree.node(*child).kind, Kind::Directory(_));
                match self.index.get(child.0).copied().flatten() {
                    Some(known) => self.count_name(known)?,
                    None => {
                        let number = self.add(tree, *child, parent)?;
                        if is_directory {
                            queue.push_back((*child, number));
                        }
                    }
                }
                if is_directory {
                    self.count_name(parent)?;
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, tree: &'a Tree, id: NodeId, parent: usize) -> Result<usize, ErofsError> {
        let node = tree.node(id);
        let (size, links) = match &node.kind {
            Kind::Directory(entries) => {
                let names = entries.keys().map(Vec::as_slice);
                (disk::pack(with_dots(names).into_iter()).1, 2)
            }
            Kind::File(extent) => (extent.len, 1),
            Kind::Symlink(target) => (target.len() as u64, 1),
            _ => (0, 1),
        };
        let data = match node.kind {
            Kind::Character(major, minor) | Kind::Block(major, minor) => {
                Data::Device(disk::device(major, minor)?)
            }
            Kind::Fifo | Kind::Socket => Data::Device(0),
            _ => Data::Plain(0),
        };
        let xattrs = disk::xattrs(&node.meta.xattrs)?;
        let number = self.inodes.len();
        if u32::try_from(number).is_err() {
            return Err(ErofsError::TooLarge);
        }
        self.inodes.push(Planned { node, parent, links, offset: 0, xattrs, size, extended: false, data });
        if let Some(slot) = self.index.get_mut(id.0) {
            *slot = Some(number);
        }
        Ok(number)
    }

    fn count_name(&mut self, number: usize) -> Result<(), ErofsError> {
        if let Some(inode) = self.inodes.get_mut(number) {
            inode.links = inode.links.checked_add(1).ok_or(ErofsError::Links)?;
        }
        Ok(())
    }

    /// The kernel asks that a tail does not cross a block; inodes do not cross one either.
    fn place_inodes(&mut self) -> Result<(), ErofsError> {
        let mut next = (disk::SUPERBLOCK.saturating_add(disk::SUPERBLOCK_LEN)) as u64;
        for inode in &mut self.inodes {
            let meta = &inode.node.meta;
            inode.extended = meta.mtime != self.build_time
                || meta.uid > u32::from(u16::MAX)
                || meta.gid > u32::from(u16::MAX)
                || inode.links > u32::from(u16::MAX)
                || inode.size > u64::from(u32::MAX);
            let header = if inode.extended { 64_usize } else { 32 };
            let head = header.saturating_add(inode.xattrs.len());
            let tail = (inode.size % BLOCK_LEN) as usize;
            let both = head.saturating_add(tail);
            let inline = tail > 0 && both <= INLINE && !matches!(inode.data, Data::Device(_));
            if inline {
                inode.data = Data::Inline(0);
            }
            let together = if inline { both } else { header } as u64;
            if (next % BLOCK_LEN).saturating_add(together) > BLOCK_LEN {
                next = next.next_multiple_of(BLOCK_LEN);
            }
            inode.offset = next;
            let length = if inline { both } else { head } as u64;
            next = next.saturating_add(length).next_multiple_of(SLOT);
        }
        self.data_start = next.next_multiple_of(BLOCK_LEN);
        Ok(())
    }

    fn place_data(&mut self) -> Result<(), ErofsError> {
        let mut next = self.data_start / BLOCK_LEN;
        for inode in &mut self.inodes {
            let count = inode.outside().div_ceil(BLOCK_LEN);
            let start = if count == 0 { 0 } else { u32::try_from(next).map_err(|_| ErofsError::TooLarge)? };
            match &mut inode.data {
                Data::Plain(at) | Data::Inline(at) => *at = start,
                Data::Device(_) => {}
            }
            next = next.checked_add(count).ok_or(ErofsError::TooLarge)?;
        }
        self.blocks = next;
        if u32::try_from(next).is_err() { Err(ErofsError::TooLarge) } else { Ok(()) }
    }
}

fn whole(size: u64) -> u64 {
    size.saturating_sub(size % BLOCK_LEN)
}

/// A directory's names with `.` and `..` at their sorted place.
pub(super) fn with_dots<'a>(names: impl Iterator<Item = &'a [u8]>) -> Vec<&'a [u8]> {
    let mut all: Vec<&[u8]> = names.chain([b".".as_slice(), b"..".as_slice()]).collect();
    all.sort_unstable();
    all
}

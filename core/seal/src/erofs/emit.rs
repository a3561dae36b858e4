//! Writes what was planned, from the first byte to the last.

use std::io::{self, Write};

use crate::BLOCK;
use crate::tree::{Contents, Kind};

use super::ErofsError;
use super::disk::{self, Data, Entry, Inode, SLOT, Superblock};
use super::plan::{Plan, Planned, with_dots};

/// Bytes of a file that are copied at a time.
const CHUNK: usize = 256 << 10;

pub(super) fn emit(
    plan: &Plan<'_>,
    contents: &mut dyn Contents,
    uuid: [u8; 16],
    out: &mut dyn Write,
) -> Result<(), ErofsError> {
    let mut out = Output { out, position: 0 };
    out.pad_to(disk::SUPERBLOCK as u64)?;
    let root = plan.inodes.first().map_or(0, Planned::nid);
    out.write(
        &Superblock {
            root: u16::try_from(root).map_err(|_| ErofsError::TooLarge)?,
            inodes: plan.inodes.len() as u64,
            build_time: plan.build_time,
            blocks: u32::try_from(plan.blocks).map_err(|_| ErofsError::TooLarge)?,
            uuid,
        }
        .encode(),
    )?;
    for (number, inode) in plan.inodes.iter().enumerate() {
        out.pad_to(inode.offset)?;
        out.write(&header(number, inode).encode())?;
        out.write(&inode.xattrs)?;
        if let Data::Inline(_) = inode.data {
            body(plan, inode, contents, inode.outside()..inode.size, &mut out)?;
        }
        debug_assert_eq!(inode.offset % SLOT, 0);
    }
    out.pad_to(plan.data_start)?;
    for inode in &plan.inodes {
        body(plan, inode, contents, 0..inode.outside(), &mut out)?;
        out.pad_to(out.position.next_multiple_of(BLOCK as u64))?;
    }
    out.out.flush()?;
    Ok(())
}

fn header(number: usize, planned: &Planned<'_>) -> Inode {
    let meta = &planned.node.meta;
    Inode {
        extended: planned.extended,
        data: planned.data,
        xattr_len: planned.xattrs.len(),
        mode: disk::mode_type(&planned.node.kind) | (meta.mode & 0o7777),
        links: planned.links,
        size: planned.size,
        number: u32::try_from(number).unwrap_or(u32::MAX).saturating_add(1),
        uid: meta.uid,
        gid: meta.gid,
        mtime: meta.mtime,
    }
}

/// Writes a range of an inode's data.
fn body(
    plan: &Plan<'_>,
    inode: &Planned<'_>,
    contents: &mut dyn Contents,
    range: std::ops::Range<u64>,
    out: &mut Output<'_>,
) -> Result<(), ErofsError> {
    if range.is_empty() {
        return Ok(());
    }
    let part = |bytes: &[u8]| {
        bytes.get(range.start as usize..range.end as usize).map(<[u8]>::to_vec).unwrap_or_default()
    };
    match &inode.node.kind {
        Kind::File(extent) => {
            let length = range.end.saturating_sub(range.start).min(CHUNK as u64);
            let mut buffer = vec![0; length as usize];
            let mut at = range.start;
            while at < range.end {
                let count = (range.end.saturating_sub(at)).min(CHUNK as u64);
                let Some(piece) = buffer.get_mut(..count as usize) else { break };
                contents.read_at(extent.offset.saturating_add(at), piece)?;
                out.write(piece)?;
                at = at.saturating_add(count);
            }
            Ok(())
        }
        Kind::Symlink(target) => Ok(out.write(&part(target))?),
        Kind::Directory(_) => Ok(out.write(&part(&directory(plan, inode)))?),
        _ => Ok(()),
    }
}

fn directory(plan: &Plan<'_>, inode: &Planned<'_>) -> Vec<u8> {
    let Kind::Directory(children) = &inode.node.kind else {
        return Vec::new();
    };
    let parent = plan.inodes.get(inode.parent).unwrap_or(inode);
    let entries: Vec<Entry<'_>> = with_dots(children.keys().map(Vec::as_slice))
        .into_iter()
        .filter_map(|name| {
            let target = match name {
                b"." => inode,
                b".." => parent,
                _ => plan.inode(*children.get(name)?)?,
            };
            Some(Entry { name, nid: target.nid(), kind: disk::entry_type(&target.node.kind) })
        })
        .collect();
    disk::directory(&entries)
}

struct Output<'a> {
    out: &'a mut dyn Write,
    position: u64,
}

impl Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.position = self.position.saturating_add(bytes.len() as u64);
        Ok(())
    }

    fn pad_to(&mut self, position: u64) -> io::Result<()> {
        const ZEROS: [u8; BLOCK] = [0; BLOCK];
        while self.position < position {
            let count = position.saturating_sub(self.position).min(BLOCK as u64);
            self.write(ZEROS.get(..count as usize).unwrap_or(&ZEROS))?;
        }
        Ok(())
    }
}

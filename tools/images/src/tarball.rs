//! A tree as a tar: what an image's files are when they leave it (POSIX.1-2017, `pax`).

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use coffer_core_seal::tree::{Contents, Extent, Kind, Node, NodeId, Tree};
use tar::{Builder, EntryType, Header};

use crate::error::{ImageError, at};
use crate::flatten::Flat;
use crate::folder::XATTR;
use crate::progress::Progress;

/// Writes a whole tree, in the order of names.
pub(crate) fn write(mut flat: Flat, out: &mut dyn Write, progress: &Progress) -> Result<(), ImageError> {
    let path = Path::new("the tar");
    let mut archive = Builder::new(out);
    let mut first_names: HashMap<NodeId, Vec<u8>> = HashMap::new();
    let mut left = vec![(b"./".to_vec(), Tree::ROOT)];
    let total = Some(flat.tree.len() as u64);
    let mut done = 0;
    while let Some((name, id)) = left.pop() {
        let node = flat.tree.node(id);
        entry(&mut archive, &name, node, first_names.get(&id), &mut *flat.contents).map_err(at(path))?;
        first_names.entry(id).or_insert_with(|| name.clone());
        if let Some(entries) = flat.tree.entries(id) {
            for (child, node) in entries.iter().rev() {
                let slash: &[u8] = if flat.tree.entries(*node).is_some() { b"/" } else { b"" };
                left.push(([name.as_slice(), child, slash].concat(), *node));
            }
        }
        done += 1;
        progress.step("open", "files", done, total);
    }
    archive.into_inner().and_then(|out| out.flush()).map_err(at(path))
}

fn entry(
    archive: &mut Builder<&mut dyn Write>,
    name: &[u8],
    node: &Node,
    first: Option<&Vec<u8>>,
    contents: &mut (dyn Contents + Send),
) -> io::Result<()> {
    let path = |bytes: &[u8]| Path::new(OsStr::from_bytes(bytes)).to_owned();
    let mut header = Header::new_gnu();
    header.set_mode(u32::from(node.meta.mode));
    header.set_uid(u64::from(node.meta.uid));
    header.set_gid(u64::from(node.meta.gid));
    header.set_mtime(u64::try_from(node.meta.mtime).unwrap_or_default());
    header.set_size(0);
    if let Some(first) = first {
        header.set_entry_type(EntryType::Link);
        return archive.append_link(&mut header, path(name), path(first));
    }
    let time = node.meta.mtime.to_string();
    // The header's time has no sign.
    let early = (node.meta.mtime < 0).then_some(("mtime", time.as_bytes()));
    let keys: Vec<String> =
        node.meta.xattrs.keys().map(|name| format!("{XATTR}{}", String::from_utf8_lossy(name))).collect();
    let records = keys.iter().map(String::as_str).zip(node.meta.xattrs.values().map(Vec::as_slice));
    if early.is_some() || !keys.is_empty() {
        archive.append_pax_extensions(early.into_iter().chain(records))?;
    }
    let mut device = |kind, major, minor| {
        header.set_entry_type(kind);
        header.set_device_major(major)?;
        header.set_device_minor(minor)
    };
    match &node.kind {
        Kind::File(extent) => {
            header.set_entry_type(EntryType::Regular);
            header.set_size(extent.len);
            return archive.append_data(&mut header, path(name), Content { contents, left: *extent });
        }
        Kind::Symlink(target) => {
            header.set_entry_type(EntryType::Symlink);
            return archive.append_link(&mut header, path(name), path(target));
        }
        Kind::Directory(_) => header.set_entry_type(EntryType::Directory),
        Kind::Character(major, minor) => device(EntryType::Char, *major, *minor)?,
        Kind::Block(major, minor) => device(EntryType::Block, *major, *minor)?,
        Kind::Fifo => header.set_entry_type(EntryType::Fifo),
        // A tar has no sockets; a program that needs one makes it.
        Kind::Socket => return Ok(()),
    }
    archive.append_data(&mut header, path(name), io::empty())
}

/// A file's content.
struct Content<'a> {
    contents: &'a mut (dyn Contents + Send),
    left: Extent,
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.left.len.min(buffer.len() as u64) as usize;
        let Some(piece) = buffer.get_mut(..count).filter(|piece| !piece.is_empty()) else { return Ok(0) };
        self.contents.read_at(self.left.offset, piece)?;
        self.left = Extent { offset: self.left.offset + count as u64, len: self.left.len - count as u64 };
        Ok(count)
    }
}

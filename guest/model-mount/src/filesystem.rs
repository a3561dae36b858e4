//! The kernel's questions, answered from a tree.

use std::ffi::OsStr;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenAccMode, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry,
    ReplyOpen, ReplyStatfs, Request,
};

use crate::tree::{Kind, Node, ROOT, ReadError, Tree};

/// Receives a line for each read that is refused.
pub type Log = dyn Fn(&str) + Send + Sync;

/// Nothing here ever changes.
const FOREVER: Duration = Duration::from_secs(24 * 60 * 60);
const BLOCK: u32 = 512;
/// As many reads are answered at a time, each of at most 1 MiB.
const SPARE: usize = 8;

pub(crate) struct Answers {
    pub(crate) tree: Arc<Tree>,
    pub(crate) log: Arc<Log>,
    /// Buffers of answers that were given, so that none is filled with zeros for each read.
    pub(crate) spare: Mutex<Vec<Vec<u8>>>,
}

impl Answers {
    fn attributes(&self, number: u64, node: &Node) -> FileAttr {
        let (kind, size, perm, blksize) = match &node.kind {
            Kind::Folder(_) => (FileType::Directory, 0, 0o555, 4096),
            Kind::File { size, executable, segment, .. } => {
                (FileType::RegularFile, *size, if *executable { 0o555 } else { 0o444 }, *segment)
            }
        };
        let nlink = if kind == FileType::Directory { 2 } else { 1 };
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let never = SystemTime::UNIX_EPOCH;
        FileAttr {
            ino: INodeNo(number),
            size,
            blocks: size.div_ceil(u64::from(BLOCK)),
            atime: never,
            mtime: never,
            ctime: never,
            crtime: never,
            kind,
            perm,
            nlink,
            uid,
            gid,
            rdev: 0,
            blksize,
            flags: 0,
        }
    }

    fn error(&self, error: &ReadError) -> Errno {
        match error {
            ReadError::NoFile => Errno::EISDIR,
            ReadError::Refused { .. } => {
                (self.log)(&error.to_string());
                Errno::EIO
            }
        }
    }
}

impl Filesystem for Answers {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Whole segments are read ahead, several at a time; what a kernel does not offer, it does without.
        let _ = config.set_max_readahead(4 << 20).or_else(|most| config.set_max_readahead(most));
        let _ = config.set_max_background(64);
        let _ = config.add_capabilities(InitFlags::FUSE_ASYNC_READ | InitFlags::FUSE_PARALLEL_DIROPS);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = name.to_str().and_then(|name| self.tree.lookup(parent.0, name));
        match found.and_then(|number| Some((number, self.tree.node(number)?))) {
            Some((number, node)) => reply.entry(&FOREVER, &self.attributes(number, node), Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.tree.node(ino.0) {
            Some(node) => reply.attr(&FOREVER, &self.attributes(ino.0, node)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            return reply.error(Errno::EROFS);
        }
        match self.tree.open(ino.0) {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
            Err(error) => reply.error(self.error(&error)),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut buffer = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        buffer.resize((size as usize).max(buffer.len()), 0);
        let wanted = buffer.get_mut(..size as usize).unwrap_or_default();
        // A short answer would be filled up with zeros by the kernel, so it is short only at the file's end.
        match self.tree.read(ino.0, wanted, offset) {
            Ok(read) => reply.data(wanted.get(..read).unwrap_or_default()),
            Err(error) => reply.error(self.error(&error)),
        }
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE {
            spare.push(buffer);
        }
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let Some(node) = self.tree.node(ino.0) else { return reply.error(Errno::ENOENT) };
        let Kind::Folder(names) = &node.kind else { return reply.error(Errno::ENOTDIR) };
        let own = [(".", ino.0), ("..", node.parent)].into_iter();
        let all = own.chain(names.iter().map(|(name, number)| (name.as_str(), *number)));
        for (place, (name, number)) in all.enumerate().skip(usize::try_from(offset).unwrap_or(usize::MAX)) {
            let folder = number == ROOT
                || self.tree.node(number).is_some_and(|node| matches!(node.kind, Kind::Folder(_)));
            let kind = if folder { FileType::Directory } else { FileType::RegularFile };
            if reply.add(INodeNo(number), place as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let files = self.tree.model().artifact().manifest().files();
        let blocks = files.iter().map(|file| file.layout().size().div_ceil(u64::from(BLOCK))).sum();
        reply.statfs(blocks, 0, 0, files.len() as u64, 0, BLOCK, 255, BLOCK);
    }
}

//! Taking away files and directories, without ever following a link.

use std::collections::HashSet;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Deeper than any unpacked image: paths are bounded, and symbolic links cannot nest further than this honestly.
const MAX_DEPTH: usize = 1024;

/// Removes a name with all below it.
pub(crate) fn remove(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    sweep(parent, name, &HashSet::new(), MAX_DEPTH)
}

/// Empties a directory, except for what is in `keep` and the directories on the way to it.
pub(crate) fn clear(directory: BorrowedFd<'_>, keep: &HashSet<u64>) -> io::Result<()> {
    for name in names(directory)? {
        sweep(directory, OsStr::from_bytes(name.as_bytes()), keep, MAX_DEPTH)?;
    }
    Ok(())
}

fn sweep(parent: BorrowedFd<'_>, name: &OsStr, keep: &HashSet<u64>, depth: usize) -> io::Result<()> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "directories are nested too deeply"));
    };
    let there = fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let kept = keep.contains(&there.st_ino);
    if SFlag::from_bits_truncate(there.st_mode) & SFlag::S_IFMT != SFlag::S_IFDIR {
        return if kept { Ok(()) } else { Ok(unlinkat(parent, name, UnlinkatFlags::NoRemoveDir)?) };
    }
    let directory = open(parent, name)?;
    for inner in names(directory.as_fd())? {
        sweep(directory.as_fd(), OsStr::from_bytes(inner.as_bytes()), keep, depth)?;
    }
    if kept {
        return Ok(());
    }
    match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
        // Something in it is kept.
        Err(Errno::ENOTEMPTY) if !keep.is_empty() => Ok(()),
        other => Ok(other?),
    }
}

fn open(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(parent, name, flags, Mode::empty())?)
}

fn names(directory: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    // Opened anew: a path-only descriptor cannot be read, and reading moves a shared position.
    let mut listing = Dir::from_fd(open(directory, OsStr::new("."))?)?;
    let mut names = Vec::new();
    for entry in listing.iter() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

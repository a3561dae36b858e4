//! Layers onto one directory: additions, changes and whiteouts (OCI image specification 1.1, `layer.md`).
//!
//! INVARIANT: every name is resolved by the kernel with `openat2(RESOLVE_IN_ROOT)`, so that neither `..` nor an
//! absolute path nor a symbolic link of the archive leads out of the root; what is made is made relative to the
//! directory that was opened, and its last component is never followed.

mod tree;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmodat, fstatat, makedev, mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, LinkatFlags, Uid, fchownat, linkat, symlinkat};

use coffer_core_tar::{Archive, Content, Entry, EntryType, TarError, shown};
use xattr::FileExt as _;

/// As deep as a path in an honest image goes, many times over.
const MAX_DEPTH: usize = 256;
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Other names that AUFS kept for itself.
const RESERVED: &[u8] = b".wh..wh.";

/// Why an entry cannot be unpacked.
#[derive(Debug)]
pub(crate) struct UnpackError {
    /// The entry.
    pub(crate) path: String,
    /// Why.
    pub(crate) why: String,
}

/// A directory that layers are unpacked onto.
pub(crate) struct Root {
    fd: OwnedFd,
    /// Inodes that the present layer made: its whiteouts do not touch them.
    made: HashSet<u64>,
    /// Directories whose times are set at the layer's end, after what is made in them.
    times: Vec<(PathBuf, TimeSpec)>,
}

impl Root {
    /// Opens an existing, empty, private directory.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        Ok(Self { fd: file.into(), made: HashSet::new(), times: Vec::new() })
    }

    /// Unpacks one layer's plain tar bytes.
    pub(crate) fn apply(&mut self, layer: &mut dyn Read) -> Result<(), UnpackError> {
        self.made.clear();
        self.times.clear();
        let mut archive = Archive::new(&mut *layer);
        let broken = |cause: io::Error| UnpackError { path: String::new(), why: cause.to_string() };
        while let Some(entry) = archive.next_entry().map_err(UnpackError::of)? {
            self.entry(&entry, archive.content())
                .map_err(|cause| UnpackError { path: shown(&entry.path), why: told(&cause) })?;
        }
        for (path, time) in std::mem::take(&mut self.times) {
            // A directory that a later entry replaced has no times to set.
            if let Ok(directory) = self.directory(&path) {
                let _gone_meanwhile = utimensat(&directory, ".", &time, &time, UtimensatFlags::FollowSymlink);
            }
        }
        // What follows the archive's end belongs to the layer all the same: its digest covers it.
        io::copy(layer, &mut io::sink()).map_err(broken)?;
        Ok(())
    }

    fn entry(&mut self, entry: &Entry, content: Content<'_, impl Read>) -> io::Result<()> {
        let path = normal(Path::new(OsStr::from_bytes(&entry.path)))?;
        let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
            return self.describe_root(entry);
        };
        let directory = self.make_directories(parent)?;
        let bytes = name.as_bytes();
        if bytes == OPAQUE {
            return tree::clear(directory.as_fd(), &self.made);
        }
        if bytes.starts_with(RESERVED) {
            return Ok(());
        }
        if let Some(hidden) = bytes.strip_prefix(WHITEOUT) {
            return self.hide(&directory, OsStr::from_bytes(hidden));
        }
        self.make(entry, content, &directory, name, &path)
    }

    /// A whiteout: takes away what lower layers have under this name.
    fn hide(&self, directory: &OwnedFd, name: &OsStr) -> io::Result<()> {
        if name.is_empty() || name == "." || name == ".." {
            return Err(invalid("a whiteout of no name"));
        }
        match fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => Ok(()),
            Err(cause) => Err(cause.into()),
            Ok(there) if self.made.contains(&there.st_ino) => Ok(()),
            Ok(_) => tree::remove(directory.as_fd(), name),
        }
    }

    fn make(
        &mut self,
        entry: &Entry,
        mut content: Content<'_, impl Read>,
        directory: &OwnedFd,
        name: &OsStr,
        path: &Path,
    ) -> io::Result<()> {
        // Archives of before POSIX tell directories by the end of their name.
        let kind = match entry.kind {
            EntryType::Regular if entry.path.ends_with(b"/") => EntryType::Directory,
            kind => kind,
        };
        let there = match fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(there) => Some(SFlag::from_bits_truncate(there.st_mode) & SFlag::S_IFMT),
            Err(Errno::ENOENT) => None,
            Err(cause) => return Err(cause.into()),
        };
        let keep = kind == EntryType::Directory && there == Some(SFlag::S_IFDIR);
        if there.is_some() && !keep {
            tree::remove(directory.as_fd(), name)?;
        }
        let private = Mode::S_IRUSR | Mode::S_IWUSR;
        match kind {
            EntryType::Directory if keep => {}
            EntryType::Directory => mkdirat(directory, name, private | Mode::S_IXUSR)?,
            EntryType::Regular | EntryType::Continuous => {
                let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW;
                let file = openat(directory, name, flags | OFlag::O_CLOEXEC, private)?;
                let mut file = File::from(file);
                io::copy(&mut content, &mut file)?;
                // The kernel takes a capability away from a file that changes owner, so the owner is first.
                own(directory, name, entry)?;
                attributes(&file, entry)?;
            }
            EntryType::Symlink if entry.link.is_empty() => return Err(invalid("a link to nothing")),
            EntryType::Symlink => symlinkat(OsStr::from_bytes(&entry.link), directory, name)?,
            EntryType::Link => return self.link(entry, directory, name),
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let (major, minor) = entry.device;
                let device = makedev(major.into(), minor.into());
                let kind = match kind {
                    EntryType::Char => SFlag::S_IFCHR,
                    EntryType::Block => SFlag::S_IFBLK,
                    _ => SFlag::S_IFIFO,
                };
                mknodat(directory, name, kind, private, device)?;
            }
            other => return Err(invalid(&format!("an entry of kind {other:?}"))),
        }
        self.describe(entry, kind, directory, name, path)
    }

    /// A hard link, within the root.
    fn link(&mut self, entry: &Entry, directory: &OwnedFd, name: &OsStr) -> io::Result<()> {
        let target = normal(Path::new(OsStr::from_bytes(&entry.link)))?;
        let (Some(last), Some(parent)) = (target.file_name(), target.parent()) else {
            return Err(invalid("a link to the root"));
        };
        let from = self.directory(parent)?;
        linkat(&from, last, directory, name, LinkatFlags::empty())?;
        self.note(directory, name)
    }

    /// Owner, mode and times of what was just made.
    fn describe(
        &mut self,
        entry: &Entry,
        kind: EntryType,
        directory: &OwnedFd,
        name: &OsStr,
        path: &Path,
    ) -> io::Result<()> {
        if !matches!(kind, EntryType::Regular | EntryType::Continuous) {
            own(directory, name, entry)?;
        }
        if kind != EntryType::Symlink {
            // After the owner, which takes set-user-id bits away. What was just made is no symbolic link.
            fchmodat(directory, name, mode(entry), FchmodatFlags::FollowSymlink)?;
        }
        let time = time(entry);
        if kind == EntryType::Directory {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            attributes(&File::from(openat(directory, name, flags, Mode::empty())?), entry)?;
            self.times.push((path.to_owned(), time));
        } else {
            utimensat(directory, name, &time, &time, UtimensatFlags::NoFollowSymlink)?;
        }
        self.note(directory, name)
    }

    fn describe_root(&mut self, entry: &Entry) -> io::Result<()> {
        if entry.kind != EntryType::Directory {
            return Err(invalid("the root is not a directory"));
        }
        fchownat(&self.fd, ".", Some(entry.uid.into()), Some(entry.gid.into()), AtFlags::empty())?;
        fchmodat(&self.fd, ".", mode(entry), FchmodatFlags::FollowSymlink)?;
        self.times.push((PathBuf::new(), time(entry)));
        Ok(())
    }

    fn note(&mut self, directory: &OwnedFd, name: &OsStr) -> io::Result<()> {
        self.made.insert(fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)?.st_ino);
        Ok(())
    }

    /// An existing directory within the root; symbolic links are followed as within a root of their own.
    fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        Ok(openat2(&self.fd, path, how)?)
    }

    /// As [`Self::directory`], making what is missing.
    fn make_directories(&mut self, path: &Path) -> io::Result<OwnedFd> {
        match self.directory(path) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let above = self.make_directories(parent)?;
        match mkdirat(&above, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) => self.note(&above, name)?,
            // A symbolic link to nowhere is in the way.
            Err(Errno::EEXIST) => {
                tree::remove(above.as_fd(), name)?;
                mkdirat(&above, name, Mode::from_bits_truncate(0o755))?;
            }
            Err(cause) => return Err(cause.into()),
        }
        self.directory(path)
    }
}

fn own(directory: &OwnedFd, name: &OsStr, entry: &Entry) -> io::Result<()> {
    let (user, group) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    Ok(fchownat(directory, name, Some(user), Some(group), AtFlags::AT_SYMLINK_NOFOLLOW)?)
}

fn mode(entry: &Entry) -> Mode {
    Mode::from_bits_truncate(entry.mode.into())
}

fn time(entry: &Entry) -> TimeSpec {
    TimeSpec::new(entry.mtime, 0)
}

/// Sets extended attributes. Those of users are left out where the guest's memory has none (tmpfs before Linux 6.6);
/// capabilities and labels are not.
fn attributes(file: &File, entry: &Entry) -> io::Result<()> {
    for (name, value) in &entry.xattrs {
        match file.set_xattr(OsStr::from_bytes(name), value) {
            Err(cause) if name.starts_with(b"user.") && cause.kind() == io::ErrorKind::Unsupported => {}
            done => done?,
        }
    }
    Ok(())
}

/// The path without `.` and doubled slashes, relative to the root. `..` is in no honest archive.
fn normal(path: &Path) -> io::Result<PathBuf> {
    let mut normal = PathBuf::new();
    let mut depth = 0_usize;
    for part in path.components() {
        match part {
            std::path::Component::Normal(part) => normal.push(part),
            std::path::Component::RootDir | std::path::Component::CurDir => continue,
            std::path::Component::ParentDir => return Err(invalid("the path leads upwards (..)")),
            std::path::Component::Prefix(_) => return Err(invalid("the path has a prefix")),
        }
        depth = depth.saturating_add(1);
    }
    if depth > MAX_DEPTH { Err(invalid("the path is deeper than 256 directories")) } else { Ok(normal) }
}

impl UnpackError {
    fn of(cause: TarError) -> Self {
        match cause {
            TarError::Entry { path, why } => Self { path, why },
            TarError::Io(cause) => Self { path: String::new(), why: told(&cause) },
        }
    }
}

/// The cause, with what to do where the guest's memory is full.
fn told(cause: &io::Error) -> String {
    match cause.kind() {
        io::ErrorKind::StorageFull => {
            "the guest's memory has no room for the image's files; give the guest more, or \
             seal the image as blocks, which need none"
                .into()
        }
        _ => cause.to_string(),
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests;

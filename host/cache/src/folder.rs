//! The folder: where blobs lie, who holds them, and who goes when there is no room.
//!
//! `blobs/<algorithm>/<hex>` are whole blobs, as in an OCI image layout; `partial/` has downloads, each with a map of
//! its pieces. Whoever uses a blob has a shared `flock` on its data, which follows the file when it becomes whole;
//! `lock` is locked for every change of the folder, for short.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use coffer_core_digest::{Algorithm, Digest, Hasher};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::libc;

use crate::CacheError;
use crate::pieces::Pieces;

/// Bytes that are hashed at a time.
const CHUNK: usize = 1 << 20;
/// What names of files that are being written begin with.
const UNFINISHED: &str = "tmp-";
const MAP: &str = "map";

/// What is in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The blob.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// How many of them are there.
    pub present: u64,
    /// Whether somebody holds it now.
    pub held: bool,
    /// When it was last asked for.
    pub used: SystemTime,
}

/// A blob's files, open and held.
pub(crate) enum Opened {
    Whole(File),
    Partial(File, Pieces),
}

pub(crate) struct Folder {
    root: PathBuf,
    bound: u64,
}

/// A file of the cache, as it was found.
struct Found {
    digest: Digest,
    path: PathBuf,
    map: Option<PathBuf>,
    size: u64,
    used: SystemTime,
}

impl Folder {
    pub(crate) fn open(root: &Path, bound: u64) -> Result<Self, CacheError> {
        let folder = Self { root: root.to_owned(), bound };
        for path in [root.to_owned(), folder.blobs(Algorithm::Sha256), folder.partial()] {
            make_folder(&path)?;
        }
        let _lock = folder.lock()?;
        for name in names(&folder.partial())? {
            // Under the lock nobody is writing, so what is unfinished stays so.
            if name.starts_with(UNFINISHED) {
                remove(&folder.partial().join(name))?;
            }
        }
        Ok(folder)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs(digest.algorithm()).join(digest.hex())
    }

    pub(crate) fn partial_path(&self, digest: &Digest, size: u64) -> PathBuf {
        self.partial().join(format!("{}-{}-{size}", digest.algorithm(), digest.hex()))
    }

    /// Opens a whole blob and holds it.
    pub(crate) fn whole(&self, digest: &Digest) -> Result<Option<File>, CacheError> {
        let _lock = self.lock()?;
        self.whole_locked(digest)
    }

    /// Opens a blob and holds it; one that is not there gets its place.
    pub(crate) fn open_blob(&self, digest: &Digest, size: u64, piece: u64) -> Result<Opened, CacheError> {
        let _lock = self.lock()?;
        if let Some(file) = self.whole_locked(digest)? {
            let found = file.metadata().map_err(CacheError::file("look at", &self.blob_path(digest)))?.len();
            return match found == size {
                true => Ok(Opened::Whole(file)),
                false => Err(CacheError::Size { digest: *digest, expected: size, found }),
            };
        }
        let path = self.partial_path(digest, size);
        let map_path = path.with_extension(MAP);
        let there = path.exists();
        if !there {
            self.make_room(digest, size.saturating_add(Pieces::length(size, piece)))?;
            // Without its data a map says nothing.
            remove(&map_path)?;
        }
        let data = open_new(&path)?;
        hold(&data, &path)?;
        if let Err(error) = self.reserve(&data, &path, size) {
            if !there {
                remove(&path)?;
            }
            return Err(error);
        }
        let map = open_new(&map_path)?;
        let pieces = Pieces::open(map, size, piece).map_err(CacheError::file("write", &map_path))?;
        sync_folder(&self.partial())?;
        Ok(Opened::Partial(data, pieces))
    }

    /// Makes a download whole. `data` is the open download, whose digest was found to be right.
    pub(crate) fn keep(&self, digest: &Digest, size: u64, data: &File) -> Result<(), CacheError> {
        let _lock = self.lock()?;
        let (from, to) = (self.partial_path(digest, size), self.blob_path(digest));
        make_folder(&self.blobs(digest.algorithm()))?;
        data.set_permissions(Permissions::from_mode(0o400)).map_err(CacheError::file("change", &from))?;
        data.sync_all().map_err(CacheError::file("write", &from))?;
        fs::rename(&from, &to).map_err(CacheError::file("move", &from))?;
        remove(&from.with_extension(MAP))?;
        sync_folder(&self.blobs(digest.algorithm()))?;
        sync_folder(&self.partial())
    }

    /// Throws a download away.
    pub(crate) fn discard(&self, digest: &Digest, size: u64) -> Result<(), CacheError> {
        let _lock = self.lock()?;
        let path = self.partial_path(digest, size);
        remove(&path)?;
        remove(&path.with_extension(MAP))
    }

    /// Whether an open download is the whole blob by now, because another process made it so.
    pub(crate) fn is_kept(&self, digest: &Digest, data: &File) -> bool {
        let same =
            |own: fs::Metadata, there: fs::Metadata| (own.dev(), own.ino()) == (there.dev(), there.ino());
        match (data.metadata(), fs::symlink_metadata(self.blob_path(digest))) {
            (Ok(own), Ok(there)) => same(own, there),
            _ => false,
        }
    }

    /// Puts in what is small and known already.
    pub(crate) fn put(&self, digest: &Digest, bytes: &[u8]) -> Result<File, CacheError> {
        let _lock = self.lock()?;
        if let Some(file) = self.whole_locked(digest)? {
            return Ok(file);
        }
        self.make_room(digest, bytes.len() as u64)?;
        make_folder(&self.blobs(digest.algorithm()))?;
        let from = self.partial().join(format!("{UNFINISHED}{}", digest.hex()));
        let to = self.blob_path(digest);
        let mut file = open_new(&from)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        let written = written.and_then(|()| file.set_permissions(Permissions::from_mode(0o400)));
        if let Err(error) = written {
            remove(&from)?;
            return Err(CacheError::file("write", &from)(error));
        }
        hold(&file, &from)?;
        fs::rename(&from, &to).map_err(CacheError::file("move", &from))?;
        sync_folder(&self.blobs(digest.algorithm()))?;
        Ok(file)
    }

    /// Everything, the last used first.
    pub(crate) fn list(&self, piece: u64) -> Result<Vec<Entry>, CacheError> {
        let _lock = self.lock()?;
        let entry = |found: Found| {
            let present = match &found.map {
                None => found.size,
                Some(map) => File::open(map)
                    .ok()
                    .and_then(|file| Pieces::open(file, found.size, piece).ok())
                    .and_then(|pieces| pieces.present().ok())
                    .unwrap_or_default(),
            };
            let held = is_held(&found.path);
            Entry { digest: found.digest, size: found.size, present, held, used: found.used }
        };
        let mut entries: Vec<Entry> = self.found()?.into_iter().map(entry).collect();
        entries.reverse();
        Ok(entries)
    }

    /// Removes what nobody holds, the longest unused first, until not more than `bound` bytes are left.
    pub(crate) fn prune(&self, bound: u64) -> Result<Vec<Digest>, CacheError> {
        let _lock = self.lock()?;
        let mut held: u64 = self.found()?.iter().map(|found| found.size).sum();
        let mut gone = Vec::new();
        while held > bound {
            let Some(found) = self.evict()? else { break };
            held = held.saturating_sub(found.size);
            gone.push(found.digest);
        }
        Ok(gone)
    }

    /// Removes a whole blob, though somebody may hold it: they keep their open file.
    pub(crate) fn remove_whole(&self, digest: &Digest) -> Result<(), CacheError> {
        let _lock = self.lock()?;
        remove(&self.blob_path(digest))
    }

    /// Bytes that the files take.
    pub(crate) fn size(&self) -> Result<u64, CacheError> {
        Ok(self.found()?.iter().map(|found| found.size).sum())
    }

    fn whole_locked(&self, digest: &Digest) -> Result<Option<File>, CacheError> {
        let path = self.blob_path(digest);
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(CacheError::file("open", &path)(error)),
        };
        hold(&file, &path)?;
        Ok(Some(file))
    }

    /// Makes room for a blob that is to come.
    fn make_room(&self, digest: &Digest, needed: u64) -> Result<(), CacheError> {
        let bound = self.bound;
        if needed > bound {
            return Err(CacheError::TooLarge { digest: *digest, size: needed, bound });
        }
        loop {
            let held = self.size()?;
            if held.saturating_add(needed) <= bound {
                return Ok(());
            }
            if self.evict()?.is_none() {
                return Err(CacheError::Full { held, needed, bound });
            }
        }
    }

    /// Takes the disk's space for a blob before anything is fetched, and what nobody holds makes way.
    fn reserve(&self, data: &File, path: &Path, size: u64) -> Result<(), CacheError> {
        let length = libc::off_t::try_from(size)
            .map_err(|_| CacheError::file("reserve", path)(io::ErrorKind::FileTooLarge.into()))?;
        loop {
            match fallocate(data, FallocateFlags::empty(), 0, length) {
                Ok(()) => return Ok(()),
                Err(Errno::EINTR) => {}
                // Some file systems cannot; there a full disk is found when it is full.
                Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => {
                    return data.set_len(size).map_err(CacheError::file("reserve", path));
                }
                Err(error) => {
                    if error != Errno::ENOSPC || self.evict()?.is_none() {
                        return Err(CacheError::file("reserve", path)(error.into()));
                    }
                }
            }
        }
    }

    /// Removes the longest unused that nobody holds: a whole blob, and without any a download.
    fn evict(&self) -> Result<Option<Found>, CacheError> {
        let (partial, whole): (Vec<Found>, Vec<Found>) =
            self.found()?.into_iter().partition(|found| found.map.is_some());
        for found in whole.into_iter().chain(partial) {
            if is_held(&found.path) {
                continue;
            }
            remove(&found.path)?;
            if let Some(map) = &found.map {
                remove(map)?;
            }
            return Ok(Some(found));
        }
        Ok(None)
    }

    /// Everything, the longest unused first.
    fn found(&self) -> Result<Vec<Found>, CacheError> {
        let mut all = Vec::new();
        let algorithms = names(&self.root.join("blobs"))?;
        for algorithm in algorithms.iter().filter_map(|name| name.parse::<Algorithm>().ok()) {
            for name in names(&self.blobs(algorithm))? {
                let Ok(digest) = format!("{algorithm}:{name}").parse() else { continue };
                let path = self.blobs(algorithm).join(name);
                let Ok(data) = fs::symlink_metadata(&path) else { continue };
                let used = data.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                all.push(Found { digest, path, map: None, size: data.len(), used });
            }
        }
        for name in names(&self.partial())? {
            let mut words = name.split('-');
            let (Some(algorithm), Some(hex), Some(size)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            let (Ok(digest), Ok(size)) = (format!("{algorithm}:{hex}").parse(), size.parse()) else {
                continue;
            };
            let path = self.partial().join(&name);
            let Ok(data) = fs::symlink_metadata(&path) else { continue };
            let used = data.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            all.push(Found { digest, map: Some(path.with_extension(MAP)), path, size, used });
        }
        all.sort_by_key(|found| found.used);
        Ok(all)
    }

    fn lock(&self) -> Result<File, CacheError> {
        let path = self.root.join("lock");
        let file = open_new(&path)?;
        file.lock().map_err(CacheError::file("lock", &path))?;
        Ok(file)
    }

    fn blobs(&self, algorithm: Algorithm) -> PathBuf {
        self.root.join("blobs").join(algorithm.name())
    }

    fn partial(&self) -> PathBuf {
        self.root.join("partial")
    }
}

/// The digest of an open file's first `size` bytes.
pub(crate) fn digest_of(file: &File, algorithm: Algorithm, size: u64) -> io::Result<Digest> {
    let mut hasher = Hasher::new(algorithm);
    let mut piece = vec![0; CHUNK];
    let mut at = 0;
    while at < size {
        let length = usize::try_from(size - at).unwrap_or(CHUNK).min(CHUNK);
        let part = piece.get_mut(..length).unwrap_or_default();
        file.read_exact_at(part, at)?;
        hasher.update(part);
        at += length as u64;
    }
    Ok(hasher.finish())
}

/// Says that the blob is used, from now until the file is closed.
fn hold(file: &File, path: &Path) -> Result<(), CacheError> {
    file.lock_shared().map_err(CacheError::file("hold", path))?;
    file.set_modified(SystemTime::now()).map_err(CacheError::file("touch", path))
}

/// Whether somebody uses it. Only asked under the folder's lock, under which nobody begins to.
fn is_held(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file.try_lock().is_err())
}

fn open_new(path: &Path) -> Result<File, CacheError> {
    let flags = libc::O_NOFOLLOW;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
    options.open(path).map_err(CacheError::file("open", path))
}

/// Ciphertext, but others need not know which images run here.
fn make_folder(path: &Path) -> Result<(), CacheError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(CacheError::file("make", path))
}

fn sync_folder(path: &Path) -> Result<(), CacheError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(CacheError::file("write", path))
}

fn remove(path: &Path) -> Result<(), CacheError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(CacheError::file("remove", path)(error)),
        _ => Ok(()),
    }
}

fn names(path: &Path) -> Result<Vec<String>, CacheError> {
    let read = fs::read_dir(path).and_then(|entries| {
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    });
    read.map_err(CacheError::file("read", path))
}

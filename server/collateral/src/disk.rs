//! The cache's folder: one file per key, each written whole under another name and then renamed.
//!
//! A file that is cut, changed or not ours counts as absent. A process that is killed leaves at most a file with a
//! temporary name, which the next one removes. Several processes may use one folder: a name always shows one whole
//! file or none.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use coffer_verify_api::CollateralKey;
use jiff::Timestamp;

use crate::error::CacheError;
use crate::kept::{self, About, Kept};

const SUFFIX: &str = ".doc";
const TEMPORARY: &str = ".new-";
/// A temporary file of another process may be in use; after this long it is not.
const ABANDONED_S: u64 = 600;

/// The folder.
pub(crate) struct Disk {
    folder: PathBuf,
    limit: u64,
    index: Mutex<BTreeMap<CollateralKey, Entry>>,
    counter: AtomicU64,
}

#[derive(Clone)]
struct Entry {
    about: About,
    file: u64,
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CacheError {
    let path = path.to_path_buf();
    move |source| CacheError::File { what, path, source }
}

impl Disk {
    pub(crate) fn open(folder: &Path, limit: u64) -> Result<Self, CacheError> {
        let mut builder = fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(folder).map_err(failed("cannot make", folder))?;
        let disk =
            Self { folder: folder.to_path_buf(), limit, index: Mutex::default(), counter: AtomicU64::new(0) };
        disk.scan()?;
        Ok(disk)
    }

    fn scan(&self) -> Result<(), CacheError> {
        let mut index = BTreeMap::new();
        let entries = fs::read_dir(&self.folder).map_err(failed("cannot read", &self.folder))?;
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = entry.path();
            if name.starts_with(TEMPORARY) {
                let age =
                    entry.metadata().and_then(|data| data.modified()).ok().and_then(|at| at.elapsed().ok());
                if age.is_none_or(|age| age.as_secs() >= ABANDONED_S) || is_abandoned(&name) {
                    let _ = fs::remove_file(&path);
                }
                continue;
            }
            if !name.ends_with(SUFFIX) {
                continue;
            }
            let read = start(&path).ok().and_then(|bytes| kept::about_of(&bytes));
            match (read, entry.metadata()) {
                (Some(about), Ok(data)) if file_name(&about.key) == name => {
                    index.insert(about.key.clone(), Entry { about, file: data.len() });
                }
                _ => tracing::warn!(
                    file = name,
                    "a file in the collateral cache is not whole; it counts as absent"
                ),
            }
        }
        *self.index() = index;
        Ok(())
    }

    fn index(&self) -> std::sync::MutexGuard<'_, BTreeMap<CollateralKey, Entry>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, key: &CollateralKey) -> PathBuf {
        self.folder.join(file_name(key))
    }

    /// The document, if its file is whole.
    pub(crate) fn read(&self, key: &CollateralKey) -> Option<Kept> {
        let path = self.path(key);
        let file = File::open(&path).ok()?;
        let mut bytes = Vec::new();
        file.take(self.limit.saturating_add(1)).read_to_end(&mut bytes).ok()?;
        let kept = Kept::from_file(&bytes).filter(|kept| kept.about.key == *key);
        match &kept {
            Some(kept) => {
                let entry = Entry { about: kept.about.clone(), file: bytes.len() as u64 };
                self.index().insert(key.clone(), entry);
            }
            None => {
                self.index().remove(key);
                tracing::warn!(key = %key, "a file in the collateral cache is damaged; it counts as absent");
            }
        }
        kept
    }

    /// Writes it whole, after making room. Durable when this returns.
    pub(crate) fn write(&self, kept: &Kept) -> Result<(), CacheError> {
        let path = self.path(&kept.about.key);
        let bytes = kept.to_file().map_err(|error| failed("cannot write", &path)(error.into()))?;
        self.make_room(&kept.about.key, bytes.len() as u64)?;
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let temporary = self.folder.join(format!("{TEMPORARY}{}-{number}", std::process::id()));
        let written = write_whole(&temporary, &path, &bytes);
        if let Err(error) = written {
            let _ = fs::remove_file(&temporary);
            return Err(failed("cannot write", &path)(error));
        }
        let entry = Entry { about: kept.about.clone(), file: bytes.len() as u64 };
        self.index().insert(kept.about.key.clone(), entry);
        // The name must outlive a power cut, too.
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(failed("cannot sync", &self.folder))
    }

    /// Removes fetched documents, the oldest first, until there is room. Imported ones stay.
    fn make_room(&self, key: &CollateralKey, needed: u64) -> Result<(), CacheError> {
        let mut index = self.index();
        let others = |index: &BTreeMap<CollateralKey, Entry>| -> u64 {
            index.iter().filter(|(other, _)| *other != key).map(|(_, entry)| entry.file).sum()
        };
        while others(&index).saturating_add(needed) > self.limit {
            let oldest: Option<(Timestamp, CollateralKey)> = index
                .iter()
                .filter(|(other, entry)| *other != key && !entry.about.imported)
                .map(|(other, entry)| (entry.about.fetched, other.clone()))
                .min();
            let Some((_, oldest)) = oldest else {
                let kept = others(&index);
                return Err(CacheError::Full { found: needed, limit: self.limit, kept });
            };
            let _ = fs::remove_file(self.path(&oldest));
            index.remove(&oldest);
            tracing::info!(key = %oldest, "collateral was removed from the cache to make room");
        }
        Ok(())
    }

    pub(crate) fn remove(&self, key: &CollateralKey) -> Result<bool, CacheError> {
        let path = self.path(key);
        self.index().remove(key);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("cannot remove", &path)(error)),
        }
    }

    /// What there is, in the order of the keys; the folder is looked at again, for other processes' sake.
    pub(crate) fn list(&self) -> Result<Vec<About>, CacheError> {
        self.scan()?;
        Ok(self.index().values().map(|entry| entry.about.clone()).collect())
    }
}

/// A temporary name of a process that is no more.
fn is_abandoned(name: &str) -> bool {
    let process = name.strip_prefix(TEMPORARY).and_then(|rest| rest.split('-').next());
    let alive = |process: &str| Path::new("/proc").join(process).exists();
    process.is_none_or(|process| !alive(process))
}

fn start(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(kept::START as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn write_whole(temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).open(temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(temporary, path)
}

/// A key's text has no `+`, and `/` only between its parts, so the name says the key and stays in the folder.
fn file_name(key: &CollateralKey) -> String {
    format!("{}{SUFFIX}", key.to_string().replace('/', "+"))
}

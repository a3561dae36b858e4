//! Where files stand until everything was verified, and what becomes of them.
//!
//! INVARIANT: plaintext stands in a folder that is its user's alone until it gets its place. A folder that a killed run
//! left is taken up or removed by the next run for the same destination; a lock says whether its run still lives.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use coffer_core_digest::Digest;
use coffer_core_sealed_stream::{FileEntry, Manifest};

use crate::ModelError;
use crate::error::at;

const FILES: &str = "files";
const JOURNAL: &str = "journal";
/// The number in the journal has as many digits.
const DIGITS: usize = 20;

/// Where a model's files go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A folder that does not exist and appears when everything was verified.
    New(PathBuf),
    /// A folder that may exist, as a mounted volume does. What an earlier run of the same model put there is replaced;
    /// anything else in it is refused. Files get their places one by one when everything was verified.
    Into(PathBuf),
}

/// What becomes of verified plaintext when an opening does not come to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Partial {
    /// It is removed, by this run or, if that was killed, by the next one.
    #[default]
    Remove,
    /// It stays in a private folder, and the next run goes on from there.
    Keep,
}

impl Destination {
    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::New(path) | Self::Into(path) => path,
        }
    }

    /// Whether the model could stand there.
    fn check(&self, manifest: &Manifest, own: &Path) -> Result<(), ModelError> {
        match self {
            Self::New(path) if fs::symlink_metadata(path).is_ok() => {
                Err(ModelError::Exists { path: path.clone() })
            }
            Self::New(_) => Ok(()),
            Self::Into(folder) => {
                fs::create_dir_all(folder).map_err(at(folder))?;
                let names = top_names(manifest);
                for entry in fs::read_dir(folder).map_err(at(folder))? {
                    let path = entry.map_err(at(folder))?.path();
                    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                    // Some file systems have one at their root.
                    let known = path == own || name == "lost+found" || names.contains(name);
                    if !known {
                        return Err(ModelError::Foreign { path });
                    }
                }
                Ok(())
            }
        }
    }

    fn workplace(&self) -> PathBuf {
        let name = self.path().file_name().map(|name| name.as_encoded_bytes().to_vec()).unwrap_or_default();
        let short: String = Digest::sha256(&name).hex().chars().take(16).collect();
        let folder = match self {
            Self::New(path) => parent(path),
            Self::Into(path) => path,
        };
        folder.join(format!(".coffer-opening-{short}"))
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn top_names(manifest: &Manifest) -> BTreeSet<&str> {
    manifest.files().iter().filter_map(|file| file.path().as_str().split('/').next()).collect()
}

/// A private folder beside (or in) the destination.
pub(crate) struct Workplace {
    path: PathBuf,
    destination: Destination,
    journal: File,
    partial: Partial,
    done: u64,
}

impl Workplace {
    /// Takes up what a run for the same statement kept, or begins anew.
    pub(crate) fn enter(
        destination: &Destination,
        partial: Partial,
        statement: &Digest,
        manifest: &Manifest,
    ) -> Result<Self, ModelError> {
        let path = destination.workplace();
        destination.check(manifest, &path)?;
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                let data = fs::symlink_metadata(&path).map_err(at(&path))?;
                let private = data.permissions().mode() & 0o077 == 0;
                if !data.is_dir() || !private || data.uid() != nix::unistd::geteuid().as_raw() {
                    return Err(ModelError::Leftover { path });
                }
            }
            made => made.map_err(at(&path))?,
        }
        let name = path.join(JOURNAL);
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true).mode(0o600);
        let journal = options.open(&name).map_err(at(&name))?;
        if journal.try_lock().is_err() {
            return Err(ModelError::Busy { path: destination.path().into() });
        }
        let mut own = Self { path, destination: destination.clone(), journal, partial, done: 0 };
        let kept = own.kept(statement);
        match (partial, kept) {
            (Partial::Keep, Some(done)) => own.done = done,
            _ => own.begin_anew(statement)?,
        }
        Ok(own)
    }

    /// How many runs of segments were opened before, if they were of this statement.
    fn kept(&self, statement: &Digest) -> Option<u64> {
        let text = fs::read_to_string(self.path.join(JOURNAL)).ok()?;
        let (digest, done) = text.split_once('\n')?;
        if digest != statement.to_string() || done.len() != DIGITS { None } else { done.parse().ok() }
    }

    /// Throws away what is there.
    pub(crate) fn begin_anew(&mut self, statement: &Digest) -> Result<(), ModelError> {
        let files = self.files();
        match fs::remove_dir_all(&files) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(at(&files)(error)),
            _ => {}
        }
        fs::DirBuilder::new().mode(0o700).create(&files).map_err(at(&files))?;
        self.done = 0;
        let text = format!("{statement}\n{:020}", 0);
        let name = self.path.join(JOURNAL);
        self.journal
            .set_len(0)
            .and_then(|()| self.journal.write_all_at(text.as_bytes(), 0))
            .map_err(at(&name))
    }

    /// How many runs of segments an earlier run of the program opened.
    pub(crate) fn done(&self) -> u64 {
        self.done
    }

    /// Says that as many runs of segments are there.
    pub(crate) fn note(&self, statement: &Digest, done: u64) -> Result<(), ModelError> {
        let text = format!("{done:020}");
        let place = statement.to_string().len() as u64 + 1;
        self.journal.write_all_at(text.as_bytes(), place).map_err(at(&self.path.join(JOURNAL)))
    }

    /// Opens a file to write into, and to read what is kept.
    pub(crate) fn file(&self, entry: &FileEntry) -> Result<File, ModelError> {
        // A path of a manifest is relative and has no `..`, and nobody else can make a link in here.
        let path = self.files().join(entry.path().as_str());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(at(folder))?;
        }
        let mode = if entry.executable() { 0o755 } else { 0o644 };
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true).mode(mode);
        options.open(&path).map_err(at(&path))
    }

    fn files(&self) -> PathBuf {
        self.path.join(FILES)
    }

    /// Whether what is there stays there when this goes away.
    pub(crate) fn keep_if(&mut self, worth: bool) {
        if !worth {
            self.partial = Partial::Remove;
        }
    }

    /// Gives the files their place.
    pub(crate) fn commit(mut self, manifest: &Manifest) -> Result<(), ModelError> {
        let sync = |path: &Path| File::open(path).and_then(|folder| folder.sync_all()).map_err(at(path));
        let files = self.files();
        sync(&files)?;
        self.destination.check(manifest, &self.path)?;
        match &self.destination {
            Destination::New(path) => {
                // A folder that came into being meanwhile is replaced only if it is empty, which loses nothing.
                fs::rename(&files, path).map_err(at(path))?;
                sync(parent(path))?;
            }
            Destination::Into(folder) => {
                for name in top_names(manifest) {
                    let place = folder.join(name);
                    match fs::symlink_metadata(&place) {
                        Ok(data) if data.is_dir() => fs::remove_dir_all(&place).map_err(at(&place))?,
                        Ok(_) => fs::remove_file(&place).map_err(at(&place))?,
                        Err(_) => {}
                    }
                    fs::rename(files.join(name), &place).map_err(at(&place))?;
                    if place.is_dir() {
                        open_to_all(&place)?;
                    }
                }
                sync(folder)?;
            }
        }
        self.partial = Partial::Remove;
        Ok(())
    }
}

/// The server of a model is often another user than who fetched it.
fn open_to_all(folder: &Path) -> Result<(), ModelError> {
    fs::set_permissions(folder, Permissions::from_mode(0o755)).map_err(at(folder))
}

impl Drop for Workplace {
    fn drop(&mut self) {
        if self.partial == Partial::Remove {
            // What cannot be removed is found by the next run.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

//! A folder that appears whole, or not at all.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::{SealError, at};

/// Written beside its destination under another name; removed unless it is committed.
pub(crate) struct Fresh {
    work: TempDir,
    destination: PathBuf,
}

impl Fresh {
    /// Nothing may exist at the destination; its parent must.
    pub(crate) fn create(destination: &Path) -> Result<Self, SealError> {
        if fs::symlink_metadata(destination).is_ok() {
            return Err(SealError::Exists { path: destination.into() });
        }
        let parent = match destination.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        // What is opened is its owner's alone; what is sealed is made readable when it is whole.
        let own = fs::Permissions::from_mode(0o700);
        let work = tempfile::Builder::new().prefix(".coffer-model-").permissions(own).tempdir_in(parent);
        let work = work.map_err(at(parent))?;
        Ok(Self { work, destination: destination.into() })
    }

    /// Where to write.
    pub(crate) fn path(&self) -> &Path {
        self.work.path()
    }

    /// Gives the folder its name. Files in it are synced by their writers.
    pub(crate) fn commit(self) -> Result<(), SealError> {
        let sync = |path: &Path| File::open(path).and_then(|folder| folder.sync_all()).map_err(at(path));
        sync(self.work.path())?;
        // A folder that came into being meanwhile is replaced only if it is empty, which loses nothing.
        fs::rename(self.work.path(), &self.destination).map_err(at(&self.destination))?;
        let _ = self.work.keep();
        match self.destination.parent() {
            Some(parent) if parent != Path::new("") => sync(parent),
            _ => sync(Path::new(".")),
        }
    }
}

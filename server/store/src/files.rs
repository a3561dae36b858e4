//! Files that are made complete or not at all, and private from the first instant.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand;
use coffer_core_secret::SecretBytes;

use crate::StoreError;

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_path_buf();
    move |source| StoreError::File { what, path, source }
}

/// Makes a folder that only its owner may enter, if it is not there.
pub fn create_private_folder(path: &Path) -> Result<(), StoreError> {
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path).map_err(failed("cannot make", path))
}

/// Makes a file of mode 0600 with this content, durably. Fails if it is there; a crash leaves no part of it.
pub fn create_private(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    create(path, content, 0o600)
}

/// As [`create_private`], for a file that everyone may read.
pub fn create_public(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    create(path, content, 0o644)
}

fn create(path: &Path, content: &[u8], mode: u32) -> Result<(), StoreError> {
    let temporary = beside(path)?;
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()
    };
    let made = write().map_err(failed("cannot write", path)).and_then(|()| publish(&temporary, path));
    let _ = std::fs::remove_file(&temporary);
    made
}

/// Gives a finished file its name, unless the name is taken. A link, because a rename would replace.
pub(crate) fn publish(temporary: &Path, path: &Path) -> Result<(), StoreError> {
    std::fs::hard_link(temporary, path).map_err(failed("cannot make", path))?;
    std::fs::remove_file(temporary).map_err(failed("cannot remove", temporary))?;
    sync_folder(path)
}

/// Gives a finished file the name of another one, which is gone then.
pub(crate) fn replace(finished: &Path, path: &Path) -> Result<(), StoreError> {
    std::fs::rename(finished, path).map_err(failed("cannot replace", path))?;
    sync_folder(path)
}

/// Gives a file a second name, which nobody else has.
pub(crate) fn keep_as(path: &Path, second: &Path) -> Result<(), StoreError> {
    std::fs::hard_link(path, second).map_err(failed("cannot make", second))?;
    sync_folder(second)
}

/// Makes the names in a file's folder durable.
fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("cannot make durable", folder))
}

/// A name in the same folder that nobody else uses.
pub(crate) fn beside(path: &Path) -> Result<PathBuf, StoreError> {
    let mut random = [0; 8];
    rand::fill(&mut random).map_err(|_| StoreError::NoRandomness)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(path.with_file_name(format!(".{name}.{}.new", hex::encode(random))))
}

/// Reads a private file, if it is there; refuses one that others may read.
pub fn read_private(path: &Path) -> Result<Option<SecretBytes>, StoreError> {
    let mode = match std::fs::metadata(path) {
        Ok(metadata) => metadata.mode() & 0o7777,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("cannot read", path)(error)),
    };
    if mode & 0o077 != 0 {
        return Err(StoreError::Permissions { path: path.to_path_buf(), mode });
    }
    std::fs::read(path).map(|bytes| Some(SecretBytes::new(bytes))).map_err(failed("cannot read", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_file_is_made_once_and_only_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        create_private(&path, b"one").unwrap();
        assert!(create_private(&path, b"two").is_err());
        assert_eq!(read_private(&path).unwrap().unwrap().expose(), b"one");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file was left");
    }
}

//! A folder on a disk.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coffer_core_digest::Digest;
use coffer_core_sealed_stream::{MAX_ENVELOPE, ReadAt};

use super::{Object, Store, stream_name};
use crate::{ENVELOPE, MANIFEST, SourceError};

pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(path: &Path) -> Self {
        Self(path.into())
    }
}

impl Store for Folder {
    fn name(&self) -> String {
        self.0.display().to_string()
    }

    fn envelope(&self) -> Result<Vec<u8>, SourceError> {
        bounded(&self.0.join(ENVELOPE), MAX_ENVELOPE as u64)
    }

    fn manifest(&self, _: &Digest, size: u64) -> Result<Vec<u8>, SourceError> {
        bounded(&self.0.join(MANIFEST), size)
    }

    fn stream(&self, digest: &Digest, size: u64) -> Result<Arc<dyn Object>, SourceError> {
        whole(&self.0.join(stream_name(digest)), size)
    }

    fn is_remote(&self) -> bool {
        false
    }
}

/// An open file.
pub(super) struct Local(File);

impl ReadAt for Local {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(&self.0, buffer, offset)
    }
}

/// A file that must have this size.
pub(super) fn whole(path: &Path, expected: u64) -> Result<Arc<dyn Object>, SourceError> {
    let file = open(path)?;
    let data = file.metadata().map_err(|source| SourceError::Io { path: path.into(), source })?;
    let found = data.len();
    if !data.is_file() || found != expected {
        let (place, what) = parts(path);
        return Err(SourceError::Length { place, what, expected, found });
    }
    Ok(Arc::new(Local(file)))
}

/// A file and its size.
pub(super) fn found(path: &Path) -> Result<(Arc<dyn Object>, u64), SourceError> {
    let file = open(path)?;
    let size = file.metadata().map_err(|source| SourceError::Io { path: path.into(), source })?.len();
    Ok((Arc::new(Local(file)), size))
}

/// A small file; one byte over the bound is read, so that its reader can refuse it.
pub(super) fn bounded(path: &Path, most: u64) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::new();
    let read = open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|source| SourceError::Io { path: path.into(), source })?;
    Ok(bytes)
}

fn open(path: &Path) -> Result<File, SourceError> {
    File::open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            let (place, what) = parts(path);
            SourceError::NotFound { place, what }
        }
        _ => SourceError::Io { path: path.into(), source },
    })
}

fn parts(path: &Path) -> (String, String) {
    let shown = |part: Option<&Path>| part.map(|part| part.display().to_string()).unwrap_or_default();
    (shown(path.parent()), shown(path.file_name().map(Path::new)))
}

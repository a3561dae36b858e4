//! What can go wrong with a model, in the owner's words.

use std::io;
use std::path::{Path, PathBuf};

use coffer_core_sealed_stream::{ArtifactError, StreamError};

/// Why a model could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Something in the folder cannot be sealed.
    #[error("{} cannot be sealed: {why}", .path.display())]
    Entry {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// There is nothing to seal.
    #[error("{} has no files", .path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// The destination exists.
    #[error("{} exists already; name a folder that does not", .path.display())]
    Exists {
        /// The destination.
        path: PathBuf,
    },
    /// Envelope or manifest cannot be made.
    #[error("{}: {source}", .folder.display())]
    Artifact {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: ArtifactError,
    },
    /// A file of the model cannot be sealed.
    #[error("{file}: {source}")]
    File {
        /// The file's path in the model.
        file: String,
        /// Why.
        #[source]
        source: ArtifactError,
    },
    /// The caller could not sign.
    #[error("the manifest could not be signed: {0}")]
    Signing(String),
    /// There is no room.
    #[error("no space left while writing {}; nothing was left there", .path.display())]
    DiskFull {
        /// The file or folder.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A thread ended early.
    #[error("the work was interrupted")]
    Interrupted,
}

impl SealError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Entry { .. } | Self::Empty { .. } => "model.entry",
            Self::Exists { .. } => "model.exists",
            Self::Artifact { source, .. } | Self::File { source, .. } => source.code(),
            Self::Signing(_) => "model.signing",
            Self::DiskFull { .. } => "model.disk-full",
            Self::Io { .. } => "model.io",
            Self::Interrupted => "model.interrupted",
        }
    }
}

/// Names the file in an I/O error.
pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> SealError {
    let path = path.to_path_buf();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => SealError::DiskFull { path },
        _ => SealError::Io { path, source },
    }
}

/// Names the file of the model, or the file of the disk if it is that which failed.
pub(crate) fn of(file: &str, blob: &Path) -> impl FnOnce(StreamError) -> SealError {
    let (file, blob) = (file.to_owned(), blob.to_path_buf());
    move |error| match error {
        StreamError::Io(error) => at(&blob)(error),
        error => SealError::File { file, source: error.into() },
    }
}

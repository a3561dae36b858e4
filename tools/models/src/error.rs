//! What can go wrong with a model, in the owner's words.

use std::io;
use std::path::{Path, PathBuf};

use coffer_core_digest::Digest;
use coffer_core_sealed_stream::{ArtifactError, StreamError};

/// Why a model could not be sealed, verified or opened.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
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
    /// The folder holds no sealed artifact.
    #[error("{} is not a sealed model: it has no file {name}", .folder.display())]
    NotSealed {
        /// The folder.
        folder: PathBuf,
        /// The file that is missing.
        name: &'static str,
    },
    /// Envelope or manifest is refused.
    #[error("{}: {source}", .folder.display())]
    Artifact {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: ArtifactError,
    },
    /// A file of the model is refused.
    #[error("{file}: {source}")]
    File {
        /// The file's path in the model.
        file: String,
        /// Why.
        #[source]
        source: ArtifactError,
    },
    /// A file of the model is not there.
    #[error("{file} is missing: there is no {}", .blob.display())]
    Missing {
        /// The file's path in the model.
        file: String,
        /// Where its stream should be.
        blob: PathBuf,
    },
    /// A file's stream opens but is not the one that was signed.
    #[error("{file} was replaced by someone who has the key: expected {expected}, found {found}")]
    Replaced {
        /// The file's path in the model.
        file: String,
        /// The digest in the manifest.
        expected: Box<Digest>,
        /// The digest found.
        found: Box<Digest>,
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

impl ModelError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Entry { .. } | Self::Empty { .. } => "model.entry",
            Self::Exists { .. } => "model.exists",
            Self::NotSealed { .. } => "model.not-sealed",
            Self::Missing { .. } => "model.missing",
            Self::Replaced { .. } => "model.replaced",
            Self::Artifact { source, .. } | Self::File { source, .. } => source.code(),
            Self::Signing(_) => "model.signing",
            Self::DiskFull { .. } => "model.disk-full",
            Self::Io { .. } => "model.io",
            Self::Interrupted => "model.interrupted",
        }
    }
}

/// Names the file in an I/O error.
pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> ModelError {
    let path = path.to_path_buf();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ModelError::DiskFull { path },
        _ => ModelError::Io { path, source },
    }
}

/// Names the file of the model, or the file of the disk if it is that which failed.
pub(crate) fn of(file: &str, blob: &Path) -> impl FnOnce(StreamError) -> ModelError {
    let (file, blob) = (file.to_owned(), blob.to_path_buf());
    move |error| match error {
        StreamError::Io(error) => at(&blob)(error),
        error => ModelError::File { file, source: error.into() },
    }
}

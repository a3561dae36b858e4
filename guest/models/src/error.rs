//! What can go wrong between a sealed model and its reader.

use std::io;
use std::path::{Path, PathBuf};

use coffer_core_digest::Digest;
use coffer_core_sealed_stream::{ArtifactError, FileEntry, StreamError};

/// Why a source gave nothing. Never why what it gave is refused.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The text names no source.
    #[error(
        "{text:?} names no source: {why}; expected a folder, https://…, s3://BUCKET/PREFIX, docker://REFERENCE or \
         oci:FOLDER[:TAG]"
    )]
    Place {
        /// The text.
        text: String,
        /// Why.
        why: String,
    },
    /// There is no such object.
    #[error("{place} has no {what}")]
    NotFound {
        /// The source.
        place: String,
        /// The object.
        what: String,
    },
    /// The source wants other credentials.
    #[error("{place} refuses {what} (status {status}); are its credentials there, and may they read?")]
    Refused {
        /// The source.
        place: String,
        /// The object.
        what: String,
        /// The HTTP status.
        status: u16,
    },
    /// The source answered with something else.
    #[error("{place} answered {what} with status {status}")]
    Status {
        /// The source.
        place: String,
        /// The object.
        what: String,
        /// The HTTP status.
        status: u16,
    },
    /// The source could not be reached, or stopped in the middle, as often as it was tried.
    #[error("{place} gave no {what} in {attempts} attempts: {why}")]
    Unreachable {
        /// The source.
        place: String,
        /// The object.
        what: String,
        /// How often it was tried.
        attempts: u32,
        /// The last reason.
        why: String,
    },
    /// The certificate is not one that is trusted.
    #[error("{place} shows a certificate that is not trusted: {why}; name its authority with --ca")]
    Certificate {
        /// The source.
        place: String,
        /// Why.
        why: String,
    },
    /// The server sends whole files only.
    #[error(
        "{place} does not answer range requests; put the files on a server or store that does, or fetch them"
    )]
    NoRanges {
        /// The source.
        place: String,
    },
    /// The object has another length than it must have.
    #[error("{what} of {place} has {found} bytes; expected {expected}")]
    Length {
        /// The source.
        place: String,
        /// The object.
        what: String,
        /// The length that the signed manifest implies.
        expected: u64,
        /// The length found.
        found: u64,
    },
    /// A document that leads to the model is not what it should be.
    #[error("{what} of {place} cannot be used: {why}")]
    Document {
        /// The source.
        place: String,
        /// The document.
        what: String,
        /// Why.
        why: String,
    },
    /// The HTTP client or its credentials cannot be set up.
    #[error("the client for {place} cannot be made: {why}")]
    Client {
        /// The source.
        place: String,
        /// Why.
        why: String,
    },
    /// A file could not be read.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl SourceError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Place { .. } => "source.place",
            Self::NotFound { .. } => "source.missing",
            Self::Refused { .. } => "source.refused",
            Self::Status { .. } => "source.status",
            Self::Unreachable { .. } => "source.unreachable",
            Self::Certificate { .. } => "source.certificate",
            Self::NoRanges { .. } => "source.no-ranges",
            Self::Length { .. } => "source.length",
            Self::Document { .. } => "source.document",
            Self::Client { .. } => "source.client",
            Self::Io { .. } => "source.io",
        }
    }

    /// What a `ReadAt` reports, to be taken out by [`ModelError::of_read`].
    pub(crate) fn into_io(self) -> io::Error {
        match self {
            Self::Io { source, .. } => source,
            own => io::Error::other(own),
        }
    }
}

/// Why a model is refused, or could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The source gave nothing.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// There is no sealed model at the source.
    #[error("{place} is not a sealed model: it has no {name}")]
    NotSealed {
        /// The source.
        place: String,
        /// The object that is missing.
        name: &'static str,
    },
    /// Envelope or manifest is refused.
    #[error("{place}: {source}")]
    Artifact {
        /// The source.
        place: String,
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
    #[error("{file} is missing: {source}")]
    Missing {
        /// The file's path in the model.
        file: String,
        /// What was looked for.
        #[source]
        source: SourceError,
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
    /// The destination exists.
    #[error("{} exists already; name a folder that does not", .path.display())]
    Exists {
        /// The destination.
        path: PathBuf,
    },
    /// The destination holds what is none of the model's.
    #[error("{} is not of this model and would stand among its files; empty the folder", .path.display())]
    Foreign {
        /// What is there.
        path: PathBuf,
    },
    /// Another run is opening a model to the same destination.
    #[error("another run is opening a model to {}; wait for it, or end it", .path.display())]
    Busy {
        /// The destination.
        path: PathBuf,
    },
    /// What an earlier run left there is another's.
    #[error("{} is not a private folder of this user; remove it", .path.display())]
    Leftover {
        /// The folder.
        path: PathBuf,
    },
    /// There is no room.
    #[error("no space left while writing {}", .path.display())]
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
    /// Somebody asked to stop, or a thread ended early.
    #[error("the work was interrupted")]
    Interrupted,
}

impl ModelError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Source(source) => source.code(),
            Self::NotSealed { .. } => "model.not-sealed",
            Self::Missing { .. } => "model.missing",
            Self::Replaced { .. } => "model.replaced",
            Self::Artifact { source, .. } | Self::File { source, .. } => source.code(),
            Self::Exists { .. } => "model.exists",
            Self::Foreign { .. } => "model.foreign",
            Self::Busy { .. } | Self::Leftover { .. } => "model.busy",
            Self::DiskFull { .. } => "model.disk-full",
            Self::Io { .. } => "model.io",
            Self::Interrupted => "model.interrupted",
        }
    }

    /// Whether another try may go better with the same model, so that what was opened is worth keeping.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Source(_) | Self::DiskFull { .. } | Self::Io { .. } | Self::Interrupted)
    }

    /// A source that failed while a file was looked for.
    pub(crate) fn of_source(file: &FileEntry, source: SourceError) -> Self {
        let name = || file.path().to_string();
        match source {
            SourceError::NotFound { .. } => Self::Missing { file: name(), source },
            SourceError::Length { found, .. } => {
                let (layout, last) = (file.layout(), file.layout().segments().saturating_sub(1));
                let short = found < layout.sealed_size();
                let segment = u32::try_from(found / u64::from(layout.segment_size().bytes()));
                let source = match short {
                    true => StreamError::Truncated { segment: segment.unwrap_or(last).min(last) },
                    false => StreamError::Extended { segment: last },
                };
                Self::File { file: name(), source: source.into() }
            }
            source => Self::Source(source),
        }
    }

    /// Names the file in what its stream says.
    pub(crate) fn of_artifact(file: &FileEntry, error: ArtifactError) -> Self {
        match error {
            ArtifactError::Stream(error) => Self::of_read(file, error),
            source => Self::File { file: file.path().to_string(), source },
        }
    }

    /// A stream that failed while a file was read: the stream itself, or its source.
    pub(crate) fn of_read(file: &FileEntry, error: StreamError) -> Self {
        let error = match error {
            StreamError::Io(error) => match error.downcast::<SourceError>() {
                Ok(source) => return Self::of_source(file, source),
                Err(error) => StreamError::Io(error),
            },
            error => error,
        };
        Self::File { file: file.path().to_string(), source: error.into() }
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

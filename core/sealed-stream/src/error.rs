//! Why a stream or an artifact is refused.

use std::io;

use coffer_core_digest::Digest;
use coffer_core_oci::SignatureError;
use coffer_core_secret::NoRandomness;

use crate::{MAX_ENVELOPE, MAX_FILES, MAX_MANIFEST};

/// Why a stream is refused, or could not be made.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The segment size is not one of this format.
    #[error("the segment size is {found}; expected a power of two from 4096 to 1048576")]
    SegmentSize {
        /// The size found.
        found: u64,
    },
    /// More than a stream's counter can number.
    #[error("{size} bytes do not fit into one stream with segments of {segment} bytes; use larger segments")]
    TooLarge {
        /// Bytes of plaintext.
        size: u64,
        /// The segment size.
        segment: u32,
    },
    /// No stream has this length.
    #[error("no sealed stream has {found} bytes; was it cut or lengthened?")]
    SealedSize {
        /// The length found.
        found: u64,
    },
    /// The first byte is not that of a header.
    #[error("this is no sealed stream: its header begins with {found}, expected 40")]
    Header {
        /// The byte found.
        found: u8,
    },
    /// The stream ends early.
    #[error("the stream ends in segment {segment}, before its last segment; fetch it again")]
    Truncated {
        /// The segment, from 0.
        segment: u32,
    },
    /// The stream goes on after its end.
    #[error("bytes follow the stream's last segment, number {segment}; fetch it again")]
    Extended {
        /// The segment, from 0.
        segment: u32,
    },
    /// Nothing of the stream could be opened.
    #[error(
        "the stream does not open: it was sealed with another key, for another file or artifact, or it was changed"
    )]
    WrongKeyOrFile,
    /// One segment is not what was sealed.
    #[error("segment {segment} was changed: its authentication tag does not fit")]
    Corrupt {
        /// The segment, from 0.
        segment: u32,
    },
    /// There is no such segment.
    #[error("there is no segment {segment}; the stream has {segments}")]
    NoSegment {
        /// The segment asked for.
        segment: u32,
        /// How many there are.
        segments: u32,
    },
    /// The buffer does not hold the segment.
    #[error("the buffer has {found} bytes; the segment's plaintext has {expected}")]
    Buffer {
        /// Bytes of the segment.
        expected: usize,
        /// Bytes of the buffer.
        found: usize,
    },
    /// The plaintext is not as long as the manifest says.
    #[error("the stream holds {found} bytes; its manifest says {expected}")]
    Size {
        /// The size in the manifest.
        expected: u64,
        /// The size found.
        found: u64,
    },
    /// Header and tags are not those that the manifest names.
    #[error(
        "the stream is authentic but not the one that its manifest names: expected root {expected}, found {found}"
    )]
    Root {
        /// The root in the manifest.
        expected: Box<Digest>,
        /// The root found.
        found: Box<Digest>,
    },
    /// A reader or writer goes on after it failed.
    #[error("the stream failed before; begin again")]
    Failed,
    /// The bytes could not be read or written.
    #[error("the sealed bytes cannot be read or written: {0}")]
    Io(#[from] io::Error),
    /// Random bytes could not be had.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// The provider failed at a step that does not fail with valid keys.
    #[error("the provider failed at {0}")]
    Provider(&'static str),
}

impl StreamError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::SegmentSize { .. } | Self::TooLarge { .. } => "stream.parameters",
            Self::Header { .. } => "stream.header",
            Self::Truncated { .. } => "stream.truncated",
            Self::Extended { .. } => "stream.extended",
            Self::WrongKeyOrFile => "stream.wrong-key-or-file",
            Self::Corrupt { .. } => "stream.corrupt",
            Self::SealedSize { .. } | Self::Size { .. } => "stream.size",
            Self::Root { .. } => "stream.root",
            Self::NoSegment { .. } | Self::Buffer { .. } | Self::Failed => "stream.misuse",
            Self::Io(_) => "stream.io",
            Self::Randomness(_) | Self::Provider(_) => "stream.provider",
        }
    }
}

impl StreamError {
    /// The stream's own error out of an I/O error that a reader or writer of this crate gave.
    #[must_use]
    pub fn from_read(error: io::Error) -> Self {
        error.downcast::<Self>().unwrap_or_else(Self::Io)
    }
}

/// What `Read` and `Write` can say: the stream's own error inside an I/O error, or the I/O error itself.
impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Io(error) => error,
            StreamError::Truncated { .. } => io::Error::new(io::ErrorKind::UnexpectedEof, error),
            error => io::Error::new(io::ErrorKind::InvalidData, error),
        }
    }
}

/// Why an artifact is refused, or could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// Over the bound.
    #[error("the envelope has {found} bytes; at most {MAX_ENVELOPE} are read")]
    EnvelopeTooLarge {
        /// The length found.
        found: usize,
    },
    /// Not a DSSE envelope of a sealed stream.
    #[error("the envelope is not the signed statement of a sealed artifact: {0}")]
    Envelope(String),
    /// No given key signed it.
    #[error("none of the {keys} given keys signed this artifact, or its statement was changed")]
    Signature {
        /// How many keys were tried.
        keys: usize,
    },
    /// A key that cannot be used.
    #[error(transparent)]
    Key(#[from] SignatureError),
    /// The sealed manifest is not the one that was signed.
    #[error("the sealed manifest is not the one that was signed: expected {expected}, found {found}")]
    Digest {
        /// The digest in the statement.
        expected: Box<Digest>,
        /// The digest found.
        found: Box<Digest>,
    },
    /// Over the bound.
    #[error("the manifest has {found} bytes; at most {MAX_MANIFEST} are read")]
    ManifestTooLarge {
        /// The length found.
        found: u64,
    },
    /// Not JSON, or not that of a manifest or statement.
    #[error("the {what} is not readable: {why}")]
    Form {
        /// `manifest` or `statement`.
        what: &'static str,
        /// What the reader said.
        why: String,
    },
    /// The bytes are not the one form that the value has.
    #[error("the {what} is not in canonical form (RFC 8785); its writer is not one of this format")]
    NotCanonical {
        /// `manifest` or `statement`.
        what: &'static str,
    },
    /// A version that is not known here.
    #[error("the {what} has version {found}; this reader knows only 1")]
    Version {
        /// `manifest` or `statement`.
        what: &'static str,
        /// The version found.
        found: u64,
    },
    /// A path that must not be written anywhere.
    #[error("the path {path:?} is refused: {why}")]
    Path {
        /// The path, shortened.
        path: String,
        /// Why.
        why: &'static str,
    },
    /// Paths are twice there, out of order, or one is the folder of another.
    #[error("the path {path:?} {why}")]
    Paths {
        /// The path, shortened.
        path: String,
        /// What is wrong with it beside the others.
        why: &'static str,
    },
    /// Over the bound.
    #[error("the manifest lists {found} files; at most {MAX_FILES} are read")]
    TooManyFiles {
        /// How many there are.
        found: usize,
    },
    /// A file's sizes contradict each other.
    #[error("{path:?} has {expected} sealed bytes by its size; its manifest says {found}")]
    SealedSize {
        /// The path, shortened.
        path: String,
        /// What the size gives.
        expected: u64,
        /// What the manifest says.
        found: u64,
    },
    /// A root or digest is not SHA-256.
    #[error("{path:?} has a {what} of {found}; expected sha256")]
    Algorithm {
        /// The path, shortened.
        path: String,
        /// `root` or `digest`.
        what: &'static str,
        /// The algorithm found.
        found: coffer_core_digest::Algorithm,
    },
    /// The sealed manifest says other things than the signed statement.
    #[error("the manifest and its signed statement name different {0}")]
    Contradiction(&'static str),
    /// The file does not exist here.
    #[error("the artifact has no file {path:?}; what its manifest does not list does not exist")]
    NotListed {
        /// The path, shortened.
        path: String,
    },
    /// The manifest's own stream is refused.
    #[error("the sealed manifest: {0}")]
    Manifest(#[source] StreamError),
    /// A file's stream is refused.
    #[error(transparent)]
    Stream(#[from] StreamError),
}

impl ArtifactError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::EnvelopeTooLarge { .. } | Self::Envelope(_) => "manifest.envelope",
            Self::Signature { .. } | Self::Key(_) => "manifest.signature",
            Self::Digest { .. } => "manifest.digest",
            Self::ManifestTooLarge { .. } | Self::TooManyFiles { .. } => "manifest.too-large",
            Self::Form { .. } | Self::NotCanonical { .. } | Self::Algorithm { .. } => "manifest.form",
            Self::Version { .. } => "manifest.version",
            Self::Path { .. } | Self::Paths { .. } => "manifest.path",
            Self::SealedSize { .. } => "manifest.size",
            Self::Contradiction(_) => "manifest.contradiction",
            Self::NotListed { .. } => "manifest.not-listed",
            Self::Manifest(error) | Self::Stream(error) => error.code(),
        }
    }
}

//! Why an object is refused.

use coffer_core_sealed_stream::StreamError;

/// Why an object is refused, or could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The bucket or the key is none.
    #[error("this is no name of an object: {0}")]
    Name(&'static str),
    /// The sealed name is longer than stores take.
    #[error(
        "the sealed name has {found} bytes; stores take at most 1024, so use a shorter key or fewer folders"
    )]
    LongName {
        /// The length found.
        found: usize,
    },
    /// The sealed list of parts contradicts the object.
    #[error("the object's list of parts is refused: {0}")]
    Index(&'static str),
    /// More parts than are listed.
    #[error("an upload has at most 9999 parts here; use larger parts")]
    TooManyParts,
    /// The sealed metadata is refused.
    #[error("the object's metadata is refused: {0}")]
    Metadata(&'static str),
    /// Over the bound.
    #[error("the object's metadata has {found} bytes; at most 1200 are kept")]
    LongMetadata {
        /// The length found.
        found: usize,
    },
    /// The range holds no byte of the object.
    #[error("the range begins behind the object's end")]
    Range,
    /// A stream is refused.
    #[error(transparent)]
    Stream(#[from] StreamError),
}

impl ObjectError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Name(_) | Self::LongName { .. } => "objects.name",
            Self::Index(_) => "objects.index",
            Self::TooManyParts => "objects.parts",
            Self::Metadata(_) | Self::LongMetadata { .. } => "objects.metadata",
            Self::Range => "objects.range",
            Self::Stream(error) => error.code(),
        }
    }
}

//! Why a model is not there, as the last line of a pod's log.

use std::io;
use std::path::PathBuf;

use coffer_guest_models::{ModelError, SourceError};

/// Why a model is not put into its place.
#[derive(Debug, thiserror::Error)]
pub enum KserveError {
    /// The arguments are not pairs.
    #[error("expected pairs of source and destination; found {found} arguments")]
    Arguments {
        /// How many.
        found: usize,
    },
    /// The policy cannot be used.
    #[error("the policy is refused: {0}")]
    Policy(String),
    /// The policy says nothing of this source.
    #[error("no policy allows {uri} at {destination}; the model's owner adds it to the policy at the broker")]
    NotAllowed {
        /// The source.
        uri: String,
        /// The destination.
        destination: String,
    },
    /// Another artifact than the one that is pinned.
    #[error("{uri} is the statement {found}; the policy pins {expected}")]
    Pinned {
        /// The source.
        uri: String,
        /// The digest in the policy.
        expected: String,
        /// The digest found.
        found: String,
    },
    /// The broker, through the guest's local API, gave no resource.
    #[error("the resource {name} was not given: {why}")]
    Resource {
        /// Its address.
        name: String,
        /// Why.
        why: String,
    },
    /// The key is none.
    #[error("the key {name} cannot be used: {why}")]
    Key {
        /// Its address.
        name: String,
        /// Why.
        why: String,
    },
    /// A file is not encrypted.
    #[error("{file} is not encrypted; the policy does not say that plain files may be served")]
    Plain {
        /// The file.
        file: String,
    },
    /// Nothing is there that could be encrypted.
    #[error("{uri} has no file")]
    Empty {
        /// The source.
        uri: String,
    },
    /// A JWE is refused.
    #[error("{file}: {why}")]
    Jwe {
        /// The file.
        file: String,
        /// Why.
        why: JweError,
    },
    /// A model is refused.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A file could not be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Why a JWE is refused.
#[derive(Debug, thiserror::Error)]
pub enum JweError {
    /// The form is not that of a compact JWE.
    #[error("it is no compact JWE: {0}")]
    Form(&'static str),
    /// The algorithms are not ours.
    #[error("its algorithms are {alg} and {enc}; expected dir or A256KW, and A256GCM")]
    Algorithm {
        /// The header's `alg`.
        alg: String,
        /// The header's `enc`.
        enc: String,
    },
    /// The header has what changes the meaning of the rest.
    #[error("its header has {0}, which is not supported")]
    Header(&'static str),
    /// The wrapped key does not open.
    #[error("its key does not open; it was made with another key")]
    Wrapped,
    /// The tag does not fit.
    #[error("its tag does not fit: it was changed, or made with another key")]
    Tag,
    /// AES-GCM does not go further.
    #[error("it is longer than 64 GiB")]
    TooLong,
    /// The cipher failed.
    #[error("the cryptographic provider failed")]
    Provider,
    /// It could not be read.
    #[error("it could not be read: {0}")]
    Read(io::Error),
    /// The plaintext could not be written.
    #[error("it could not be written: {0}")]
    Write(io::Error),
}

impl From<SourceError> for KserveError {
    fn from(error: SourceError) -> Self {
        Self::Model(error.into())
    }
}

impl KserveError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Arguments { .. } => "kserve.arguments",
            Self::Policy(_) => "kserve.policy",
            Self::NotAllowed { .. } => "kserve.not-allowed",
            Self::Pinned { .. } => "kserve.pinned",
            Self::Resource { .. } => "kserve.resource",
            Self::Key { .. } => "kserve.key",
            Self::Plain { .. } | Self::Empty { .. } => "kserve.plain",
            Self::Jwe { .. } => "kserve.jwe",
            Self::Model(error) => error.code(),
            Self::Io { .. } => "kserve.io",
        }
    }
}

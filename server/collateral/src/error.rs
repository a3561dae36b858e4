//! Why a document is not there, and why a cache cannot be used.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use coffer_verify_api::CollateralKey;

/// A document could not be had. Shared by all who waited for it.
pub type Missing = Arc<FetchError>;

/// Why a document could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nothing is fetched, and it was not imported.
    #[error("the cache has no such document, and nothing is fetched offline; import it")]
    Offline,
    /// It is in the cache, past its end, and there is no newer one.
    #[error("the cached document ended at {ended}, and no newer one could be fetched: {why}")]
    Ended {
        /// Its end.
        ended: jiff::Timestamp,
        /// Why there is no newer one.
        why: String,
    },
    /// No service gives this document for its key alone.
    #[error("no service gives it: {0}")]
    NotServed(&'static str),
    /// The source does not have it.
    #[error("{source_url} has no such document (status {status})")]
    Absent {
        /// Where it was asked for.
        source_url: String,
        /// The status.
        status: u16,
    },
    /// The source wants to be left alone for a while.
    #[error("{source_url} asks to come again in {} s (status {status})", .retry_after.as_secs())]
    Busy {
        /// Where it was asked for.
        source_url: String,
        /// The status.
        status: u16,
        /// After this.
        retry_after: Duration,
    },
    /// The source failed, or was not reached.
    #[error("{source_url} gave no document: {why}")]
    Failed {
        /// Where it was asked for.
        source_url: String,
        /// The cause.
        why: String,
    },
    /// What came is not the document that was asked for.
    #[error("{source_url} gave something else than {expected}: {found}")]
    Shape {
        /// Where it was asked for.
        source_url: String,
        /// What was asked for.
        expected: &'static str,
        /// What came.
        found: String,
    },
    /// It is longer than is read.
    #[error("{source_url} gave more than {limit} bytes")]
    TooLong {
        /// Where it was asked for.
        source_url: String,
        /// The bound.
        limit: usize,
    },
    /// Too many documents were asked for that only evidence names.
    #[error("too many documents that only evidence names were asked for in the last minute; asked again in {} s", .again_in.as_secs())]
    Crowded {
        /// When there is room again.
        again_in: Duration,
    },
    /// It took longer than is waited.
    #[error("it did not come within {} s; it is still being fetched, or was given up", .0.as_secs())]
    TimedOut(Duration),
    /// It failed a moment ago, and is not asked for again yet.
    #[error("{why}; it is asked for again in {} s", .again_in.as_secs())]
    FailedBefore {
        /// What happened then.
        why: String,
        /// When it is asked for again.
        again_in: Duration,
    },
}

impl FetchError {
    /// Whether asking again at once could help.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }
}

/// The cache cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A file or folder.
    #[error("{what} {path}: {source}")]
    File {
        /// What was tried.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// There is no room for it.
    #[error(
        "the document has {found} bytes; the cache has room for {limit}, of which imported documents keep {kept}"
    )]
    Full {
        /// The length of its file.
        found: u64,
        /// The bound.
        limit: u64,
        /// What imported documents take.
        kept: u64,
    },
    /// The way to the sources cannot be set up.
    #[error("documents cannot be fetched with these settings: {0}")]
    Client(String),
}

/// A file holds no documents that can be imported, or what it says of them is wrong.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file or folder.
    #[error("{path} cannot be read: {source}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Over a bound.
    #[error("the import has more than {0}")]
    TooMuch(&'static str),
    /// Of no form that is known.
    #[error(
        "{name} is of no known form; expected a bundle (a folder or tar with manifest.json), collateral in JSON, an issuer's revocation list, an AMD chip's certificate, or a manifest NV_….xml"
    )]
    Unknown {
        /// The file.
        name: String,
    },
    /// A bundle or a document in it is not as it says.
    #[error("{name}: {why}")]
    Wrong {
        /// The file or key.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// The cache did not take a document.
    #[error("{key} was not stored: {source}")]
    Store {
        /// The document.
        key: CollateralKey,
        /// Why.
        source: CacheError,
    },
}

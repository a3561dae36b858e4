//! Why a blob is not to be had, with what to do.

use std::io;
use std::path::{Path, PathBuf};

use coffer_core_digest::Digest;

/// Why a blob is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The cache's folder cannot be used.
    #[error(
        "cannot {what} {path} of the cache: {source}. Mend that, or name another folder with --cache-dir"
    )]
    Folder {
        /// What was tried.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The blob alone is larger than the cache may be.
    #[error(
        "the blob {digest} has {size} bytes and the cache may have {bound}; allow it more with --cache-size, or run \
         with --no-cache"
    )]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// The bound in bytes.
        bound: u64,
    },
    /// All that could go is in use.
    #[error(
        "the cache has {held} of {bound} bytes in use, and {needed} more are needed; end a sandbox, allow the cache \
         more with --cache-size, or run with --no-cache"
    )]
    Full {
        /// Bytes in use.
        held: u64,
        /// Bytes needed.
        needed: u64,
        /// The bound in bytes.
        bound: u64,
    },
    /// The disk is full.
    #[error("the disk of {path} is full and nothing in the cache can go; free some space there")]
    NoSpace {
        /// Where.
        path: PathBuf,
    },
    /// What was fetched is not what was asked for.
    #[error(
        "what {sources} gave for {expected} has the digest {found}; it was thrown away. Try again, and if it stays so \
         take the registry or mirror out of registries.toml"
    )]
    Digest {
        /// What was asked for.
        expected: Box<Digest>,
        /// What came.
        found: Box<Digest>,
        /// Who gave it.
        sources: String,
    },
    /// Another process threw the download away.
    #[error(
        "another process found that the download of {digest} does not match and threw it away; try again"
    )]
    Discarded {
        /// The blob.
        digest: Digest,
    },
    /// The blob in the cache has another size than the manifest says.
    #[error(
        "the manifest says that {digest} has {expected} bytes, and it has {found}; the manifest is wrong"
    )]
    Size {
        /// The blob.
        digest: Digest,
        /// What the manifest says.
        expected: u64,
        /// What it has.
        found: u64,
    },
    /// The settings are wrong.
    #[error("the settings of registries are not as expected: {why}")]
    Settings {
        /// What is wrong.
        why: String,
    },
    /// A registry does not have it.
    #[error("{registry} has no {what}; look at the name, and whether it was pushed there")]
    Missing {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
    },
    /// A registry is not reached, or does not give what it should, however often it is asked.
    #[error("{registry} does not give {what}: {why}")]
    Registry {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// The last thing that went wrong.
        why: String,
    },
    /// What a registry gave for a document is none.
    #[error("{registry} gave for {what} what cannot be used: {why}")]
    Document {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// What is wrong with it.
        why: String,
    },
}

impl CacheError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Folder { .. } => "cache.folder",
            Self::TooLarge { .. } => "cache.too-large",
            Self::Full { .. } => "cache.full",
            Self::NoSpace { .. } => "cache.no-space",
            Self::Digest { .. } | Self::Discarded { .. } => "cache.digest",
            Self::Size { .. } => "cache.size",
            Self::Settings { .. } => "cache.settings",
            Self::Missing { .. } => "cache.registry.missing",
            Self::Registry { .. } => "cache.registry.failed",
            Self::Document { .. } => "cache.registry.document",
        }
    }

    /// A full disk has an error of its own.
    pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { path },
            _ => Self::Folder { what, path, source },
        }
    }
}

//! Why a broker cannot be opened.

use std::path::PathBuf;

use coffer_server_store::StoreError;

/// Judges cannot be made of what an owner trusts.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub struct TrustError {
    /// What cannot be used.
    pub what: &'static str,
    /// The reason.
    pub why: String,
}

/// The broker could not be opened. Nothing that was there was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key.
    #[error("{0}")]
    Key(&'static str),
    /// The certificates.
    #[error("the TLS certificates in the data folder cannot be used: {0}")]
    Tls(String),
    /// A trust anchor's file that the configuration names.
    #[error("the trust anchor {name:?} of the configuration cannot be used: {path}: {why}")]
    TrustAnchor {
        /// Its name.
        name: String,
        /// Its file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// Something in the store is not as this version writes it.
    #[error("the {what} {name:?} in the store cannot be used: {why}")]
    Stored {
        /// What it is.
        what: &'static str,
        /// Its name.
        name: String,
        /// The reason.
        why: String,
    },
    /// What judges are made of.
    #[error("the judges cannot be made: {0}")]
    Trust(#[from] TrustError),
    /// The cache of collateral.
    #[error("the cache of collateral cannot be used: {0}")]
    Collateral(#[from] coffer_server_collateral::CacheError),
    /// How issuers' keys are fetched.
    #[error("the keys of issuers cannot be fetched: {0}")]
    Issuers(String),
    /// No thread for the journal.
    #[error("the journal could not be started: {0}")]
    Journal(std::io::Error),
}

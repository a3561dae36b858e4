//! Why a broker cannot be set up, with the section of the configuration to look at.

use std::io;
use std::path::PathBuf;

use coffer_server_grpc::PluginConfigError;
use coffer_server_http::OpenError;
use coffer_server_pkcs11::Pkcs11Error;
use coffer_server_postgres::PostgresError;
use coffer_server_store::{BackupError, MasterKeyError, StoreError};
use coffer_server_vault::VaultError;

/// The broker could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The configuration's file.
    #[error(
        "cannot read the configuration {path}: {source}; `coffer-broker init --config {path}` writes one"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The configuration's text.
    #[error("{path}: {why}; `coffer-broker example` prints what there is")]
    Configuration {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// A variable of the environment.
    #[error("the environment's {names} does not fit the configuration: {why}; correct or unset it")]
    Environment {
        /// The variables.
        names: String,
        /// What was found.
        why: String,
    },
    /// A section.
    #[error("the configuration's [{section}] cannot be used: {why}")]
    Section {
        /// Which, as in `sources` or `sources.company-vault`.
        section: String,
        /// What was found and what was expected.
        why: String,
    },
    /// The rows' engine.
    #[error("[store]: {0}")]
    Postgres(#[from] PostgresError),
    /// The store.
    #[error("[store]: {0}")]
    Store(#[from] StoreError),
    /// The master key.
    #[error("[master_key]: {0}")]
    MasterKey(#[from] MasterKeyError),
    /// The store is there, the master key is not.
    #[error(
        "[master_key]: {place} has a store, but its master key is not where the configuration says; put the key back, or copy it from another replica. No key was made"
    )]
    MasterKeyMissing {
        /// The store.
        place: String,
    },
    /// A vault of a source.
    #[error("[[sources]] {name}: {source}")]
    Vault {
        /// The source.
        name: String,
        /// Why.
        source: VaultError,
    },
    /// A token of a source.
    #[error("[[sources]] {name}: {source}")]
    Token {
        /// The source.
        name: String,
        /// Why.
        source: Pkcs11Error,
    },
    /// A plugin.
    #[error("[[plugins]]: {0}")]
    Plugin(#[from] PluginConfigError),
    /// Where traces go.
    #[error("[telemetry]: {0}; correct the endpoint, or take the section away")]
    Telemetry(String),
    /// A file.
    #[error("{what} {path}: {source}")]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file that is there.
    #[error("{0} is there already; name a file that is not, nothing was changed")]
    Exists(PathBuf),
    /// A copy.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The copy was made under another master key.
    #[error(
        "the copy opens with the master key {expected}, and the configuration's is {found}; name the right one in [master_key], nothing was put back"
    )]
    OtherMasterKey {
        /// The copy's.
        expected: String,
        /// The configuration's.
        found: String,
    },
    /// The command is for another kind of store.
    #[error("{what} is for {expected}, and [store] names {found}; nothing was changed")]
    OtherStore {
        /// The command.
        what: &'static str,
        /// What it is for.
        expected: &'static str,
        /// What the configuration says.
        found: &'static str,
    },
    /// There is nothing to work on.
    #[error(
        "there is no store in {0}; `coffer-broker init` makes one, `coffer-broker restore` puts a copy there"
    )]
    NoStore(PathBuf),
    /// The same key again.
    #[error("the master key {0} is the one that closes the store now; name another one, nothing was changed")]
    SameMasterKey(String),
    /// A broker that does not take calls now.
    #[error("the broker at {url} takes no calls: {why}; see its log")]
    Unhealthy {
        /// Where it is.
        url: String,
        /// What was found.
        why: String,
    },
    /// The broker itself.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// No runtime for asynchronous work.
    #[error("no threads could be started: {0}; free memory or raise the limit of threads")]
    Threads(io::Error),
}

impl SetupError {
    pub(crate) fn section(section: impl Into<String>, why: impl ToString) -> Self {
        Self::Section { section: section.into(), why: why.to_string() }
    }

    /// For `map_err`: a file that could not be used.
    pub(crate) fn file(what: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self::File { what, path, source }
    }

    /// Whether another broker has the store, so that its admin API is the way.
    pub fn is_in_use(&self) -> bool {
        matches!(
            self,
            Self::Store(StoreError::InUse(_))
                | Self::Backup(BackupError::Store(StoreError::InUse(_)))
                | Self::Open(OpenError::Store(StoreError::InUse(_)))
        )
    }
}

//! What can go wrong with a store, told so that the operator knows the next step.

use std::io;
use std::path::PathBuf;

/// The store could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error("the store {0} is in use by another broker; stop that one first")]
    InUse(PathBuf),
    /// The store is there and its master key is not.
    #[error("the store is there, but its master key {0} is not; restore that file, nothing was changed")]
    MasterKeyMissing(PathBuf),
    /// The master key's file is not 32 bytes.
    #[error("the master key {path} has {found} bytes, expected 32; restore the file, nothing was changed")]
    MasterKeyLength {
        /// The file.
        path: PathBuf,
        /// The length found.
        found: usize,
    },
    /// Others may read the master key.
    #[error("{path} has mode {mode:04o}, so others may read it; expected 0600: chmod 600 {path}")]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The master key opens another store, or this one was damaged where its key is kept.
    #[error(
        "the master key {0} does not open this store; it belongs to another one, or the store is damaged"
    )]
    WrongMasterKey(PathBuf),
    /// Written by a version that this program does not know.
    #[error("the store has format {found}, this program reads format {expected}")]
    Version {
        /// What this program reads.
        expected: u64,
        /// What was found.
        found: String,
    },
    /// The file is not a whole store.
    #[error("the store {path} is damaged ({why}); restore it from a copy, nothing was changed")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// A record is not what was written there.
    #[error("the record {key:?} in {table} is damaged or was moved: its seal does not open")]
    Record {
        /// The table.
        table: &'static str,
        /// The record's name.
        key: String,
    },
    /// A file operation failed.
    #[error("{what} {path}: {source}")]
    File {
        /// What was tried, as in `cannot read`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The database refused; nothing of the transaction was kept.
    #[error("the store could not be read or written: {0}")]
    Database(String),
    /// No random bytes.
    #[error("the system's random number source failed; nothing was stored")]
    NoRandomness,
}

macro_rules! from_database {
    ($($error:ty),*) => {
        $(impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                Self::Database(error.to_string())
            }
        })*
    };
}

from_database!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::SetDurabilityError
);

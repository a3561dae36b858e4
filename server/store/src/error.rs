//! What can go wrong with a store, told so that the operator knows the next step.

use std::io;
use std::path::PathBuf;

use crate::master_error::MasterKeyError;

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
    /// Others may read a private file.
    #[error(
        "{path} has mode {mode:04o} and is of user {user} and group {group}, so others may read it; expected 0600 \
         (chmod 600 {path}), or 0440 of root and of a group of this process, which is not root, as Kubernetes mounts a \
         Secret with fsGroup"
    )]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// Its user.
        user: u32,
        /// Its group.
        group: u32,
    },
    /// The master key opens another store, or this one was damaged where its key is kept.
    #[error(
        "{place} does not open this store: expected the master key {expected}, found {found}; name the right master key, nothing was changed"
    )]
    WrongMasterKey {
        /// Where the key that was tried is.
        place: String,
        /// The name of the key that the store was closed with.
        expected: String,
        /// The name of the key that was tried.
        found: String,
    },
    /// The master key could not be used.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    /// Written by a version that this program does not know.
    #[error("the store has format {found}, this program reads format {expected}")]
    Version {
        /// What this program reads.
        expected: u64,
        /// What was found.
        found: String,
    },
    /// Of the first format, and opened with another master key than its file.
    #[error(
        "the store {place} has format 1; start the broker once with the file master.key as its master key, which upgrades it, then change the master key"
    )]
    UpgradeFirst {
        /// Where the store is.
        place: String,
    },
    /// The upgrade cannot put the old file aside.
    #[error(
        "the upgrade keeps the old store as {0}, but another file has that name; move it away, nothing was changed"
    )]
    UpgradeAside(PathBuf),
    /// A restore into it was begun and not finished.
    #[error("a restore into {place} was not finished, so it is no store yet; run the restore again")]
    RestoreUnfinished {
        /// Where.
        place: String,
    },
    /// There are rows, and none of them says that it is a store.
    #[error("{place} has rows in it but is no store: {why}; nothing was changed")]
    NotAStore {
        /// Where.
        place: String,
        /// What was found.
        why: String,
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
    #[error(
        "the record {key:?} in {table} is damaged or was moved: its seal does not open; restore the store from a copy"
    )]
    Record {
        /// The table.
        table: &'static str,
        /// The record's key, with its tenant.
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
    /// The disk refused. What was acknowledged before is there.
    #[error(
        "the disk of the store {path} refused: {why}; {remedy}. This change was not acknowledged, and nothing that was is lost; the store is opened again at the next call"
    )]
    Disk {
        /// The store's file.
        path: PathBuf,
        /// The system's answer.
        why: String,
        /// What to do.
        remedy: &'static str,
    },
    /// What keeps the rows cannot be reached now; the same call may succeed later.
    #[error("the store {place} cannot be reached: {why}; the call may be tried again")]
    Unavailable {
        /// Where, without credentials.
        place: String,
        /// What happened.
        why: String,
    },
    /// The database refused; nothing of the transaction was kept.
    #[error("the store could not be read or written: {0}")]
    Database(String),
    /// No random bytes.
    #[error("the system's random number source failed; nothing was stored")]
    NoRandomness,
    /// The tenant does not exist, or no longer.
    #[error("there is no tenant {0:?}; the operator creates tenants")]
    NoSuchTenant(String),
    /// The tenant exists.
    #[error("there is a tenant {0:?} already; choose another name, or change that one's settings")]
    TenantExists(String),
    /// The tenant of the plain paths stays.
    #[error("the tenant {0:?} serves the plain paths and cannot be removed; remove what it holds instead")]
    TenantStays(String),
    /// A name that is empty, too long, or has a zero byte in it.
    #[error("a name of {found} bytes cannot be stored; expected 1 to {most} bytes without a zero byte")]
    Name {
        /// Its length.
        found: usize,
        /// The longest.
        most: usize,
    },
    /// The caller's work on a transaction ended it; nothing of it was kept.
    #[error("the transaction was given up by its caller; nothing of it was kept")]
    GivenUp,
}

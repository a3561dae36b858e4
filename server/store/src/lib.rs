//! The broker's durable store: what each tenant owns and what they share, sealed under a master key.
//!
//! INVARIANT I-9: a write that returned survives the process being killed at any instant.
//! Every value is sealed with its table, tenant and name, so that rows cannot be read, changed or swapped; names and
//! lengths are plain. Rows are kept by an [`Engine`]: the embedded one here, or one that many replicas share.
//! Left out: what the values mean, which is the broker's.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod attempts;
mod backup;
mod batch;
#[doc(hidden)]
pub mod conformance;
mod embedded;
mod engine;
mod entries;
mod error;
mod evidence;
pub mod files;
mod format1;
mod heads;
mod inner;
mod journal;
mod keys;
mod master;
mod master_error;
mod open;
mod places;
mod removal;
mod reseal;
mod resources;
mod restore;
mod rings;
mod scope;
mod seal;
mod store;
mod table;
mod tag;
mod tenants;
mod upgrade;
mod verify;

pub use attempts::AttemptPage;
pub use backup::{BackupError, BackupInfo};
pub use embedded::Embedded;
pub use engine::{Change, Engine, Order, View};
pub use entries::{AttemptEntry, JournalEntry, Written};
pub use error::StoreError;
pub use evidence::MAX_EVIDENCE;
pub use heads::{MAX_REASON, Origin, State, VersionInfo};
pub use master::{MasterKey, MasterKeyFile};
pub use master_error::MasterKeyError;
pub use reseal::{Left, Progress};
pub use resources::StoredResource;
pub use resources::{KEPT_VERSIONS, MAX_VERSIONS, NewResource, Resource, ResourceError, ResourceInfo};
pub use restore::{check_backup, restore};
pub use rings::{Limits, MAX_ATTEMPTS, MAX_DECISIONS, MAX_REFUSED};
pub use scope::{Scope, Transaction};
pub use store::Store;
pub use table::{MAX_NAME, Table};
pub use tag::{NotATag, Tag};
pub use verify::Report;

#[cfg(test)]
mod tests;

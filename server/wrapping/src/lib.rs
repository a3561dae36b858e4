//! Data keys wrapped by keys that stay in the broker: the Hadoop KMS and Vault transit calls.
//!
//! A [`WrappingKey`] has versions; a [`Keyring`] finds, changes and counts the uses of a tenant's keys in a
//! [`KeyTable`]; [`hadoop`] and [`transit`] are two dialects as functions from request to answer.
//! INVARIANT: a wrapping key's bytes leave only as the record that the store seals, and a plaintext data key only
//! from a key that was created to give one to the holder of a token.
//! Left out: HTTP, TLS, who the caller is, and the log.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod error;
mod exchange;
pub mod hadoop;
mod key;
mod keyring;
mod memory;
mod name;
mod options;
mod record;
mod seal;
mod table;
mod text;
pub mod transit;

pub use error::WrapError;
pub use exchange::{Answer, Ask, Permission, Permitted, Request, Route, authorize};
pub use key::{Advice, Change, MAX_USES, MAX_VERSIONS, VersionInfo, VersionState, WrappingKey};
pub use keyring::{Held, Keyring};
pub use memory::MemoryTable;
pub use name::{KeyName, NotAKeyName};
pub use options::{
    DataKeyBits, Deletion, Derivation, KeyOptions, MAX_ATTRIBUTES, MAX_TEXT, PlaintextOverTls,
};
pub use seal::{Binding, MAX_BINDING, MAX_PLAINTEXT, Wrapped};
pub use table::{KeyTable, Replaced, TableFault};

/// Milliseconds since 1970 (UTC), as the caller's clock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// Whole seconds since 1970.
    pub fn seconds(self) -> u64 {
        self.0.checked_div(1000).unwrap_or(0)
    }
}

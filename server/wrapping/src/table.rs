//! Where a keyring's records are: the store's side, which the program that assembles the broker gives.
//!
//! TRUST: a table keeps what it acknowledged, and compares and replaces in one transaction. It seals the records.

use coffer_core_secret::SecretBytes;

use crate::KeyName;

/// The records of one tenant's keys.
pub trait KeyTable: Send + Sync {
    /// All names, in their order.
    fn names(&self) -> Result<Vec<String>, TableFault>;

    /// The record of a name.
    fn read(&self, name: &KeyName) -> Result<Option<SecretBytes>, TableFault>;

    /// Puts `new` in the place of `expected`, where `None` is no record, if that is what is there; durable on return.
    fn replace(
        &self,
        name: &KeyName,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<Replaced, TableFault>;
}

/// What became of a replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// It is durable.
    Done,
    /// Another record was there; nothing was changed.
    Changed,
}

/// The table could not be read or written now.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "the store of keys does not answer: {0}; try again, and look at the broker's readiness if it stays so"
)]
pub struct TableFault(pub String);

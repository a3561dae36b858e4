//! Reading a store of the first format: one tenant, no versions kept, records sealed by one data key.
//!
//! Nothing writes this format any more. Its records were `1 || salt (16) || nonce (12) || ciphertext || tag (16)`, with
//! HMAC-SHA256(data key, label || salt) as the key and the length of the table's name, the table and the name as
//! associated data.
#![deny(clippy::arithmetic_side_effects)]

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use coffer_core_secret::{Secret, SecretBytes};
use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError};

use crate::keys::damaged;
use crate::{StoreError, Table};

const LABEL: &[u8] = b"coffer store record v1";
const ATTEMPTS: &str = "attempts";
const DECISIONS: &str = "decisions";
const EVIDENCE: &str = "evidence";
const RESOURCES: &str = "resources";
const WITHDRAWN: &str = "withdrawn";

/// The tables of named values that the format had.
pub(crate) const NAMED: [Table; 7] = [
    Table::Policies,
    Table::ReferenceValues,
    Table::TrustAnchors,
    Table::Keys,
    Table::AttestationPolicies,
    Table::NamedValues,
    Table::Settings,
];

/// An old store, opened.
pub(crate) struct Old {
    transaction: ReadTransaction,
    key: hmac::Key,
}

/// A secret of an old store.
pub(crate) struct OldResource {
    pub(crate) version: u64,
    pub(crate) at: i64,
    pub(crate) value: SecretBytes,
}

/// An attempt of an old store, with its place in the order of all.
pub(crate) struct OldAttempt {
    pub(crate) sequence: u64,
    pub(crate) refused: bool,
    pub(crate) body: SecretBytes,
}

fn broken(error: impl std::fmt::Display) -> StoreError {
    StoreError::Database(error.to_string())
}

fn open(key: &hmac::Key, table: &'static str, name: &str, sealed: &[u8]) -> Result<SecretBytes, StoreError> {
    let read = || {
        let (form, rest) = sealed.split_first()?;
        let (salt, rest) = rest.split_at_checked(16)?;
        let (nonce, rest) = rest.split_at_checked(12)?;
        let (body, tag) = rest.split_at_checked(rest.len().checked_sub(16)?)?;
        let mut context = hmac::Context::with_key(key);
        context.update(LABEL);
        context.update(salt);
        let key = UnboundKey::new(&AES_256_GCM, context.sign().as_ref()).map(LessSafeKey::new).ok()?;
        let place = [&(table.len() as u64).to_be_bytes(), table.as_bytes(), name.as_bytes()].concat();
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut plain = zeroize::Zeroizing::new(vec![0; body.len()]);
        key.open_separate_gather(nonce, Aad::from(place), body, tag, &mut plain).ok()?;
        (*form == 1).then(|| SecretBytes::new(std::mem::take(&mut *plain)))
    };
    read().ok_or_else(|| damaged(table, name))
}

/// The data key that a master key wrapped in this format.
fn unwrap(master: &Secret<[u8; 32]>, wrapped: &[u8]) -> Option<Secret<[u8; 32]>> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, master.expose());
    let plain = open(&key, "meta", "data-key", wrapped).ok()?;
    <[u8; 32]>::try_from(plain.expose().as_slice()).ok().map(Secret::new)
}

impl Old {
    /// Opens one state of an old store; nothing if the master key is not its own.
    pub(crate) fn open(
        transaction: ReadTransaction,
        master: &Secret<[u8; 32]>,
    ) -> Result<Option<Self>, StoreError> {
        let meta = TableDefinition::<&str, &[u8]>::new("meta");
        let meta = transaction.open_table(meta).map_err(broken)?;
        let wrapped = meta.get("data-key").map_err(broken)?.map(|value| value.value().to_vec());
        let data_key = unwrap(master, &wrapped.unwrap_or_default());
        Ok(data_key
            .map(|data_key| Self { transaction, key: hmac::Key::new(hmac::HMAC_SHA256, data_key.expose()) }))
    }

    /// Calls `work` with each row of a table; a table that was never written to has none.
    fn each<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        name: &'static str,
        mut work: impl for<'a> FnMut(K::SelfType<'a>, V::SelfType<'a>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let rows = match self.transaction.open_table(TableDefinition::<K, V>::new(name)) {
            Ok(rows) => rows,
            Err(TableError::TableDoesNotExist(_)) => return Ok(()),
            Err(error) => return Err(broken(error)),
        };
        for row in rows.iter().map_err(broken)? {
            let (key, value) = row.map_err(broken)?;
            work(key.value(), value.value())?;
        }
        Ok(())
    }

    pub(crate) fn named(
        &self,
        table: Table,
        mut work: impl FnMut(&str, SecretBytes) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let name = table.name();
        self.each::<&str, &[u8]>(name, |key, sealed| work(key, open(&self.key, name, key, sealed)?))
    }

    /// Names that were withdrawn, each as `table/name`.
    pub(crate) fn withdrawn(
        &self,
        mut work: impl FnMut(&str) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.each::<&str, ()>(WITHDRAWN, |key, ()| work(key))
    }

    pub(crate) fn resources(
        &self,
        mut work: impl FnMut(&str, OldResource) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.each::<&str, &[u8]>(RESOURCES, |path, sealed| {
            let plain = open(&self.key, RESOURCES, path, sealed)?;
            let read = || {
                let (version, rest) = plain.expose().split_first_chunk()?;
                let (at, value) = rest.split_first_chunk()?;
                let value = SecretBytes::copy_of(value);
                Some(OldResource {
                    version: u64::from_be_bytes(*version),
                    at: i64::from_be_bytes(*at),
                    value,
                })
            };
            work(path, read().ok_or_else(|| damaged(RESOURCES, path))?)
        })
    }

    pub(crate) fn attempts(
        &self,
        mut work: impl FnMut(&str, OldAttempt) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.each::<&str, &[u8]>(ATTEMPTS, |id, sealed| {
            let plain = open(&self.key, ATTEMPTS, id, sealed)?;
            let read = || {
                let (sequence, rest) = plain.expose().split_first_chunk()?;
                let (refused, body) = rest.split_first()?;
                let (sequence, refused) = (u64::from_be_bytes(*sequence), *refused != 0);
                Some(OldAttempt { sequence, refused, body: SecretBytes::copy_of(body) })
            };
            work(id, read().ok_or_else(|| damaged(ATTEMPTS, id))?)
        })
    }

    /// Decisions with their attempts and numbers, those of an attempt together and in their order.
    pub(crate) fn decisions(
        &self,
        mut work: impl FnMut(&str, u64, SecretBytes) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.each::<(&str, u64), &[u8]>(DECISIONS, |(id, number), sealed| {
            work(id, number, open(&self.key, DECISIONS, &format!("{id}/{number}"), sealed)?)
        })
    }

    /// Evidence by attempt, with its place in the order of all.
    pub(crate) fn evidence(
        &self,
        mut work: impl FnMut(&str, u64, SecretBytes) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.each::<&str, &[u8]>(EVIDENCE, |id, row| {
            let (sequence, sealed) = row.split_first_chunk().ok_or_else(|| damaged(EVIDENCE, id))?;
            work(id, u64::from_be_bytes(*sequence), open(&self.key, EVIDENCE, id, sealed)?)
        })
    }
}

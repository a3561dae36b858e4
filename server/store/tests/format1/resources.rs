//! Secrets by path, with a version that counts and the time of the last change.

use coffer_core_secret::SecretBytes;
use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};
use zeroize::Zeroizing;

use crate::format1::{Store, StoreError};

const NAME: &str = "resources";
const ROWS: TableDefinition<&str, &[u8]> = TableDefinition::new(NAME);
/// Version and seconds since 1970, eight bytes each, before the value.
const HEADER: usize = 16;

/// A secret and what is known of it.
pub struct Resource {
    /// What is known of it.
    pub about: StoredResource,
    /// The value.
    pub value: SecretBytes,
}

/// What is known of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredResource {
    /// `repository/type/tag`.
    pub path: String,
    /// Length of the value in bytes.
    pub bytes: u64,
    /// 1 for the first value, one more for each that replaced it.
    pub version: u64,
    /// Seconds since 1970.
    pub changed_at: i64,
}

pub(crate) fn create_table(transaction: &WriteTransaction) -> Result<(), StoreError> {
    transaction.open_table(ROWS)?;
    Ok(())
}

impl Store {
    /// The secret at a path.
    pub fn resource(&self, path: &str) -> Result<Option<Resource>, StoreError> {
        let transaction = self.database.begin_read()?;
        let rows = transaction.open_table(ROWS)?;
        rows.get(path)?.map(|sealed| self.read(path, sealed.value())).transpose()
    }

    /// What is known of all secrets, in the order of their paths.
    pub fn resources(&self) -> Result<Vec<StoredResource>, StoreError> {
        let transaction = self.database.begin_read()?;
        let rows = transaction.open_table(ROWS)?;
        let mut list = Vec::new();
        for row in rows.iter()? {
            let (path, sealed) = row?;
            list.push(self.read(path.value(), sealed.value())?.about);
        }
        Ok(list)
    }

    /// How many secrets there are.
    pub fn resource_count(&self) -> Result<u64, StoreError> {
        Ok(self.database.begin_read()?.open_table(ROWS)?.len()?)
    }

    /// Stores a secret, or replaces it; gives its version. Durable when this returns.
    pub fn put_resource(&self, path: &str, value: &SecretBytes, at: i64) -> Result<u64, StoreError> {
        self.write(|transaction| {
            let mut rows = transaction.open_table(ROWS)?;
            let before = rows.get(path)?.map(|sealed| self.read(path, sealed.value())).transpose()?;
            let version = before.map_or(0, |resource| resource.about.version).saturating_add(1);
            let mut plain = Zeroizing::new(Vec::with_capacity(HEADER + value.expose().len()));
            plain.extend_from_slice(&version.to_be_bytes());
            plain.extend_from_slice(&at.to_be_bytes());
            plain.extend_from_slice(value.expose());
            rows.insert(path, self.key.seal(NAME, path, &plain)?.as_slice())?;
            Ok(version)
        })
    }

    /// Removes a secret; says whether it was there.
    pub fn delete_resource(&self, path: &str) -> Result<bool, StoreError> {
        self.write(|transaction| Ok(transaction.open_table(ROWS)?.remove(path)?.is_some()))
    }

    fn read(&self, path: &str, sealed: &[u8]) -> Result<Resource, StoreError> {
        let damaged = || StoreError::Record { table: NAME, key: path.to_string() };
        let plain = self.unseal(NAME, path, sealed)?;
        let (version, rest) = plain.expose().split_first_chunk().ok_or_else(damaged)?;
        let (at, value) = rest.split_first_chunk().ok_or_else(damaged)?;
        let about = StoredResource {
            path: path.to_string(),
            bytes: value.len() as u64,
            version: u64::from_be_bytes(*version),
            changed_at: i64::from_be_bytes(*at),
        };
        Ok(Resource { about, value: SecretBytes::copy_of(value) })
    }
}

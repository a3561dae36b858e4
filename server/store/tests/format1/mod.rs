//! The writer of the first format, as the first release had it, so that upgrades are tested on stores that it made.
//! Nothing of it is used outside of this test.
#![allow(dead_code, unused_imports, unreachable_pub, missing_docs, clippy::all)]

mod attempts;
mod error;
mod evidence;
pub mod files;
mod resources;
mod seal;

use std::path::{Path, PathBuf};

use coffer_core_secret::{Secret, SecretBytes};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageError};
use redb::{TableDefinition, WriteTransaction};

pub use attempts::{AttemptEntry, JournalEntry, MAX_ATTEMPTS, MAX_DECISIONS, MAX_REFUSED, Written};
pub use error::StoreError;
pub use evidence::MAX_EVIDENCE;
pub use resources::{Resource, StoredResource};

use seal::SealingKey;

/// The format that this program reads and writes.
const FORMAT: u64 = 1;
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const META_FORMAT: &str = "format";
const META_DATA_KEY: &str = "data-key";
/// The broker's working set is small; the default of a gigabyte is for databases.
const CACHE: usize = 32 << 20;

/// A table of named values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Policies by name.
    Policies,
    /// Reference values by id.
    ReferenceValues,
    /// Trust anchors by name.
    TrustAnchors,
    /// The broker's own keys, and the admins' public ones.
    Keys,
    /// Appraisal policies by name, each with its versions.
    AttestationPolicies,
    /// Reference values by name, for appraisal policies.
    NamedValues,
    /// What there is one of each: the platform policy, endorsements.
    Settings,
}

impl Table {
    const ALL: [Self; 7] = [
        Self::Policies,
        Self::ReferenceValues,
        Self::TrustAnchors,
        Self::Keys,
        Self::AttestationPolicies,
        Self::NamedValues,
        Self::Settings,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Policies => "policies",
            Self::ReferenceValues => "reference-values",
            Self::TrustAnchors => "trust-anchors",
            Self::Keys => "keys",
            Self::AttestationPolicies => "attestation-policies",
            Self::NamedValues => "named-values",
            Self::Settings => "settings",
        }
    }

    const fn definition(self) -> TableDefinition<'static, &'static str, &'static [u8]> {
        TableDefinition::new(self.name())
    }
}

type Rows = redb::ReadOnlyTable<&'static str, &'static [u8]>;

/// The names that were removed on purpose, each as `table/name`. Kept for ever; only owners remove names.
const WITHDRAWN: TableDefinition<&str, ()> = TableDefinition::new("withdrawn");

/// An open store.
pub struct Store {
    database: Database,
    key: SealingKey,
    created: bool,
}

/// The files of a store in a folder.
struct Places {
    database: PathBuf,
    master_key: PathBuf,
}

impl Store {
    /// Opens the store in `folder`, or makes it there with a new master key.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        files::create_private_folder(folder)?;
        let places = Places { database: folder.join("store.redb"), master_key: folder.join("master.key") };
        let exists = places.database.exists();
        let master = match (places.read_master_key()?, exists) {
            (Some(master), _) => master,
            (None, true) => return Err(StoreError::MasterKeyMissing(places.master_key)),
            (None, false) => places.make_master_key()?,
        };
        match exists {
            true => Self::open_existing(&places, &master),
            false => Self::create(&places, &master),
        }
    }

    /// Whether [`Store::open`] made it just now.
    pub fn was_created(&self) -> bool {
        self.created
    }

    fn create(places: &Places, master: &Secret<[u8; 32]>) -> Result<Self, StoreError> {
        let temporary = files::beside(&places.database)?;
        let made = Self::create_at(&temporary, master, places).and_then(|store| {
            // The name is taken if another broker was faster.
            files::publish(&temporary, &places.database).map(|()| store)
        });
        let _ = std::fs::remove_file(&temporary);
        made
    }

    fn create_at(path: &Path, master: &Secret<[u8; 32]>, places: &Places) -> Result<Self, StoreError> {
        let database = Database::builder()
            .set_cache_size(CACHE)
            .create(path)
            .map_err(|error| places.cannot_open(error))?;
        let data_key = Secret::<[u8; 32]>::random().map_err(|_| StoreError::NoRandomness)?;
        let wrapped = SealingKey::new(master).seal("meta", META_DATA_KEY, data_key.expose())?;
        let transaction = database.begin_write()?;
        {
            let mut meta = transaction.open_table(META)?;
            meta.insert(META_FORMAT, FORMAT.to_be_bytes().as_slice())?;
            meta.insert(META_DATA_KEY, wrapped.as_slice())?;
            for table in Table::ALL {
                transaction.open_table(table.definition())?;
            }
        }
        transaction.open_table(WITHDRAWN)?;
        resources::create_table(&transaction)?;
        attempts::create_tables(&transaction)?;
        transaction.commit()?;
        Ok(Self { database, key: SealingKey::new(&data_key), created: true })
    }

    fn open_existing(places: &Places, master: &Secret<[u8; 32]>) -> Result<Self, StoreError> {
        places.check_length()?;
        let open = || Database::builder().set_cache_size(CACHE).open(&places.database);
        // redb asserts some of its format's rules; a damaged file must be an error here, not a crash.
        let opened =
            std::panic::catch_unwind(open).map_err(|_| places.damaged("its structure is not valid"))?;
        let database = opened.map_err(|error| places.cannot_open(error))?;
        let (format, wrapped) = {
            let transaction = database.begin_read()?;
            let not_a_store = |error: redb::TableError| places.damaged(&error.to_string());
            let meta = transaction.open_table(META).map_err(not_a_store)?;
            let read = |name| -> Result<Vec<u8>, StoreError> {
                let value = meta.get(name)?.map(|guard| guard.value().to_vec());
                value.ok_or_else(|| places.damaged("it has no format and no key"))
            };
            (read(META_FORMAT)?, read(META_DATA_KEY)?)
        };
        if format != FORMAT.to_be_bytes() {
            let found = <[u8; 8]>::try_from(format.as_slice());
            let found = found
                .map_or("that is not a number".to_string(), |bytes| u64::from_be_bytes(bytes).to_string());
            return Err(StoreError::Version { expected: FORMAT, found });
        }
        let wrong = || StoreError::WrongMasterKey(places.master_key.clone());
        let data_key = SealingKey::new(master).open("meta", META_DATA_KEY, &wrapped).map_err(|_| wrong())?;
        let data_key = <[u8; 32]>::try_from(data_key.expose().as_slice()).map_err(|_| wrong())?;
        Ok(Self { database, key: SealingKey::new(&Secret::new(data_key)), created: false })
    }

    /// The value of a name.
    pub fn get(&self, table: Table, name: &str) -> Result<Option<SecretBytes>, StoreError> {
        let Some(rows) = self.rows(table)? else { return Ok(None) };
        match rows.get(name)? {
            Some(sealed) => self.unseal(table.name(), name, sealed.value()).map(Some),
            None => Ok(None),
        }
    }

    /// All names and values, in the order of the names.
    pub fn list(&self, table: Table) -> Result<Vec<(String, SecretBytes)>, StoreError> {
        let Some(rows) = self.rows(table)? else { return Ok(Vec::new()) };
        let mut list = Vec::new();
        for row in rows.iter()? {
            let (name, sealed) = row?;
            let name = name.value().to_string();
            let value = self.unseal(table.name(), &name, sealed.value())?;
            list.push((name, value));
        }
        Ok(list)
    }

    /// How many names there are.
    pub fn count(&self, table: Table) -> Result<u64, StoreError> {
        Ok(self.rows(table)?.map_or(Ok(0), |rows| rows.len())?)
    }

    /// The rows of a table; none in a store of before there was the table, which the first write makes.
    fn rows(&self, table: Table) -> Result<Option<Rows>, StoreError> {
        match self.database.begin_read()?.open_table(table.definition()) {
            Ok(rows) => Ok(Some(rows)),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Stores a value, or replaces it. Durable when this returns.
    pub fn put(&self, table: Table, name: &str, value: &[u8]) -> Result<(), StoreError> {
        self.put_and_delete(table, &[(name, value)], &[])
    }

    /// Stores and removes in one transaction.
    pub fn put_and_delete(
        &self,
        table: Table,
        put: &[(&str, &[u8])],
        delete: &[&str],
    ) -> Result<(), StoreError> {
        self.write(|transaction| {
            let mut rows = transaction.open_table(table.definition())?;
            for (name, value) in put {
                rows.insert(*name, self.key.seal(table.name(), name, value)?.as_slice())?;
            }
            for name in delete {
                rows.remove(*name)?;
            }
            Ok(())
        })
    }

    /// Removes a value; says whether it was there.
    pub fn delete(&self, table: Table, name: &str) -> Result<bool, StoreError> {
        self.write(|transaction| Ok(transaction.open_table(table.definition())?.remove(name)?.is_some()))
    }

    /// Removes a value, and remembers that this was decided; says whether it was there.
    pub fn withdraw(&self, table: Table, name: &str) -> Result<bool, StoreError> {
        self.write(|transaction| {
            let found = transaction.open_table(table.definition())?.remove(name)?.is_some();
            if found {
                transaction.open_table(WITHDRAWN)?.insert(withdrawn(table, name).as_str(), ())?;
            }
            Ok(found)
        })
    }

    /// Whether a value of this name was ever withdrawn.
    pub fn was_withdrawn(&self, table: Table, name: &str) -> Result<bool, StoreError> {
        match self.database.begin_read()?.open_table(WITHDRAWN) {
            Ok(rows) => Ok(rows.get(withdrawn(table, name).as_str())?.is_some()),
            // A store of before there was the table; the first withdrawal makes it.
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// One durable transaction: all of it or nothing.
    fn write<T>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(redb::Durability::Immediate)?;
        let result = work(&transaction)?;
        transaction.commit()?;
        Ok(result)
    }

    fn unseal(&self, table: &'static str, name: &str, sealed: &[u8]) -> Result<SecretBytes, StoreError> {
        let broken = |seal::Broken| StoreError::Record { table, key: name.to_string() };
        self.key.open(table, name, sealed).map_err(broken)
    }
}

fn withdrawn(table: Table, name: &str) -> String {
    format!("{}/{name}", table.name())
}

impl Places {
    fn read_master_key(&self) -> Result<Option<Secret<[u8; 32]>>, StoreError> {
        let Some(bytes) = files::read_private(&self.master_key)? else { return Ok(None) };
        let found = bytes.expose().len();
        let wrong = |_| StoreError::MasterKeyLength { path: self.master_key.clone(), found };
        <[u8; 32]>::try_from(bytes.expose().as_slice()).map(|key| Some(Secret::new(key))).map_err(wrong)
    }

    fn make_master_key(&self) -> Result<Secret<[u8; 32]>, StoreError> {
        let key = Secret::<[u8; 32]>::random().map_err(|_| StoreError::NoRandomness)?;
        files::create_private(&self.master_key, key.expose())?;
        Ok(key)
    }

    /// An empty file would be taken for a new database and written to.
    fn check_length(&self) -> Result<(), StoreError> {
        let metadata = std::fs::metadata(&self.database).map_err(|source| StoreError::File {
            what: "cannot read",
            path: self.database.clone(),
            source,
        })?;
        match metadata.len() {
            0 => Err(self.damaged("it is empty")),
            _ => Ok(()),
        }
    }

    fn damaged(&self, why: &str) -> StoreError {
        StoreError::Damaged { path: self.database.clone(), why: why.to_string() }
    }

    fn cannot_open(&self, error: DatabaseError) -> StoreError {
        match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(self.database.clone()),
            DatabaseError::Storage(StorageError::Io(source))
                if source.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                StoreError::File { what: "cannot open", path: self.database.clone(), source }
            }
            other => self.damaged(&other.to_string()),
        }
    }
}

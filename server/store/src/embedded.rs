//! The embedded engine: one file, one process.
//!
//! Commits are in two phases (two syncs), so that after a crash the last commit is known to be whole: a byte of it that
//! the disk changed is an error at the next open, where one phase would fall back to the commit before and lose what
//! was acknowledged. Each opening compares all checksums, for the same reason. The database asserts some of its format's rules; here a broken rule is an error, not a crash.
//! After the disk refused once, the file is closed and opened again, as after a crash.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{PoisonError, RwLock};

use redb::WriteTransaction;
use redb::{CommitError, Database, DatabaseError, ReadOnlyTable, ReadTransaction, ReadableDatabase};
use redb::{ReadableTable, StorageError, TableDefinition, TableError, TableHandle, TransactionError};

use crate::engine::{Change, Engine, Order, View};
use crate::{StoreError, files};

/// The broker's working set is small; the default of a gigabyte is for databases.
const CACHE: usize = 32 << 20;
/// The store's file in its folder.
pub(crate) const FILE: &str = "store.redb";

fn definition(table: &'static str) -> TableDefinition<'static, &'static str, &'static [u8]> {
    TableDefinition::new(table)
}

/// Rows in one file that this process alone has open.
pub struct Embedded {
    path: PathBuf,
    /// Empty after the disk refused, until it is opened again.
    database: RwLock<Option<Database>>,
    created: bool,
}

impl Embedded {
    /// Opens the file in `folder`, or makes it there.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        files::create_private_folder(folder)?;
        let path = folder.join(FILE);
        let created = !path.exists();
        if created {
            make(&path)?;
        }
        let database = open(&path)?;
        is_ours(&path, &database)?;
        Ok(Self { path, database: RwLock::new(Some(database)), created })
    }

    /// Whether [`Embedded::open`] made the file just now.
    pub fn was_created(&self) -> bool {
        self.created
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a file under another name than the one that it will have.
    pub(crate) fn make_at(temporary: &Path, path: &Path) -> Result<Self, StoreError> {
        let made = Database::builder().set_cache_size(CACHE).create(temporary);
        let database = made.map_err(|error| cannot_open(path, error))?;
        Ok(Self { path: path.to_path_buf(), database: RwLock::new(Some(database)), created: true })
    }

    /// Runs `work` on the open database, and opens it first if the disk refused before.
    pub(crate) fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut open_now = self.database.read().unwrap_or_else(PoisonError::into_inner);
        if open_now.is_none() {
            drop(open_now);
            let mut slot = self.database.write().unwrap_or_else(PoisonError::into_inner);
            if slot.is_none() {
                *slot = Some(open(&self.path)?);
            }
            drop(slot);
            open_now = self.database.read().unwrap_or_else(PoisonError::into_inner);
        }
        let Some(database) = open_now.as_ref() else {
            // Another thread met the disk's refusal in between.
            return Err(StoreError::Disk {
                path: self.path.clone(),
                why: "it refused again".to_owned(),
                remedy: "see the errors before this one",
            });
        };
        let result = work(database);
        drop(open_now);
        if matches!(result, Err(StoreError::Disk { .. })) {
            self.close();
        }
        result
    }

    /// Closing writes; what is damaged was told by whoever read it, and must not end the process here.
    fn close(&self) {
        let closed = self.database.write().unwrap_or_else(PoisonError::into_inner).take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(closed)));
    }

    /// Calls the database; a rule of its format that does not hold is damage.
    fn guarded<T>(&self, call: impl FnOnce() -> Result<T, Fault>) -> Result<T, StoreError> {
        guarded(&self.path, call)
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.close();
    }
}

fn guarded<T>(path: &Path, call: impl FnOnce() -> Result<T, Fault>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|fault| match fault {
            Fault::Storage(error) => storage(path, error),
            Fault::Other(why) => StoreError::Database(why),
        }),
        Err(_) => Err(damaged(path, "its structure is not valid")),
    }
}

/// Makes the file complete or not at all.
fn make(path: &Path) -> Result<(), StoreError> {
    let temporary = files::beside(path)?;
    let made = Embedded::make_at(&temporary, path).and_then(|engine| {
        drop(engine);
        // The name is taken if another broker was faster.
        files::publish(&temporary, path)
    });
    let _ = std::fs::remove_file(&temporary);
    made
}

fn open(path: &Path) -> Result<Database, StoreError> {
    let cannot_read = |source| StoreError::File { what: "cannot read", path: path.to_path_buf(), source };
    // An empty file would be taken for a new database and written to.
    if std::fs::metadata(path).map_err(cannot_read)?.len() == 0 {
        return Err(damaged(path, "it is empty"));
    }
    let opened = catch_unwind(|| {
        let repaired = Rc::new(Cell::new(false));
        let seen = repaired.clone();
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE).set_repair_callback(move |_| seen.set(true));
        let mut database = builder.open(path)?;
        // After a crash the opening has compared all checksums; without one it has not, and a changed byte in the
        // wrong place would let a row be missed. What the check then repairs is which pages are free.
        if !repaired.get() {
            database.check_integrity()?;
        }
        Ok(database)
    });
    let opened = opened.map_err(|_| damaged(path, "its structure is not valid"))?;
    opened.map_err(|error| cannot_open(path, error))
}

/// Refuses the database of another program: it has tables, and ours has one that says its format.
fn is_ours(path: &Path, database: &Database) -> Result<(), StoreError> {
    let names = guarded(path, || {
        let transaction = database.begin_read()?;
        let names = transaction.list_tables()?.map(|table| table.name().to_owned());
        Ok(names.collect::<Vec<String>>())
    })?;
    match names.is_empty() || names.iter().any(|name| name == crate::table::META) {
        true => Ok(()),
        false => Err(damaged(path, "it has no format and no key")),
    }
}

fn damaged(path: &Path, why: &str) -> StoreError {
    StoreError::Damaged { path: path.to_path_buf(), why: why.to_owned() }
}

fn cannot_open(path: &Path, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.to_path_buf()),
        DatabaseError::Storage(StorageError::Io(source))
            if matches!(
                source.kind(),
                std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            StoreError::File {
                what: "the store must be written to, and the system does not let this broker write",
                path: path.to_path_buf(),
                source,
            }
        }
        DatabaseError::Storage(StorageError::Io(source))
            if matches!(
                source.kind(),
                std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidData
            ) =>
        {
            damaged(path, &source.to_string())
        }
        DatabaseError::Storage(error @ StorageError::Io(_)) => storage(path, error),
        other => damaged(path, &other.to_string()),
    }
}

fn storage(path: &Path, error: StorageError) -> StoreError {
    use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match error {
        StorageError::Io(source) => StoreError::Disk {
            path: path.to_path_buf(),
            remedy: match source.kind() {
                StorageFull | QuotaExceeded => "free space on it",
                ReadOnlyFilesystem => "make it writable again",
                _ => "look at the system's log for the disk's state",
            },
            why: source.to_string(),
        },
        StorageError::PreviousIo | StorageError::DatabaseClosed => StoreError::Disk {
            path: path.to_path_buf(),
            why: error.to_string(),
            remedy: "see the errors before this one",
        },
        StorageError::Corrupted(why) => damaged(path, &why),
        other => StoreError::Database(other.to_string()),
    }
}

/// What the database answered.
enum Fault {
    Storage(StorageError),
    Other(String),
}

impl From<StorageError> for Fault {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

macro_rules! fault_from {
    ($($error:ident),*) => {
        $(impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                match error {
                    $error::Storage(error) => Self::Storage(error),
                    other => Self::Other(other.to_string()),
                }
            }
        })*
    };
}

fault_from!(TransactionError, TableError, CommitError);

type Rows = (String, Vec<u8>);

/// The rows of a range, from either end.
fn range(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    from: &str,
    until: &str,
    order: Order,
    limit: usize,
) -> Result<Vec<Rows>, Fault> {
    if from >= until {
        return Ok(Vec::new());
    }
    let mut rows = Vec::new();
    let mut found = table.range::<&str>(from..until)?;
    while rows.len() < limit {
        let next = match order {
            Order::Ascending => found.next(),
            Order::Descending => found.next_back(),
        };
        let Some(row) = next else { break };
        let (key, value) = row?;
        rows.push((key.value().to_owned(), value.value().to_vec()));
    }
    Ok(rows)
}

fn count(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    from: &str,
    until: &str,
) -> Result<u64, Fault> {
    if from >= until {
        return Ok(0);
    }
    let mut number = 0_u64;
    for row in table.range::<&str>(from..until)? {
        row?;
        number = number.saturating_add(1);
    }
    Ok(number)
}

type ReadTables = Vec<(&'static str, Option<ReadOnlyTable<&'static str, &'static [u8]>>)>;

struct Reading<'a> {
    engine: &'a Embedded,
    transaction: ReadTransaction,
    /// Opened once, because each opening walks the tree of tables.
    tables: RefCell<ReadTables>,
}

impl Reading<'_> {
    /// Runs `work` on a table; a table that was never written to is empty.
    fn on<T: Default>(
        &self,
        name: &'static str,
        work: impl FnOnce(&ReadOnlyTable<&'static str, &'static [u8]>) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        self.engine.guarded(|| {
            let mut tables = self.tables.borrow_mut();
            if !tables.iter().any(|(known, _)| *known == name) {
                let table = match self.transaction.open_table(definition(name)) {
                    Ok(table) => Some(table),
                    Err(TableError::TableDoesNotExist(_)) => None,
                    Err(error) => return Err(error.into()),
                };
                tables.push((name, table));
            }
            match tables.iter().find(|(known, _)| *known == name) {
                Some((_, Some(table))) => work(table),
                _ => Ok(T::default()),
            }
        })
    }
}

impl View for Reading<'_> {
    fn get(&self, table: &'static str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.on(table, |table| Ok(table.get(key)?.map(|value| value.value().to_vec())))
    }

    fn range(
        &self,
        table: &'static str,
        from: &str,
        until: &str,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Rows>, StoreError> {
        self.on(table, |table| range(table, from, until, order, limit))
    }

    fn count(&self, table: &'static str, from: &str, until: &str) -> Result<u64, StoreError> {
        self.on(table, |table| count(table, from, until))
    }
}

type WriteTable<'t> = redb::Table<'t, &'static str, &'static [u8]>;

struct Writing<'t> {
    engine: &'t Embedded,
    transaction: &'t WriteTransaction,
    tables: RefCell<Vec<(&'static str, WriteTable<'t>)>>,
}

impl<'t> Writing<'t> {
    fn on<T: Default>(
        &self,
        name: &'static str,
        work: impl FnOnce(&mut WriteTable<'t>) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        self.engine.guarded(|| {
            let mut tables = self.tables.borrow_mut();
            if !tables.iter().any(|(known, _)| *known == name) {
                tables.push((name, self.transaction.open_table(definition(name))?));
            }
            match tables.iter_mut().find(|(known, _)| *known == name) {
                Some((_, table)) => work(table),
                None => Ok(T::default()),
            }
        })
    }
}

impl View for Writing<'_> {
    fn get(&self, table: &'static str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.on(table, |table| Ok(table.get(key)?.map(|value| value.value().to_vec())))
    }

    fn range(
        &self,
        table: &'static str,
        from: &str,
        until: &str,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Rows>, StoreError> {
        self.on(table, |table| range(&*table, from, until, order, limit))
    }

    fn count(&self, table: &'static str, from: &str, until: &str) -> Result<u64, StoreError> {
        self.on(table, |table| count(&*table, from, until))
    }
}

impl Change for Writing<'_> {
    fn put(&mut self, table: &'static str, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.on(table, |table| {
            table.insert(key, value)?;
            Ok(())
        })
    }

    fn remove(&mut self, table: &'static str, key: &str) -> Result<bool, StoreError> {
        self.on(table, |table| Ok(table.remove(key)?.is_some()))
    }
}

impl Engine for Embedded {
    fn read(&self, work: &mut dyn FnMut(&dyn View) -> Result<(), StoreError>) -> Result<(), StoreError> {
        self.with(|database| {
            let transaction = self.guarded(|| Ok(database.begin_read()?))?;
            work(&Reading { engine: self, transaction, tables: RefCell::default() })
        })
    }

    fn write(
        &self,
        work: &mut dyn FnMut(&mut dyn Change) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.with(|database| {
            let mut transaction = self.guarded(|| Ok(database.begin_write()?))?;
            transaction.set_two_phase_commit(true);
            let done = {
                let mut writing =
                    Writing { engine: self, transaction: &transaction, tables: RefCell::default() };
                work(&mut writing)
            };
            match done {
                Ok(()) => self.guarded(|| Ok(transaction.commit()?)),
                Err(error) => {
                    // What the disk or the work said first is what the caller is told.
                    let _ = self.guarded(|| Ok(transaction.abort()?));
                    Err(error)
                }
            }
        })
    }

    fn is_remote(&self) -> bool {
        false
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn place(&self) -> String {
        format!("the file {}", self.path.display())
    }

    fn check(&self) -> Result<(), StoreError> {
        self.read(&mut |view| view.get(crate::table::META, "format").map(|_| ()))
    }
}

//! Copies of a store: made, put back, and moved from the embedded engine to PostgreSQL.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use coffer_server_http::BrokerConfig;
use coffer_server_postgres::{Migrated, Postgres};
use coffer_server_store::{BackupError, BackupInfo, check_backup};
use serde::Serialize;

use crate::SetupError;
use crate::assemble::{Absent, EMBEDDED_FILE, has_embedded, open_engine, open_store};
use crate::progress::{Counting, Progress};
use crate::sections::{self, StoreSection};

const BUFFER: usize = 1 << 20;

/// A copy that was made or put back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Copied {
    /// The file.
    pub file: PathBuf,
    /// How many rows it has.
    pub rows: u64,
    /// Its length.
    pub bytes: u64,
    /// The name of the master key that opens it.
    pub master_key: String,
}

/// What became of a database's schema, and of rows that were moved there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// The schema's version before.
    pub schema_from: u32,
    /// Its version now.
    pub schema_to: u32,
    /// How many rows were moved.
    pub rows: u64,
}

/// Copies the store into a new file of mode 0600, which is read again before it has its name.
pub fn backup(config: &BrokerConfig, out: &Path, progress: &mut Progress<'_>) -> Result<Copied, SetupError> {
    if out.exists() {
        return Err(SetupError::Exists(out.to_path_buf()));
    }
    let opened = open_store(config, Absent::Refuse)?;
    let temporary = PartFile::beside(out)?;
    let file = temporary.create()?;
    let mut to = Counting::new(BufWriter::with_capacity(BUFFER, file), progress);
    opened.store.backup(&mut to)?;
    let bytes = to.bytes;
    let written = SetupError::file("cannot write", out);
    let mut file = to.stream.into_inner().map_err(|error| written(error.into_error()))?;
    file.sync_all().map_err(SetupError::file("cannot write", out))?;
    file.rewind().map_err(SetupError::file("cannot read", out))?;
    let info = check_backup(&mut BufReader::with_capacity(BUFFER, file))?;
    temporary.publish(out)?;
    Ok(copied(out, info, bytes))
}

/// Puts a copy into the empty place that the configuration names. The whole copy is read and its master key compared
/// before the first row is written.
pub fn restore(
    config: &BrokerConfig,
    from: &Path,
    progress: &mut Progress<'_>,
) -> Result<Copied, SetupError> {
    let (section, key) = (StoreSection::read(&config.store)?, sections::master_key(&config.master_key)?);
    let unreadable = |error| SetupError::file("cannot read", from)(error);
    let mut file = File::open(from).map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    let info = check_backup(&mut BufReader::with_capacity(BUFFER, &file))?;
    let data = &config.data_dir;
    match coffer_server_masterkey::open(&key, data)? {
        Some(master) if master.id() == info.master_key => (),
        Some(master) => {
            return Err(SetupError::OtherMasterKey { expected: info.master_key, found: master.id() });
        }
        None => {
            return Err(SetupError::OtherMasterKey {
                expected: info.master_key,
                found: "not there".to_owned(),
            });
        }
    }
    let engine = open_engine(&section, data)?;
    file.rewind().map_err(unreadable)?;
    let mut from_file = Counting::new(BufReader::with_capacity(BUFFER, file), progress);
    let info = coffer_server_store::restore(&*engine, &mut from_file)?;
    drop(engine);
    // That it opens is the proof that it was put back.
    open_store(config, Absent::Refuse)?;
    Ok(copied(from, info, bytes))
}

/// Brings the database's schema up to date.
pub fn migrate(config: &BrokerConfig) -> Result<Moved, SetupError> {
    match StoreSection::read(&config.store)? {
        StoreSection::Postgres(postgres) => Ok(moved(Postgres::migrate(&postgres)?, 0)),
        other => Err(not_postgres("migrate", &other)),
    }
}

/// Moves the rows of the data folder's embedded store into the empty database that the configuration names. The file
/// stays as it is.
pub fn move_to_postgres(config: &BrokerConfig, progress: &mut Progress<'_>) -> Result<Moved, SetupError> {
    let section = StoreSection::read(&config.store)?;
    let StoreSection::Postgres(postgres) = &section else {
        return Err(not_postgres("migrate --from-embedded", &section));
    };
    if !has_embedded(&config.data_dir) {
        return Err(SetupError::NoStore(config.data_dir.join(EMBEDDED_FILE)));
    }
    let mut own = config.clone();
    own.store.clear();
    let store = open_store(&own, Absent::Refuse)?.store;
    let schema = Postgres::migrate(postgres)?;
    let engine = open_engine(&section, &config.data_dir)?;
    let (reader, writer) = std::io::pipe().map_err(SetupError::Threads)?;
    let (made, put) = thread::scope(|scope| {
        let copying = thread::Builder::new().name("copy".to_owned()).spawn_scoped(scope, move || {
            let mut to = BufWriter::with_capacity(BUFFER, writer);
            let info = store.backup(&mut to)?;
            to.flush().map_err(|source| BackupError::Stream { what: "written", source })?;
            Ok::<_, BackupError>(info)
        });
        let mut from = Counting::new(BufReader::with_capacity(BUFFER, reader), progress);
        let put = coffer_server_store::restore(&*engine, &mut from);
        // Before the other end is waited for, which would wait for a reader.
        drop(from);
        let ended = || std::io::Error::other("the copying thread ended early");
        let made = copying.map(|copying| copying.join().map_err(|_| ended()));
        (made, put)
    });
    let info: BackupInfo = put?;
    made.map_err(SetupError::Threads)?.map_err(SetupError::Threads)??;
    drop(engine);
    open_store(config, Absent::Refuse)?;
    Ok(moved(schema, info.rows))
}

fn moved(schema: Migrated, rows: u64) -> Moved {
    Moved { schema_from: schema.from, schema_to: schema.to, rows }
}

fn not_postgres(what: &'static str, found: &StoreSection) -> SetupError {
    SetupError::OtherStore { what, expected: "PostgreSQL", found: found.name() }
}

fn copied(file: &Path, info: BackupInfo, bytes: u64) -> Copied {
    Copied { file: file.to_path_buf(), rows: info.rows, bytes, master_key: info.master_key }
}

/// A file that has another name until it is whole, and is gone if it never is.
struct PartFile(PathBuf);

impl PartFile {
    fn beside(path: &Path) -> Result<Self, SetupError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok(Self(path.with_file_name(format!(".{name}.{}.part", std::process::id()))))
    }

    fn create(&self) -> Result<File, SetupError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        options.open(&self.0).map_err(SetupError::file("cannot make", &self.0))
    }

    /// A link, because a rename would replace what came there meanwhile.
    fn publish(&self, path: &Path) -> Result<(), SetupError> {
        std::fs::hard_link(&self.0, path).map_err(SetupError::file("cannot make", path))?;
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(SetupError::file("cannot make durable", folder))
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

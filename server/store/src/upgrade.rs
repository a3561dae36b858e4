//! From the first format to this one: a new file beside the old one, which takes its name when it is whole and durable.
//!
//! Killed at any instant, the store's name is that of the old file or of the whole new one. The old file stays, as
//! `store.redb.format-1`. What it held belongs to the tenant `default`, but the challenge keys, which are the cluster's.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use coffer_core_admin::TenantName;
use coffer_core_secret::SecretBytes;
use redb::ReadableDatabase;

use crate::embedded::Embedded;
use crate::engine::{Engine, View};
use crate::format1::{NAMED, Old};
use crate::heads::{Head, Origin, State, VersionInfo};
use crate::inner::CLUSTER;
use crate::master::{MasterKey, MasterKeyFile};
use crate::places::{AttemptState, Place, decision_key};
use crate::scope::Transaction;
use crate::store::{META_FORMAT, Store};
use crate::table::{self, ATTEMPT_STATES, ATTEMPTS, DECISIONS, EVIDENCE, EVIDENCE_PLACES, EVIDENCE_RING};
use crate::table::{META, OTHERS, REFUSED, RESOURCES, Table, VALUES, WITHDRAWN};
use crate::{StoreError, files};

/// The old file's name afterwards.
const ASIDE: &str = "store.redb.format-1";
/// The new file's name while it is made. Who upgrades has the old file to himself.
const MADE: &str = ".store.redb.upgrade";
/// The broker's keys that belong to the cluster.
const CHALLENGE_KEYS: &str = "challenge/";
/// How many bytes of rows are written in one step.
const STEP: usize = 4 << 20;

/// The engine as it is, or the upgraded one if it was of the first format.
pub(crate) fn if_needed(engine: Embedded, master: &MasterKeyFile) -> Result<Arc<dyn Engine>, StoreError> {
    let mut format = None;
    engine.read(&mut |view: &dyn View| {
        format = view.get(META, META_FORMAT)?;
        Ok(())
    })?;
    if format.is_none_or(|format| format != 1_u64.to_be_bytes()) {
        return Ok(Arc::new(engine));
    }
    let path = engine.path().to_path_buf();
    let (aside, made) = (path.with_file_name(ASIDE), path.with_file_name(MADE));
    let has_name = is_same_file(&path, &aside)?;
    remove(&made)?;
    let built = build(&engine, master, &made).and_then(|built| {
        if !has_name {
            files::keep_as(&path, &aside)?;
        }
        files::replace(&made, &path)?;
        Ok(built)
    });
    if built.is_err() {
        let _ = remove(&made);
    }
    built
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::File { what: "cannot remove", path: path.to_path_buf(), source })
        }
        _ => Ok(()),
    }
}

/// Whether the old file has its second name already. Another file of that name is in the way.
fn is_same_file(path: &Path, aside: &Path) -> Result<bool, StoreError> {
    let failed = |source| StoreError::File { what: "cannot read", path: aside.to_path_buf(), source };
    let other = match std::fs::symlink_metadata(aside) {
        Ok(other) => other,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(failed(source)),
    };
    let own = std::fs::metadata(path).map_err(failed)?;
    match (own.dev(), own.ino()) == (other.dev(), other.ino()) {
        true => Ok(true),
        false => Err(StoreError::UpgradeAside(aside.to_path_buf())),
    }
}

fn build(old: &Embedded, master: &MasterKeyFile, made: &Path) -> Result<Arc<dyn Engine>, StoreError> {
    let transaction =
        old.with(|database| database.begin_read().map_err(|error| StoreError::Database(error.to_string())))?;
    let wrong = || StoreError::WrongMasterKey {
        place: master.place(),
        expected: "that of a store of format 1".to_owned(),
        found: master.id(),
    };
    let source = Old::open(transaction, master.key())?.ok_or_else(wrong)?;
    let engine: Arc<dyn Engine> = Arc::new(Embedded::make_at(made, old.path())?);
    let store = Store::open_with(engine.clone(), master)?;
    Copy { store: &store, tenant: TenantName::DEFAULT, rows: Vec::new(), bytes: 0 }.run(&source)?;
    Ok(engine)
}

/// A row for the new store: sealed, or of a ring.
enum Row {
    Sealed(&'static str, String, SecretBytes),
    Ring(&'static str, String),
}

struct Copy<'a> {
    store: &'a Store,
    tenant: &'static str,
    rows: Vec<Row>,
    bytes: usize,
}

impl Copy<'_> {
    fn run(mut self, old: &Old) -> Result<(), StoreError> {
        for table in NAMED {
            old.named(table, |name, value| match is_cluster(table, name) {
                true => Ok(()),
                false => self.named(table, name, value),
            })?;
        }
        old.withdrawn(|name| {
            self.sealed(WITHDRAWN, table::key(self.tenant, name), SecretBytes::copy_of(b""))
        })?;
        old.resources(|path, resource| {
            let number = resource.version;
            let known = VersionInfo {
                version: number,
                bytes: resource.value.expose().len() as u64,
                changed_at: resource.at,
                state: State::Active,
                expires_at: None,
                release_limit: None,
                released: 0,
                origin: Origin::Stored,
            };
            let head = Head { last: number, versions: vec![known] };
            let key = table::key(self.tenant, path);
            self.sealed(RESOURCES, key, SecretBytes::new(head.join()))?;
            self.sealed(VALUES, table::part(self.tenant, path, &table::version(number)), resource.value)
        })?;
        let mut decided: HashMap<String, u32> = HashMap::new();
        old.decisions(|id, number, body| {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            decided.insert(id.to_owned(), number);
            self.sealed(DECISIONS, decision_key(self.tenant, id, number), body)
        })?;
        old.attempts(|id, attempt| {
            let place = Place { at: attempt.sequence, nth: 0 };
            let decisions = decided.get(id).copied().unwrap_or(0);
            let state = AttemptState { place, refused: attempt.refused, decisions };
            let ring = if attempt.refused { REFUSED } else { OTHERS };
            let key = table::key(self.tenant, id);
            self.sealed(ATTEMPTS, key.clone(), attempt.body)?;
            self.sealed(ATTEMPT_STATES, key, SecretBytes::new(state.join()))?;
            self.push(Row::Ring(ring, place.key(self.tenant, id)), 0)
        })?;
        old.evidence(|id, sequence, body| {
            let place = Place { at: sequence, nth: 0 };
            let key = table::key(self.tenant, id);
            self.sealed(EVIDENCE, key.clone(), body)?;
            self.sealed(EVIDENCE_PLACES, key, SecretBytes::copy_of(&place.join()))?;
            self.push(Row::Ring(EVIDENCE_RING, place.key(self.tenant, id)), 0)
        })?;
        self.flush()?;
        self.tenant = CLUSTER;
        old.named(Table::Keys, |name, value| match is_cluster(Table::Keys, name) {
            true => self.named(Table::Keys, name, value),
            false => Ok(()),
        })?;
        self.flush()
    }

    fn named(&mut self, table: Table, name: &str, value: SecretBytes) -> Result<(), StoreError> {
        self.sealed(table.name(), table::key(self.tenant, name), value)
    }

    fn sealed(&mut self, table: &'static str, key: String, value: SecretBytes) -> Result<(), StoreError> {
        let length = value.expose().len();
        self.push(Row::Sealed(table, key, value), length)
    }

    fn push(&mut self, row: Row, length: usize) -> Result<(), StoreError> {
        // A row's own cost beside its value.
        self.bytes = self.bytes.saturating_add(length).saturating_add(256);
        self.rows.push(row);
        if self.bytes >= STEP { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        let inner = &self.store.inner;
        inner.write(|change| {
            let mut transaction = Transaction::begin(&inner.keys, change, self.tenant)?;
            for row in &self.rows {
                match row {
                    Row::Sealed(table, key, value) => transaction.put_sealed(table, key, value.expose())?,
                    Row::Ring(table, key) => transaction.change.put(table, key, b"")?,
                }
            }
            transaction.finish()
        })?;
        self.rows.clear();
        self.bytes = 0;
        Ok(())
    }
}

fn is_cluster(table: Table, name: &str) -> bool {
    table == Table::Keys && name.starts_with(CHALLENGE_KEYS)
}

//! New data keys for a tenant, and moving its records to the newest one while the tenant is served.
//!
//! A write reads the epoch of new records in its own transaction. So once a rotation is committed no older record is
//! made, and one pass over the rows after it finds them all; then the older keys are dropped.

use coffer_core_admin::TenantName;

use crate::StoreError;
use crate::engine::{Order, View};
use crate::inner::state_of;
use crate::keys::{self, Keyring, TenantState};
use crate::scope::{Scope, Transaction};
use crate::seal;
use crate::store::Store;
use crate::table::{self, RESEALS, TENANT_KEYS};

/// The name of a tenant's row in [`RESEALS`].
const CURSOR: &str = "cursor";

/// How far the moving of a tenant's records is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The epoch that they are moved to.
    pub epoch: u32,
    /// How many records this step looked at.
    pub looked_at: u64,
    /// How many of them it moved.
    pub moved: u64,
    /// How many did not open and stayed as they were; [`Store::verify`] names them.
    pub damaged: u64,
    /// Whether all are moved and the older keys are gone.
    pub done: bool,
}

/// What is still sealed under older data keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// The epoch of new records.
    pub epoch: u32,
    /// How many older keys there are yet. They go when all their records are moved, so none means that all are.
    pub older_keys: u64,
    /// How many records older keys seal.
    pub records: u64,
    /// How many records were looked at.
    pub looked_at: u64,
    /// Whether all were looked at. If not, more may be left.
    pub counted: bool,
}

/// Where a pass over the rows goes on.
#[derive(Default)]
struct Cursor {
    epoch: u32,
    table: String,
    /// The last key that was looked at.
    key: String,
}

impl Cursor {
    fn read(
        ring: &Keyring,
        view: &(impl View + ?Sized),
        tenant: &str,
        epoch: u32,
    ) -> Result<Self, StoreError> {
        let fresh = Self { epoch, ..Self::default() };
        let place = table::key(tenant, CURSOR);
        let Some(sealed) = view.get(RESEALS, &place)? else { return Ok(fresh) };
        let plain = ring.open_own(RESEALS, &place, &sealed)?;
        let parse = || {
            let (epoch, rest) = plain.expose().split_first_chunk()?;
            let (table, key) = std::str::from_utf8(rest).ok()?.split_once('\n')?;
            Some(Self { epoch: u32::from_be_bytes(*epoch), table: table.to_owned(), key: key.to_owned() })
        };
        let found = parse().ok_or_else(|| keys::damaged(RESEALS, &place))?;
        // A pass to an older epoch has missed what that epoch's own time wrote.
        Ok(if found.epoch == epoch { found } else { fresh })
    }

    fn join(&self) -> Vec<u8> {
        let mut bytes = self.epoch.to_be_bytes().to_vec();
        bytes.extend_from_slice(self.table.as_bytes());
        bytes.push(b'\n');
        bytes.extend_from_slice(self.key.as_bytes());
        bytes
    }
}

impl Scope {
    /// Makes a new data key, which all new records are sealed with; gives its epoch.
    pub fn rotate_key(&self) -> Result<u32, StoreError> {
        let (ring, tenant) = (&self.inner.keys, &*self.tenant);
        self.inner.write(|change| {
            let state = state_of(ring, &*change, tenant)?;
            let epoch = ring.make_epoch(change, tenant)?;
            ring.put_state(change, tenant, TenantState { revision: state.revision, epoch })?;
            Ok(epoch)
        })
    }

    /// Moves records of older epochs to the newest one, looking at so many of them in one transaction. What was done is
    /// remembered, so that the next call goes on, after a crash too.
    pub fn reseal(&self, at_most: usize) -> Result<Progress, StoreError> {
        let (ring, tenant) = (&self.inner.keys, &*self.tenant);
        let place = table::key(tenant, CURSOR);
        let (first, until) = table::bounds(tenant);
        self.inner.write(|change| {
            let state = state_of(ring, &*change, tenant)?;
            let mut cursor = Cursor::read(ring, &*change, tenant, state.epoch)?;
            let mut progress =
                Progress { epoch: state.epoch, looked_at: 0, moved: 0, damaged: 0, done: false };
            let mut left = at_most.max(1);
            let mut transaction = Transaction::begin(ring, change, tenant)?;
            let tables = table::sealed_by_tenant().skip_while(|name| {
                // The table where the last step ended, or the first.
                !cursor.table.is_empty() && *name != cursor.table
            });
            let mut ended = true;
            for name in tables.collect::<Vec<_>>() {
                if cursor.table != name {
                    cursor.table = name.to_owned();
                    cursor.key.clear();
                }
                let from = if cursor.key.is_empty() { first.clone() } else { table::after(&cursor.key) };
                // At most a page, because the values are in memory together.
                let asked = left.min(table::page(name));
                let rows = transaction.change.range(name, &from, &until, Order::Ascending, asked)?;
                let full = rows.len() == asked;
                left = left.saturating_sub(rows.len());
                for (key, sealed) in rows {
                    progress.looked_at = progress.looked_at.saturating_add(1);
                    move_record(&mut transaction, name, &key, &sealed, &mut progress)?;
                    cursor.key = key;
                }
                if full {
                    ended = false;
                    break;
                }
            }
            transaction.finish()?;
            if !ended {
                let sealed = ring.seal_own(RESEALS, &place, &cursor.join())?;
                change.put(RESEALS, &place, &sealed)?;
                return Ok(progress);
            }
            change.discard(RESEALS, &place)?;
            let newest = table::key(tenant, &keys::epoch_name(state.epoch));
            for (key, _) in change.range(TENANT_KEYS, &first, &until, Order::Ascending, usize::MAX)? {
                if key != newest {
                    change.discard(TENANT_KEYS, &key)?;
                }
            }
            progress.done = true;
            Ok(progress)
        })
    }
}

impl Scope {
    /// How much older data keys seal, looking at so many records at most, from where the pass that moves them is. What is
    /// moved meanwhile may be counted.
    pub fn left_to_reseal(&self, at_most: u64) -> Result<Left, StoreError> {
        let (ring, tenant) = (&self.inner.keys, &*self.tenant);
        let (first, until) = table::bounds(tenant);
        let (state, keys, cursor) = self.inner.read(|view| {
            let state = state_of(ring, view, tenant)?;
            let keys = view.count(TENANT_KEYS, &first, &until)?;
            Ok((state, keys, Cursor::read(ring, view, tenant, state.epoch)?))
        })?;
        let mut left = Left {
            epoch: state.epoch,
            older_keys: keys.saturating_sub(1),
            records: 0,
            looked_at: 0,
            counted: true,
        };
        if left.older_keys == 0 {
            return Ok(left);
        }
        let tables = table::sealed_by_tenant();
        for name in tables.skip_while(|name| !cursor.table.is_empty() && *name != cursor.table) {
            let mut from = match name == cursor.table && !cursor.key.is_empty() {
                true => table::after(&cursor.key),
                false => first.clone(),
            };
            let page = table::page(name);
            loop {
                let may_look = at_most.saturating_sub(left.looked_at);
                if may_look == 0 {
                    left.counted = false;
                    return Ok(left);
                }
                let asked = page.min(usize::try_from(may_look).unwrap_or(page));
                let rows =
                    self.inner.read(|view| view.range(name, &from, &until, Order::Ascending, asked))?;
                let older = |(_, sealed): &&(String, Vec<u8>)| {
                    seal::epoch_of(sealed).is_ok_and(|epoch| epoch != state.epoch)
                };
                left.records = left.records.saturating_add(rows.iter().filter(older).count() as u64);
                left.looked_at = left.looked_at.saturating_add(rows.len() as u64);
                match rows.last() {
                    Some((key, _)) if rows.len() == asked => from = table::after(key),
                    _ => break,
                }
            }
        }
        Ok(left)
    }
}

fn move_record(
    transaction: &mut Transaction<'_>,
    name: &'static str,
    key: &str,
    sealed: &[u8],
    progress: &mut Progress,
) -> Result<(), StoreError> {
    if seal::epoch_of(sealed).is_ok_and(|epoch| epoch == progress.epoch) {
        return Ok(());
    }
    match transaction.keys.open(&*transaction.change, name, transaction.tenant, key, sealed) {
        Ok(value) => {
            transaction.put_sealed(name, key, value.expose())?;
            progress.moved = progress.moved.saturating_add(1);
        }
        Err(StoreError::Record { .. }) => progress.damaged = progress.damaged.saturating_add(1),
        Err(error) => return Err(error),
    }
    Ok(())
}

impl Store {
    /// Makes a new data key for a tenant, which all its new records are sealed with; gives its epoch.
    pub fn rotate_tenant_key(&self, tenant: &TenantName) -> Result<u32, StoreError> {
        self.tenant(tenant).rotate_key()
    }

    /// One step of moving a tenant's records to its newest data key; see [`Scope::reseal`].
    pub fn reseal(&self, tenant: &TenantName, at_most: usize) -> Result<Progress, StoreError> {
        self.tenant(tenant).reseal(at_most)
    }
}

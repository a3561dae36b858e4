//! What a tenant owns, or the cluster: named values in tables, read one at a time and changed in transactions.
//!
//! Each change of a table that decisions rest on raises the tenant's revision in its own transaction, so that a release
//! that was decided before it is not made after it (`journal.rs`).

use std::sync::Arc;

use coffer_core_secret::SecretBytes;

use crate::engine::{Change, Order, View};
use crate::inner::{CLUSTER, Inner, state_of};
use crate::keys::{Keyring, TenantState};
use crate::seal::Sealer;
use crate::table::{self, Table, WITHDRAWN};
use crate::{StoreError, Tag};

/// What a tenant owns, or the cluster. Clones are handles on the same.
#[derive(Clone)]
pub struct Scope {
    pub(crate) inner: Arc<Inner>,
    pub(crate) tenant: Arc<str>,
}

impl Scope {
    pub(crate) fn new(inner: Arc<Inner>, tenant: &str) -> Self {
        Self { inner, tenant: tenant.into() }
    }

    /// Whether this is the cluster's.
    pub fn is_cluster(&self) -> bool {
        *self.tenant == *CLUSTER
    }

    /// The value of a name.
    pub fn get(&self, table: Table, name: &str) -> Result<Option<SecretBytes>, StoreError> {
        self.inner.read(|view| get(&self.inner.keys, view, &self.tenant, table.name(), name))
    }

    /// The value of a name, and its tag.
    pub fn get_tagged(&self, table: Table, name: &str) -> Result<Option<(SecretBytes, Tag)>, StoreError> {
        let found = self.get(table, name)?;
        Ok(found.map(|value| {
            let tag = self.tag(table, name, &value);
            (value, tag)
        }))
    }

    fn tag(&self, table: Table, name: &str, value: &SecretBytes) -> Tag {
        self.inner.keys.tag(table.name(), &table::key(&self.tenant, name), value.expose())
    }

    /// All names and values, in the order of the names.
    pub fn list(&self, table: Table) -> Result<Vec<(String, SecretBytes)>, StoreError> {
        self.list_page(table, None, usize::MAX)
    }

    /// The names after `after`, in their order, and their values; at most `limit`.
    pub fn list_page(
        &self,
        table: Table,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, SecretBytes)>, StoreError> {
        self.inner.read(|view| list(&self.inner.keys, view, &self.tenant, table.name(), after, limit))
    }

    /// How many names there are.
    pub fn count(&self, table: Table) -> Result<u64, StoreError> {
        let (from, until) = table::bounds(&self.tenant);
        self.inner.read(|view| view.count(table.name(), &from, &until))
    }

    /// Stores a value, or replaces it. Durable when this returns.
    pub fn put(&self, table: Table, name: &str, value: &[u8]) -> Result<(), StoreError> {
        self.transact(|transaction| transaction.put(table, name, value))
    }

    /// Stores a value if the present one has this tag, or if there is none and no tag is given; says whether it did.
    pub fn put_if_tag(
        &self,
        table: Table,
        name: &str,
        expected: Option<Tag>,
        value: &[u8],
    ) -> Result<bool, StoreError> {
        self.transact(|transaction| {
            let found = transaction.get_tagged(table, name)?.map(|(_, tag)| tag);
            if found != expected {
                return Ok(false);
            }
            transaction.put(table, name, value).map(|()| true)
        })
    }

    /// Stores and removes in one transaction.
    pub fn put_and_delete(
        &self,
        table: Table,
        put: &[(&str, &[u8])],
        delete: &[&str],
    ) -> Result<(), StoreError> {
        self.transact(|transaction| {
            for (name, value) in put {
                transaction.put(table, name, value)?;
            }
            for name in delete {
                transaction.delete(table, name)?;
            }
            Ok(())
        })
    }

    /// Removes a value; says whether it was there.
    pub fn delete(&self, table: Table, name: &str) -> Result<bool, StoreError> {
        self.transact(|transaction| transaction.delete(table, name))
    }

    /// Removes a value, and remembers that this was decided; says whether it was there.
    pub fn withdraw(&self, table: Table, name: &str) -> Result<bool, StoreError> {
        self.transact(|transaction| transaction.withdraw(table, name))
    }

    /// Whether a value of this name was ever withdrawn.
    pub fn was_withdrawn(&self, table: Table, name: &str) -> Result<bool, StoreError> {
        let name = withdrawn(table, name);
        let found = self.inner.read(|view| get(&self.inner.keys, view, &self.tenant, WITHDRAWN, &name))?;
        Ok(found.is_some())
    }

    /// How many changes there were that decisions rest on.
    pub fn revision(&self) -> Result<u64, StoreError> {
        let state = self.inner.read(|view| state_of(&self.inner.keys, view, &self.tenant))?;
        Ok(state.revision)
    }

    /// Runs `work` as one transaction: all of it or nothing, durable when this returns `Ok`, and as if no other had run
    /// at the same time. `work` may be run more than once and must begin from nothing each time.
    pub fn transact<T, E: From<StoreError>>(
        &self,
        mut work: impl FnMut(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut result = None;
        let written = self.inner.engine.write(&mut |change| {
            result = None;
            let mut transaction = Transaction::begin(&self.inner.keys, change, &self.tenant)?;
            match work(&mut transaction) {
                Ok(value) => {
                    transaction.finish()?;
                    result = Some(Ok(value));
                    Ok(())
                }
                Err(error) => {
                    result = Some(Err(error));
                    Err(StoreError::GivenUp)
                }
            }
        });
        match (written, result) {
            (Ok(()), Some(result)) | (Err(StoreError::GivenUp), Some(result @ Err(_))) => result,
            (Err(error), _) => Err(error.into()),
            (Ok(()), None) => Err(StoreError::GivenUp.into()),
        }
    }
}

/// The value of a name, in any table that the tenant's key seals.
pub(crate) fn get(
    keys: &Keyring,
    view: &(impl View + ?Sized),
    tenant: &str,
    table: &'static str,
    name: &str,
) -> Result<Option<SecretBytes>, StoreError> {
    let key = table::key(tenant, name);
    view.get(table, &key)?.map(|sealed| keys.open(view, table, tenant, &key, &sealed)).transpose()
}

fn list(
    keys: &Keyring,
    view: &(impl View + ?Sized),
    tenant: &str,
    table: &'static str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, SecretBytes)>, StoreError> {
    let (first, until) = table::bounds(tenant);
    let from = after.map_or(first, |name| table::after(&table::key(tenant, name)));
    let rows = view.range(table, &from, &until, Order::Ascending, limit)?;
    let mut list = Vec::with_capacity(rows.len());
    for (key, sealed) in rows {
        let value = keys.open(view, table, tenant, &key, &sealed)?;
        let name = table::split(&key).map(|(_, name)| name.to_owned()).unwrap_or_default();
        list.push((name, value));
    }
    Ok(list)
}

fn withdrawn(table: Table, name: &str) -> String {
    format!("{}/{name}", table.name())
}

/// A transaction on what a tenant owns, or the cluster.
pub struct Transaction<'a> {
    pub(crate) keys: &'a Keyring,
    pub(crate) change: &'a mut dyn Change,
    pub(crate) tenant: &'a str,
    state: TenantState,
    sealer: Sealer,
    raise: bool,
}

impl<'a> Transaction<'a> {
    pub(crate) fn begin(
        keys: &'a Keyring,
        change: &'a mut dyn Change,
        tenant: &'a str,
    ) -> Result<Self, StoreError> {
        let state = state_of(keys, &*change, tenant)?;
        let sealer = keys.sealer(&*change, tenant, state)?;
        Ok(Self { keys, change, tenant, state, sealer, raise: false })
    }

    pub(crate) fn finish(self) -> Result<(), StoreError> {
        match self.raise {
            false => Ok(()),
            true => {
                let revision = self.state.revision.saturating_add(1);
                let state = TenantState { revision, epoch: self.state.epoch };
                self.keys.put_state(self.change, self.tenant, state)
            }
        }
    }

    /// Makes decisions stale that were made before this transaction.
    pub fn raise_revision(&mut self) {
        self.raise = true;
    }

    /// The revision that this transaction began with.
    pub fn revision(&self) -> u64 {
        self.state.revision
    }

    /// The value of a name.
    pub fn get(&self, table: Table, name: &str) -> Result<Option<SecretBytes>, StoreError> {
        get(self.keys, &*self.change, self.tenant, table.name(), name)
    }

    /// The value of a name, and its tag.
    pub fn get_tagged(&self, table: Table, name: &str) -> Result<Option<(SecretBytes, Tag)>, StoreError> {
        Ok(self.get(table, name)?.map(|value| {
            let tag = self.keys.tag(table.name(), &table::key(self.tenant, name), value.expose());
            (value, tag)
        }))
    }

    /// The names after `after`, in their order, and their values; at most `limit`.
    pub fn list_page(
        &self,
        table: Table,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, SecretBytes)>, StoreError> {
        list(self.keys, &*self.change, self.tenant, table.name(), after, limit)
    }

    /// How many names there are.
    pub fn count(&self, table: Table) -> Result<u64, StoreError> {
        let (from, until) = table::bounds(self.tenant);
        self.change.count(table.name(), &from, &until)
    }

    /// Stores a value, or replaces it.
    pub fn put(&mut self, table: Table, name: &str, value: &[u8]) -> Result<(), StoreError> {
        table::check(name)?;
        self.raise |= table.decides();
        let key = table::key(self.tenant, name);
        self.put_sealed(table.name(), &key, value)
    }

    /// Removes a value; says whether it was there.
    pub fn delete(&mut self, table: Table, name: &str) -> Result<bool, StoreError> {
        let found = self.change.remove(table.name(), &table::key(self.tenant, name))?;
        self.raise |= found && table.decides();
        Ok(found)
    }

    /// Removes a value, and remembers that this was decided; says whether it was there.
    pub fn withdraw(&mut self, table: Table, name: &str) -> Result<bool, StoreError> {
        let found = self.delete(table, name)?;
        if found {
            let key = table::key(self.tenant, &withdrawn(table, name));
            self.put_sealed(WITHDRAWN, &key, b"")?;
        }
        Ok(found)
    }

    /// Seals a value and puts it at a key that is whole.
    pub(crate) fn put_sealed(
        &mut self,
        table: &'static str,
        key: &str,
        value: &[u8],
    ) -> Result<(), StoreError> {
        let sealed = self.sealer.seal(table, key, value)?;
        self.change.put(table, key, &sealed)
    }
}

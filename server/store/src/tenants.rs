//! Tenants: made with a data key of their own, and removed by dropping it first.
//!
//! A tenant whose key is gone is unreadable at once; its rows go in steps afterwards, and a removal that was killed is
//! taken up again. Nothing can be made of its name before they are gone.

use std::sync::{Arc, PoisonError};

use coffer_core_admin::TenantName;
use coffer_core_secret::SecretBytes;

use crate::engine::Order;
use crate::inner::CLUSTER;
use crate::keys;
use crate::removal::{make, remove_rows};
use crate::rings::Limits;
use crate::scope::Transaction;
use crate::store::Store;
use crate::table::{self, REMOVALS, RESEALS, REVISIONS, TENANT_KEYS, Table};
use crate::{StoreError, Tag};

impl Store {
    /// Makes a tenant with these settings.
    pub fn create_tenant(&self, tenant: &TenantName, settings: &[u8]) -> Result<(), StoreError> {
        let name = tenant.as_str();
        if self.inner.read(|view| view.get(REMOVALS, &table::key(CLUSTER, name)))?.is_some() {
            remove_rows(&self.inner, name)?;
        }
        self.inner.write(|change| {
            let there = change.get(REVISIONS, &keys::state_key(name))?.is_some();
            if there || change.get(REMOVALS, &table::key(CLUSTER, name))?.is_some() {
                return Err(StoreError::TenantExists(name.to_owned()));
            }
            make(&self.inner.keys, change, name, settings)
        })
    }

    /// The tenants and their settings, in the order of their names.
    pub fn tenants(&self) -> Result<Vec<(TenantName, SecretBytes)>, StoreError> {
        let mut list = vec![(TenantName::default(), self.default_settings()?)];
        for (name, settings) in self.cluster().list(Table::Tenants)? {
            // A row of another name is not one that this store wrote.
            let name: TenantName = name
                .parse()
                .map_err(|_| keys::damaged(Table::Tenants.name(), &table::key(CLUSTER, &name)))?;
            if !name.is_default() {
                list.push((name, settings));
            }
        }
        list.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(list)
    }

    fn default_settings(&self) -> Result<SecretBytes, StoreError> {
        let found = self.cluster().get(Table::Tenants, TenantName::DEFAULT)?;
        Ok(found.unwrap_or_else(|| SecretBytes::copy_of(b"{}")))
    }

    /// Whether there is the tenant.
    pub fn tenant_exists(&self, tenant: &TenantName) -> Result<bool, StoreError> {
        let key = keys::state_key(tenant.as_str());
        Ok(self.inner.read(|view| view.get(REVISIONS, &key))?.is_some())
    }

    /// A tenant's settings and their tag; `{}` for the tenant `default` as long as it was given none.
    pub fn tenant_settings(&self, tenant: &TenantName) -> Result<Option<(SecretBytes, Tag)>, StoreError> {
        if !self.tenant_exists(tenant)? {
            return Ok(None);
        }
        let settings = match self.cluster().get(Table::Tenants, tenant.as_str())? {
            Some(settings) => settings,
            None => SecretBytes::copy_of(b"{}"),
        };
        let key = table::key(CLUSTER, tenant.as_str());
        let tag = self.inner.keys.tag(Table::Tenants.name(), &key, settings.expose());
        Ok(Some((settings, tag)))
    }

    /// Changes a tenant's settings, if they still have the tag that is given; says whether they had. Raises the
    /// revision of the tenant and of the cluster.
    pub fn set_tenant_settings(
        &self,
        tenant: &TenantName,
        expected: Option<Tag>,
        settings: &[u8],
    ) -> Result<bool, StoreError> {
        let name = tenant.as_str();
        self.inner.write(|change| {
            let mut cluster = Transaction::begin(&self.inner.keys, change, CLUSTER)?;
            let found = cluster.get(Table::Tenants, name)?.unwrap_or_else(|| SecretBytes::copy_of(b"{}"));
            let key = table::key(CLUSTER, name);
            let tag = self.inner.keys.tag(Table::Tenants.name(), &key, found.expose());
            if expected.is_some_and(|expected| expected != tag) {
                return Ok(false);
            }
            cluster.put(Table::Tenants, name, settings)?;
            cluster.finish()?;
            // Found missing here if there is no such tenant, and then nothing of this is kept.
            let mut own = Transaction::begin(&self.inner.keys, change, name)?;
            own.raise_revision();
            own.finish().map(|()| true)
        })
    }

    /// Removes a tenant and all that it owns; says whether it was there. It is unreadable at once.
    pub fn remove_tenant(&self, tenant: &TenantName) -> Result<bool, StoreError> {
        if tenant.is_default() {
            return Err(StoreError::TenantStays(tenant.to_string()));
        }
        let name = tenant.as_str();
        let begun = table::key(CLUSTER, name);
        let found = self.inner.write(|change| {
            if !change.remove(REVISIONS, &keys::state_key(name))? {
                return Ok(change.get(REMOVALS, &begun)?.is_some());
            }
            let (from, until) = table::bounds(name);
            for (key, _) in change.range(TENANT_KEYS, &from, &until, Order::Ascending, usize::MAX)? {
                change.discard(TENANT_KEYS, &key)?;
            }
            for (key, _) in change.range(RESEALS, &from, &until, Order::Ascending, usize::MAX)? {
                change.discard(RESEALS, &key)?;
            }
            let mark = self.inner.keys.seal_own(REMOVALS, &begun, b"")?;
            change.put(REMOVALS, &begun, &mark)?;
            let mut cluster = Transaction::begin(&self.inner.keys, change, CLUSTER)?;
            cluster.delete(Table::Tenants, name)?;
            cluster.raise_revision();
            cluster.finish().map(|()| true)
        })?;
        self.inner.keys.forget(name);
        self.inner.rings.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.inner.limits.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        if found {
            remove_rows(&self.inner, name)?;
        }
        Ok(found)
    }

    /// The revisions of tenants, in one read; none of a tenant that there is not.
    pub fn revisions(&self, tenants: &[TenantName]) -> Result<Vec<Option<u64>>, StoreError> {
        let places: Vec<String> = tenants.iter().map(|tenant| keys::state_key(tenant.as_str())).collect();
        let places: Vec<&str> = places.iter().map(String::as_str).collect();
        let rows = self.inner.read(|view| view.get_many(REVISIONS, &places))?;
        let mut revisions = Vec::with_capacity(rows.len());
        for (place, row) in places.iter().zip(rows) {
            let state = row.map(|sealed| self.inner.keys.open_state(place, &sealed)).transpose()?;
            revisions.push(state.map(|state| state.revision));
        }
        Ok(revisions)
    }

    /// Sets how much is kept of a tenant's attempts, in this process from now on.
    pub fn set_limits(&self, tenant: &TenantName, limits: Limits) {
        let mut all = self.inner.limits.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(Arc::from(tenant.as_str()), limits);
    }
}

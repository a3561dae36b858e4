//! What every handle on a store shares: the engine, the keys, what is remembered of the rings.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::StoreError;
use crate::engine::{Change, Engine, View};
use crate::keys::{Keyring, TenantState};
use crate::rings::{Limits, Ring};

/// The cluster's rows have this tenant, whose name no tenant can have.
pub(crate) const CLUSTER: &str = "";

pub(crate) struct Inner {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) keys: Keyring,
    /// How many attempts each tenant's rings hold, as far as this process knows. Held during every journal.
    pub(crate) rings: Mutex<HashMap<Arc<str>, Ring>>,
    pub(crate) limits: RwLock<HashMap<Arc<str>, Limits>>,
    /// Which of the counters of uncounted releases this process raises, so that replicas do not meet there.
    pub(crate) shard: u8,
    pub(crate) created: bool,
}

impl Inner {
    /// Runs `work` on one state of the store.
    pub(crate) fn read<T>(
        &self,
        mut work: impl FnMut(&dyn View) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut result = None;
        self.engine.read(&mut |view| {
            result = Some(work(view)?);
            Ok(())
        })?;
        result.ok_or_else(not_run)
    }

    /// One durable transaction: all of it or nothing. `work` may be run again from the beginning.
    pub(crate) fn write<T>(
        &self,
        work: impl FnMut(&mut dyn Change) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        write(&*self.engine, work)
    }

    /// The limits of a tenant's attempts.
    pub(crate) fn limits_of(&self, tenant: &str) -> Limits {
        let limits = self.limits.read().unwrap_or_else(PoisonError::into_inner);
        limits.get(tenant).copied().unwrap_or_default()
    }
}

pub(crate) fn write<T>(
    engine: &dyn Engine,
    mut work: impl FnMut(&mut dyn Change) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut result = None;
    engine.write(&mut |change| {
        result = None;
        result = Some(work(change)?);
        Ok(())
    })?;
    result.ok_or_else(not_run)
}

fn not_run() -> StoreError {
    StoreError::Database("the engine did not run the transaction's work".to_owned())
}

/// The state of a tenant that must be there.
pub(crate) fn state_of(
    keys: &Keyring,
    view: &(impl View + ?Sized),
    tenant: &str,
) -> Result<TenantState, StoreError> {
    keys.state(view, tenant)?.ok_or_else(|| StoreError::NoSuchTenant(tenant.to_owned()))
}

/// Where others write to the same rings, how many attempts are added before the rings are counted again.
const RECOUNT: u64 = 256;

impl Inner {
    /// Whether a ring's numbers are those of the store, so that it may be pruned by them.
    pub(crate) fn is_exact(&self, ring: &Ring) -> bool {
        !self.engine.is_shared() || ring.added == 0
    }

    /// Whether a ring must be counted again before it is pruned.
    pub(crate) fn wants_count(&self, ring: &Ring) -> bool {
        self.engine.is_shared() && ring.added >= RECOUNT
    }
}

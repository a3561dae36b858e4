//! Data keys: the cluster's, which the master key wraps, and each tenant's by epoch, which the cluster's seals.
//!
//! Epochs are numbers of the whole cluster and never given twice, so that a tenant that is removed and made again
//! never meets a key of its namesake, in no replica's memory. A write reads the epoch of new records in its own
//! transaction: no record is written under a key that was dropped.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::hmac;
use coffer_core_secret::{Secret, SecretBytes};

use crate::engine::{Change, View};
use crate::seal::{self, Broken, Sealer, SealingKey};
use crate::table::{self, META, REVISIONS, TENANT_KEYS};
use crate::{StoreError, Tag};

/// The counter of epochs in [`META`], sealed by the cluster's data key.
const EPOCHS: &str = "epochs";
/// The name of a tenant's row in [`REVISIONS`].
const NOW: &str = "now";
/// How many keys are remembered; more are read again.
const REMEMBERED: usize = 4096;
const TAG_LABEL: &[u8] = b"coffer store tag v1";

/// The keys of an open store.
pub(crate) struct Keyring {
    root: Secret<[u8; 32]>,
    cluster: SealingKey,
    tags: hmac::Key,
    known: RwLock<HashMap<u32, Known>>,
}

#[derive(Clone)]
struct Known {
    tenant: Arc<str>,
    key: Arc<SealingKey>,
}

/// What every transaction on a tenant begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TenantState {
    /// Raised by each change that decisions rest on.
    pub(crate) revision: u64,
    /// The epoch of new records.
    pub(crate) epoch: u32,
}

impl TenantState {
    fn join(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        let (revision, epoch) = bytes.split_at_mut(8);
        revision.copy_from_slice(&self.revision.to_be_bytes());
        epoch.copy_from_slice(&self.epoch.to_be_bytes());
        bytes
    }

    fn split(plain: &[u8]) -> Option<Self> {
        let (revision, rest) = plain.split_first_chunk()?;
        let epoch = rest.try_into().ok()?;
        Some(Self { revision: u64::from_be_bytes(*revision), epoch: u32::from_be_bytes(epoch) })
    }
}

impl Keyring {
    pub(crate) fn new(root: Secret<[u8; 32]>) -> Self {
        let cluster = SealingKey::new(&root);
        let tags = cluster.derive(TAG_LABEL);
        Self { root, cluster, tags, known: RwLock::default() }
    }

    /// The cluster's data key, to be wrapped.
    pub(crate) fn root(&self) -> &Secret<[u8; 32]> {
        &self.root
    }

    /// A record that the cluster's data key seals itself.
    pub(crate) fn open_own(
        &self,
        table: &'static str,
        key: &str,
        sealed: &[u8],
    ) -> Result<SecretBytes, StoreError> {
        self.cluster.open(table, key, sealed).map_err(|Broken| damaged(table, key))
    }

    pub(crate) fn seal_own(
        &self,
        table: &'static str,
        key: &str,
        value: &[u8],
    ) -> Result<Vec<u8>, StoreError> {
        self.cluster.seal(0, table, key, value)
    }

    /// Opens a record of a tenant. The key is read through `view` if it is not known yet.
    pub(crate) fn open(
        &self,
        view: &(impl View + ?Sized),
        table: &'static str,
        tenant: &str,
        key: &str,
        sealed: &[u8],
    ) -> Result<SecretBytes, StoreError> {
        let broken = |Broken| damaged(table, key);
        let epoch = seal::epoch_of(sealed).map_err(broken)?;
        let data_key = self.of_epoch(view, tenant, epoch)?.ok_or_else(|| damaged(table, key))?;
        data_key.open(table, key, sealed).map_err(broken)
    }

    /// A tenant's data key of an epoch, if the tenant has one.
    fn of_epoch(
        &self,
        view: &(impl View + ?Sized),
        tenant: &str,
        epoch: u32,
    ) -> Result<Option<Arc<SealingKey>>, StoreError> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).get(&epoch).cloned();
        if let Some(known) = known {
            return Ok((*known.tenant == *tenant).then_some(known.key));
        }
        let place = table::key(tenant, &epoch_name(epoch));
        let Some(sealed) = view.get(TENANT_KEYS, &place)? else { return Ok(None) };
        let bytes = self.open_own(TENANT_KEYS, &place, &sealed)?;
        let bytes = <[u8; 32]>::try_from(bytes.expose().as_slice());
        let bytes = bytes.map(Secret::new).map_err(|_| damaged(TENANT_KEYS, &place))?;
        let key = Arc::new(SealingKey::new(&bytes));
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(epoch, Known { tenant: tenant.into(), key: key.clone() });
        Ok(Some(key))
    }

    /// Forgets the keys of a tenant that is removed.
    pub(crate) fn forget(&self, tenant: &str) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, known| *known.tenant != *tenant);
    }

    /// A tenant's state, if there is the tenant.
    pub(crate) fn state(
        &self,
        view: &(impl View + ?Sized),
        tenant: &str,
    ) -> Result<Option<TenantState>, StoreError> {
        let place = state_key(tenant);
        view.get(REVISIONS, &place)?.map(|sealed| self.open_state(&place, &sealed)).transpose()
    }

    pub(crate) fn open_state(&self, place: &str, sealed: &[u8]) -> Result<TenantState, StoreError> {
        let plain = self.open_own(REVISIONS, place, sealed)?;
        TenantState::split(plain.expose()).ok_or_else(|| damaged(REVISIONS, place))
    }

    pub(crate) fn put_state(
        &self,
        change: &mut dyn Change,
        tenant: &str,
        state: TenantState,
    ) -> Result<(), StoreError> {
        let place = state_key(tenant);
        let sealed = self.seal_own(REVISIONS, &place, &state.join())?;
        change.put(REVISIONS, &place, &sealed)
    }

    /// What seals a tenant's new records in this transaction.
    pub(crate) fn sealer(
        &self,
        view: &(impl View + ?Sized),
        tenant: &str,
        state: TenantState,
    ) -> Result<Sealer, StoreError> {
        let missing = || damaged(TENANT_KEYS, &table::key(tenant, &epoch_name(state.epoch)));
        let key = self.of_epoch(view, tenant, state.epoch)?.ok_or_else(missing)?;
        Sealer::new(&key, state.epoch)
    }

    /// Makes a data key for a tenant and gives its epoch; the caller puts it into the tenant's state. Nothing may be
    /// opened or sealed with it in the same transaction, which may yet fail and give the number to another key.
    pub(crate) fn make_epoch(&self, change: &mut dyn Change, tenant: &str) -> Result<u32, StoreError> {
        let last = match change.get(META, EPOCHS)? {
            None => 0,
            Some(sealed) => {
                let plain = self.open_own(META, EPOCHS, &sealed)?;
                let bytes = plain.expose().as_slice().try_into().map_err(|_| damaged(META, EPOCHS))?;
                u32::from_be_bytes(bytes)
            }
        };
        let epoch = last.checked_add(1).ok_or_else(|| damaged(META, EPOCHS))?;
        let key = Secret::<[u8; 32]>::random().map_err(|_| StoreError::NoRandomness)?;
        let place = table::key(tenant, &epoch_name(epoch));
        let counter = self.seal_own(META, EPOCHS, &epoch.to_be_bytes())?;
        change.put(META, EPOCHS, &counter)?;
        let sealed = self.seal_own(TENANT_KEYS, &place, key.expose())?;
        change.put(TENANT_KEYS, &place, &sealed)?;
        Ok(epoch)
    }

    /// Names a value at its place, the same in every replica and epoch.
    pub(crate) fn tag(&self, table: &str, key: &str, value: &[u8]) -> Tag {
        let mut context = hmac::Context::with_key(&self.tags);
        context.update(&(table.len() as u64).to_be_bytes());
        context.update(table.as_bytes());
        context.update(&(key.len() as u64).to_be_bytes());
        context.update(key.as_bytes());
        context.update(value);
        Tag::of(context.sign().as_ref())
    }
}

/// The key of a tenant's row in [`REVISIONS`].
pub(crate) fn state_key(tenant: &str) -> String {
    table::key(tenant, NOW)
}

/// The name of an epoch's row in [`TENANT_KEYS`], in the order of epochs.
pub(crate) fn epoch_name(epoch: u32) -> String {
    format!("{epoch:010}")
}

pub(crate) fn damaged(table: &'static str, key: &str) -> StoreError {
    StoreError::Record { table, key: key.to_owned() }
}

//! The tenants that this process serves, each with what is in force for it.
//!
//! INVARIANT: what is in force is a whole of one revision. A change replaces it as a whole after it is stored, and a
//! release names the revision that it was decided under, so that what another replica replaced meanwhile decides
//! nothing (`server/store`, releases). A tenant is loaded when it is first asked for. Names of no tenant cost one reading
//! of the list of tenants a second, however many are asked for.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use coffer_core_admin::{TenantName, TenantSettings};
use coffer_core_protocol::handshake::relying_party::Challenger;
use coffer_core_protocol::token_keys::TokenKeys;
use coffer_server_identity::Verifier;
use coffer_server_limits::{Quantity, Quotas};
use coffer_server_store::{Scope, Store};
use coffer_server_wrapping::Keyring;
use coffer_verify_api::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::BrokerConfig;
use crate::error::OpenError;
use crate::issued::Issued;
use crate::judges::{self, JudgeSet, Judges};
use crate::keyring;
use crate::keys;
use crate::passport::Passports;
use crate::policies::{Policies, RESOURCE};
use crate::revocations::Revocations;
use crate::standards::InForceStandards;

/// How many tenants are held at once; those that nobody asked for lately are let go and loaded again when asked for.
const MAX_LOADED: usize = 1024;
/// How long a name that is not in the list of tenants is taken for nobody's. So soon every replica knows a new tenant.
const LISTED: Duration = Duration::from_secs(1);

/// What the store keeps of a tenant beside its rows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct TenantRecord {
    /// Seconds since 1970.
    #[serde(default)]
    pub(crate) made_at: i64,
    #[serde(default)]
    pub(crate) settings: TenantSettings,
}

impl TenantRecord {
    pub(crate) fn read(name: &TenantName, bytes: &[u8]) -> Result<Self, OpenError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(bytes).map_err(|error| OpenError::Stored {
            what: "tenant",
            name: name.to_string(),
            why: error.to_string(),
        })
    }

    pub(crate) fn row(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// A tenant.
pub(crate) struct Tenant {
    pub(crate) name: TenantName,
    pub(crate) rows: Scope,
    pub(crate) issued: Issued,
    pub(crate) keyring: Keyring,
    /// One admin call changes something at a time, so that what is in force is what was stored last.
    pub(crate) changing: tokio::sync::Mutex<()>,
    state: Arc<RwLock<Arc<InForce>>>,
    /// Whether somebody asked for it since it was looked at last.
    used: AtomicBool,
}

/// What is in force for a tenant.
pub(crate) struct InForce {
    /// The revision of the rows that it was made of.
    pub(crate) revision: u64,
    pub(crate) policies: Policies,
    pub(crate) standards: InForceStandards,
    pub(crate) revocations: Revocations,
    pub(crate) judges: Arc<JudgeSet>,
    pub(crate) challenger: Challenger,
    pub(crate) tokens: TokenKeys,
    pub(crate) admins: Verifier,
    pub(crate) passports: Passports,
    pub(crate) quotas: Quotas,
}

/// What tenants are loaded with.
pub(crate) struct Loader {
    pub(crate) store: Arc<Store>,
    pub(crate) config: Arc<BrokerConfig>,
    pub(crate) assemble: Judges,
    /// Judges by what they are made of: tenants that trust the same share them, and what they remember of
    /// certificates outlives a change of policy.
    pub(crate) judges: Mutex<Vec<(judges::Trust, Weak<JudgeSet>)>>,
}

impl Loader {
    /// Reads what is in force. Waits for the store.
    fn in_force(&self, name: &TenantName, now: Timestamp) -> Result<InForce, OpenError> {
        let rows = self.store.tenant(name);
        // Before the rest: what changes while the rest is read makes this revision an old one, and it is read again.
        let revision = rows.revision()?;
        let judges = self.judges_for(judges::trust(&rows, &self.config)?)?;
        let policies = Policies::load(&rows).map_err(|error| OpenError::Stored {
            what: "policy",
            name: RESOURCE.to_string(),
            why: error.to_string(),
        })?;
        let record = self.record(name)?.unwrap_or_default();
        let tees = judges.machines.iter().map(|judge| judge.tee());
        Ok(InForce {
            revision,
            policies,
            standards: InForceStandards::load(&rows, now)?,
            revocations: Revocations::load(&rows)?,
            challenger: keys::challenger(&self.store.cluster(), name, tees, now)?,
            judges,
            tokens: keys::token_keys(&rows, now)?,
            admins: keys::admins(&rows, name)?,
            passports: Passports::load(&rows)?,
            quotas: keys::quotas(&record.settings, &self.config)?,
        })
    }

    fn judges_for(&self, trust: judges::Trust) -> Result<Arc<JudgeSet>, OpenError> {
        let mut known = self.judges.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(_, judges)| judges.strong_count() > 0);
        if let Some(found) =
            known.iter().find(|(own, _)| *own == trust).and_then(|(_, judges)| judges.upgrade())
        {
            return Ok(found);
        }
        let made = Arc::new((self.assemble)(&trust)?);
        known.push((trust, Arc::downgrade(&made)));
        Ok(made)
    }

    /// Whether judges can be made of what a tenant trusts and this change.
    pub(crate) fn try_judges(
        &self,
        rows: &Scope,
        change: impl FnOnce(&mut judges::Trust),
    ) -> Result<(), OpenError> {
        let mut trust = judges::trust(rows, &self.config)?;
        change(&mut trust);
        (self.assemble)(&trust)?;
        Ok(())
    }

    /// What the store keeps of a tenant; none if there is no such tenant.
    pub(crate) fn record(&self, name: &TenantName) -> Result<Option<TenantRecord>, OpenError> {
        let settings = self.store.tenant_settings(name)?;
        settings.map(|(bytes, _)| TenantRecord::read(name, bytes.expose())).transpose()
    }

    fn load(&self, name: &TenantName, now: Timestamp) -> Result<Option<Arc<Tenant>>, OpenError> {
        if !self.store.tenant_exists(name)? {
            return Ok(None);
        }
        let rows = self.store.tenant(name);
        let state = Arc::new(RwLock::new(Arc::new(self.in_force(name, now)?)));
        let shared = state.clone();
        let keys = move || {
            let in_force = shared.read().unwrap_or_else(PoisonError::into_inner).clone();
            in_force.quotas.limit(Quantity::WrappingKeys)
        };
        Ok(Some(Arc::new(Tenant {
            name: name.clone(),
            keyring: keyring::keyring(&rows, keys),
            rows,
            issued: Issued::default(),
            changing: tokio::sync::Mutex::new(()),
            state,
            used: AtomicBool::new(true),
        })))
    }
}

impl Tenant {
    /// What is in force now.
    pub(crate) fn in_force(&self) -> Arc<InForce> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads what is in force anew. Waits for the store.
    pub(crate) fn reload(&self, loader: &Loader, now: Timestamp) -> Result<(), OpenError> {
        let next = Arc::new(loader.in_force(&self.name, now)?);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        // Two reloads at once may end in the other order than they began.
        if next.revision >= state.revision {
            *state = next;
        }
        Ok(())
    }
}

/// The tenants that are loaded, and the list of all with the hosts that stand for them.
#[derive(Default)]
pub(crate) struct Tenants {
    loaded: RwLock<HashMap<TenantName, Arc<Tenant>>>,
    list: RwLock<Arc<List>>,
    /// Held while the list is read, so that a reading that began before a change does not replace one that began after.
    reading: Mutex<()>,
}

/// All tenants, as the store had them.
#[derive(Default)]
struct List {
    /// When reading began.
    read_at: Option<Instant>,
    names: HashSet<TenantName>,
    hosts: HashMap<String, TenantName>,
}

impl List {
    /// Whether there is such a tenant, as far as this list is new enough to say.
    fn says(&self, name: &TenantName, at: Instant) -> Option<bool> {
        if self.names.contains(name) {
            return Some(true);
        }
        self.read_at.is_some_and(|read| at.saturating_duration_since(read) < LISTED).then_some(false)
    }
}

impl Tenants {
    /// A tenant that is loaded.
    pub(crate) fn get(&self, name: &TenantName) -> Option<Arc<Tenant>> {
        let tenant = self.loaded.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        tenant.inspect(|tenant| tenant.used.store(true, Ordering::Relaxed))
    }

    /// How many are loaded.
    pub(crate) fn count(&self) -> usize {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The tenant of a host name.
    pub(crate) fn of_host(&self, host: &str) -> Option<TenantName> {
        self.list().hosts.get(&host.to_ascii_lowercase()).cloned()
    }

    fn list(&self) -> Arc<List> {
        self.list.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the list has this tenant. It is read anew where it is too old to say no, once for all who wait for that.
    fn is_listed(&self, loader: &Loader, name: &TenantName, at: Instant) -> Result<bool, OpenError> {
        if let Some(said) = self.list().says(name, at) {
            return Ok(said);
        }
        let reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(said) = self.list().says(name, at) {
            return Ok(said);
        }
        self.read_list(loader, &reading)?;
        Ok(self.list().names.contains(name))
    }

    /// A tenant, loaded if it is not; none if there is no such tenant. Waits for the store.
    pub(crate) fn load(
        &self,
        loader: &Loader,
        name: &TenantName,
        now: Timestamp,
    ) -> Result<Option<Arc<Tenant>>, OpenError> {
        if let Some(tenant) = self.get(name) {
            return Ok(Some(tenant));
        }
        if !self.is_listed(loader, name, Instant::now())? {
            return Ok(None);
        }
        let Some(tenant) = loader.load(name, now)? else { return Ok(None) };
        let mut loaded = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
        if loaded.len() >= MAX_LOADED {
            // Those in use stay: what they sign and change is theirs alone.
            loaded.retain(|name, tenant| name.is_default() || Arc::strong_count(tenant) > 1);
        }
        Ok(Some(loaded.entry(name.clone()).or_insert(tenant).clone()))
    }

    /// Forgets a tenant that was removed.
    pub(crate) fn forget(&self, name: &TenantName) {
        self.loaded.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Reads the list of tenants with their hosts anew. Waits for the store.
    pub(crate) fn reload_list(&self, loader: &Loader) -> Result<(), OpenError> {
        self.read_list(loader, &self.reading.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn read_list(&self, loader: &Loader, _reading: &MutexGuard<'_, ()>) -> Result<(), OpenError> {
        let mut list = List { read_at: Some(Instant::now()), ..List::default() };
        for (name, settings) in loader.store.tenants()? {
            let record = TenantRecord::read(&name, settings.expose())?;
            for host in record.settings.hosts {
                list.hosts.insert(host.to_ascii_lowercase(), name.clone());
            }
            list.names.insert(name);
        }
        *self.list.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(list);
        Ok(())
    }

    /// Reads what other replicas changed. Waits for the store.
    pub(crate) fn follow(&self, loader: &Loader, now: Timestamp) -> Result<(), OpenError> {
        let loaded: Vec<Arc<Tenant>> =
            self.loaded.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let names: Vec<TenantName> = loaded.iter().map(|tenant| tenant.name.clone()).collect();
        let revisions = loader.store.revisions(&names)?;
        for (tenant, revision) in loaded.iter().zip(revisions) {
            match revision {
                Some(revision) if revision == tenant.in_force().revision => (),
                Some(_) => tenant.reload(loader, now)?,
                None => self.forget(&tenant.name),
            }
        }
        self.reload_list(loader)
    }

    /// Reads everything anew: what depends on the time is due. Tenants that nobody asked for since the last time are let
    /// go, and read when somebody does.
    pub(crate) fn reload_all(&self, loader: &Loader, now: Timestamp) -> Result<(), OpenError> {
        let loaded: Vec<Arc<Tenant>> = {
            let mut loaded = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
            loaded.retain(|name, tenant| {
                let used = tenant.used.swap(false, Ordering::Relaxed);
                // Those in use stay: what they sign and change is theirs alone.
                name.is_default() || used || Arc::strong_count(tenant) > 1
            });
            loaded.values().cloned().collect()
        };
        loaded.iter().try_for_each(|tenant| tenant.reload(loader, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_knows_its_tenants_for_long_and_says_no_for_a_second() {
        let (read, [a, b]) = (Instant::now(), ["a", "b"].map(|name| name.parse::<TenantName>().unwrap()));
        let list = List { read_at: Some(read), names: HashSet::from([a.clone()]), ..List::default() };
        for (name, age, said) in [
            (&a, Duration::ZERO, Some(true)),
            (&a, LISTED * 100, Some(true)),
            (&b, Duration::ZERO, Some(false)),
            (&b, LISTED - Duration::from_millis(1), Some(false)),
            (&b, LISTED, None),
        ] {
            assert_eq!(list.says(name, read + age), said, "{name} after {age:?}");
        }
        assert_eq!(List::default().says(&b, read), None, "a list that was never read says nothing");
    }

    #[test]
    fn names_of_nobody_cost_one_reading_a_second_and_a_new_tenant_is_seen_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path()).unwrap());
        let loader = Loader {
            store: store.clone(),
            config: Arc::new(BrokerConfig::new(folder.path())),
            assemble: judges::all_judges(),
            judges: Mutex::default(),
        };
        let (tenants, begun) = (Tenants::default(), Instant::now());
        let name = |text: &str| text.parse::<TenantName>().unwrap();
        assert!(!tenants.is_listed(&loader, &name("none-0"), begun).unwrap());
        let first = tenants.list();
        let (soon, later) = (first.read_at.unwrap(), first.read_at.unwrap() + LISTED);
        for number in 0..100 {
            assert!(!tenants.is_listed(&loader, &name(&format!("none-{number}")), soon).unwrap());
        }
        assert!(Arc::ptr_eq(&first, &tenants.list()), "a name of nobody's was looked up");
        // Made by another replica.
        store.create_tenant(&name("new"), b"").unwrap();
        assert!(!tenants.is_listed(&loader, &name("new"), soon).unwrap());
        assert!(tenants.is_listed(&loader, &name("new"), later).unwrap());
        // Made by this one, which reads the list before it answers.
        store.create_tenant(&name("own"), b"").unwrap();
        tenants.reload_list(&loader).unwrap();
        assert!(tenants.is_listed(&loader, &name("own"), soon).unwrap());
        store.remove_tenant(&name("own")).unwrap();
        assert!(loader.load(&name("own"), Timestamp::now()).unwrap().is_none());
    }
}

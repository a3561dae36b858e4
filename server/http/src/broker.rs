//! The broker as a whole: opened on its store, then served.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use coffer_core_admin::{TenantName, TrustAnchor};
use coffer_server_collateral::CollateralService;
use coffer_server_identity::{Authenticator, CacheTimes, FetchSettings, KeyCache, Verifier};
use coffer_server_store::{Scope, Store, Table};
use coffer_verify_api::Timestamp;

use crate::admission::Admission;
use crate::clock::seconds;
use crate::config::BrokerConfig;
use crate::deciding::Deciding;
use crate::error::OpenError;
use crate::intake::Intake;
use crate::journal::Journal;
use crate::judges::{self, Judges, all_judges};
use crate::keys;
use crate::metrics::Metrics;
use crate::tenancy::{Loader, Tenant, Tenants};
use crate::tls::Tls;

/// What was made at the first start, for the operator to see once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstStart {
    /// The admin's private key. It opens this broker to whoever has it.
    pub admin_key: PathBuf,
    /// The certificate that clients pin.
    pub ca_certificate: PathBuf,
    /// Where the key is that the store is sealed with. Without it the store cannot be read.
    pub master_key: PathBuf,
}

/// A broker. Clones are the same broker.
#[derive(Clone)]
pub struct Broker(Arc<Inner>);

pub(crate) type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What a program assembles a broker of, beside the configuration.
pub struct Parts {
    /// The open store.
    pub store: Arc<Store>,
    /// Makes the judges.
    pub judges: Judges,
    /// Where resources come from that are not in the store.
    pub sources: Vec<crate::sources::Route>,
    /// Who answers calls of other names than `resource`.
    pub plugins: Vec<crate::plugins::Plugin>,
}

impl Parts {
    /// A store, the judges of shipped programs, and nothing else.
    pub fn new(store: Arc<Store>) -> Self {
        Self { store, judges: all_judges(), sources: Vec::new(), plugins: Vec::new() }
    }
}

/// What the handlers work with.
pub(crate) struct Inner {
    pub(crate) config: Arc<BrokerConfig>,
    pub(crate) loader: Loader,
    pub(crate) tenants: Tenants,
    pub(crate) admission: Admission,
    /// The API's document, made when the calls are.
    pub(crate) openapi: OnceLock<String>,
    pub(crate) journal: Journal,
    pub(crate) intake: Intake,
    pub(crate) deciding: Deciding,
    pub(crate) collateral: CollateralService,
    pub(crate) metrics: Metrics,
    pub(crate) sources: crate::sources::Sources,
    pub(crate) plugins: Vec<crate::plugins::Plugin>,
    pub(crate) tls: Tls,
    pub(crate) clock: Clock,
    /// Only for replaying a recorded exchange in this crate's tests.
    pub(crate) insecure_nonce: Option<[u8; 32]>,
    /// One change of the cluster at a time.
    pub(crate) changing: tokio::sync::Mutex<()>,
    draining: AtomicBool,
    operators: RwLock<Arc<Verifier>>,
    due: AtomicU64,
    due_certificate: Mutex<u64>,
    first_start: Option<FirstStart>,
}

impl Broker {
    /// Opens the broker on the embedded store in its folder, with the judges of shipped programs; makes it there at the
    /// first start.
    pub fn open(config: BrokerConfig) -> Result<Self, OpenError> {
        Self::open_with(config, all_judges())
    }

    /// As [`Broker::open`], with judges of the caller's choice.
    pub fn open_with(config: BrokerConfig, judges: Judges) -> Result<Self, OpenError> {
        Self::assemble(config, judges, Arc::new(Timestamp::now), None)
    }

    /// Opens the broker on parts that a program chose.
    pub fn open_on(config: BrokerConfig, parts: Parts) -> Result<Self, OpenError> {
        Self::of(config, parts, Arc::new(Timestamp::now), None)
    }

    pub(crate) fn assemble(
        config: BrokerConfig,
        judges: Judges,
        clock: Clock,
        insecure_nonce: Option<[u8; 32]>,
    ) -> Result<Self, OpenError> {
        let store = Arc::new(Store::open(&config.data_dir)?);
        Self::of(config, Parts { judges, ..Parts::new(store) }, clock, insecure_nonce)
    }

    pub(crate) fn of(
        config: BrokerConfig,
        parts: Parts,
        clock: Clock,
        insecure_nonce: Option<[u8; 32]>,
    ) -> Result<Self, OpenError> {
        let now = clock();
        let Parts { store, judges, sources, plugins } = parts;
        let config = Arc::new(config);
        let (default, cluster) = (store.tenant(&TenantName::default()), store.cluster());
        take_configured_anchors(&config, &default)?;
        let admin_key = config.data_dir.join("admin.key");
        let admin_made = keys::first_admin(&default, &cluster, &admin_key)?;
        let operators = Arc::new(keys::operators(&cluster, &config)?);
        let tls = Tls::open(&config, store.is_shared().then_some(&cluster), now)?;
        let folder = config.collateral_folder();
        let collateral =
            CollateralService::open_with_clock(&folder, config.collateral.clone(), clock.clone())?;
        let made = store.was_created() || admin_made;
        let first_start = made.then(|| FirstStart {
            admin_key,
            ca_certificate: tls.ca_path.clone(),
            master_key: config.data_dir.join("master.key"),
        });
        let fetching = FetchSettings { extra_ca: config.admin_issuer_ca(), ..FetchSettings::default() };
        let cache = KeyCache::new(&fetching, CacheTimes::default())
            .map_err(|error| OpenError::Issuers(error.to_string()))?;
        let loader = Loader {
            store: store.clone(),
            config: config.clone(),
            assemble: judges,
            judges: Mutex::default(),
        };
        let tenants = Tenants::default();
        // What the plain paths lead to is there from the first call on, or the broker does not start.
        tenants.load(&loader, &TenantName::default(), now)?;
        tenants.reload_list(&loader)?;
        let metrics = Metrics::default();
        Ok(Self(Arc::new(Inner {
            journal: Journal::start(store, metrics.journal()).map_err(OpenError::Journal)?,
            admission: Admission::new(Authenticator::new(cache)),
            openapi: OnceLock::new(),
            sources: crate::sources::Sources::new(sources),
            plugins,
            loader,
            tenants,
            intake: Intake::default(),
            deciding: Deciding::default(),
            collateral,
            metrics,
            tls,
            clock,
            insecure_nonce,
            changing: tokio::sync::Mutex::new(()),
            draining: AtomicBool::new(false),
            operators: RwLock::new(operators),
            due: AtomicU64::new(0),
            due_certificate: Mutex::new(0),
            first_start,
            config,
        })))
    }

    /// What was made at the first start; nothing at a later one.
    pub fn first_start(&self) -> Option<&FirstStart> {
        self.0.first_start.as_ref()
    }

    /// The certificate that clients pin, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.0.tls.ca_pem
    }

    /// The configuration it was opened with.
    pub fn config(&self) -> &BrokerConfig {
        &self.0.config
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }
}

impl Inner {
    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Seconds since 1970.
    pub(crate) fn now_s(&self) -> u64 {
        seconds(self.now())
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.loader.store
    }

    /// The tenant of that name, if it is loaded or can be. Waits for the store where it is not.
    pub(crate) fn tenant(&self, name: &TenantName) -> Result<Option<Arc<Tenant>>, OpenError> {
        self.tenants.load(&self.loader, name, self.now())
    }

    pub(crate) fn operators(&self) -> Arc<Verifier> {
        self.operators.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn reload_operators(&self) -> Result<(), OpenError> {
        let next = Arc::new(keys::operators(&self.store().cluster(), &self.config)?);
        *self.operators.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    /// From now on the broker says that it is not ready, so that nobody is sent here any more.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// What must be done now and then: what other replicas changed is read, challenge keys and what has a time of its
    /// own are looked at, and a new certificate is made long before the old one ends. Waits for the store.
    pub(crate) fn maintain(&self) -> Result<(), OpenError> {
        let now = self.now_s();
        if self.store().is_shared() {
            self.tenants.follow(&self.loader, self.now())?;
            self.reload_operators()?;
        }
        if now >= self.due.load(Ordering::SeqCst) {
            self.tenants.reload_all(&self.loader, self.now())?;
            self.due.store(now.saturating_add(REFRESH_S), Ordering::SeqCst);
        }
        let mut due = self.due_certificate.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= *due {
            self.tls.renew(self.now())?;
            *due = now.saturating_add(CERTIFICATE_S);
        }
        Ok(())
    }

    /// How often [`Inner::maintain`] is called.
    pub(crate) fn maintenance(&self) -> Duration {
        match self.store().is_shared() {
            true => Duration::from_secs(1),
            false => Duration::from_secs(15),
        }
    }
}

/// How often what has a time of its own is read anew: challenge keys, token keys, reference values that expire.
const REFRESH_S: u64 = 30;
/// How often a new certificate is made.
const CERTIFICATE_S: u64 = 3600;

/// Puts the roots that the configuration names and nobody has decided about. What an admin put or removed stays so:
/// the configuration is older than that decision, and a root that was distrusted must not come back by a restart.
fn take_configured_anchors(config: &BrokerConfig, rows: &Scope) -> Result<(), OpenError> {
    for file in &config.trust_anchors {
        let name = file.name.as_str();
        if rows.was_withdrawn(Table::TrustAnchors, name)? && rows.get(Table::TrustAnchors, name)?.is_none() {
            tracing::warn!(
                name,
                "a trust anchor of the configuration was removed by an admin; it stays removed"
            );
            continue;
        }
        let wrong = |why: String| OpenError::TrustAnchor {
            name: file.name.clone(),
            path: file.certificate.clone(),
            why,
        };
        let certificate =
            std::fs::read_to_string(&file.certificate).map_err(|error| wrong(error.to_string()))?;
        let form = TrustAnchor { certificate, hardware: file.hardware };
        judges::anchor(&form).map_err(|error| wrong(error.to_string()))?;
        let body = serde_json::to_vec(&form).map_err(|error| wrong(error.to_string()))?;
        match rows.get(Table::TrustAnchors, name)? {
            None => {
                rows.put(Table::TrustAnchors, name, &body)?;
                tracing::info!(name, hardware = file.hardware, "trust anchor taken from the configuration");
            }
            Some(stored) if stored.equals(&body) => (),
            Some(_) => tracing::warn!(
                name,
                "the store has another trust anchor of this name than the configuration, and keeps it"
            ),
        }
    }
    Ok(())
}

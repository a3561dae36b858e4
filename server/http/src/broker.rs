//! The broker as a whole: opened from its folder, then served.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use coffer_core_admin::TrustAnchor;
use coffer_core_protocol::handshake::relying_party::Challenger;
use coffer_core_protocol::jws::{SigningKey, VerifyingKey};
use coffer_server_collateral::CollateralService;
use coffer_server_store::{Store, Table};
use coffer_verify_api::Timestamp;

use crate::config::BrokerConfig;
use crate::error::OpenError;
use crate::intake::Intake;
use crate::issued::Issued;
use crate::journal::Journal;
use crate::judges::{self, JudgeSet, Judges, all_judges};
use crate::keys::{self, Admins, ChallengeKeys};
use crate::policies::InForce;
use crate::standards::InForceStandards;
use crate::tls::Tls;

/// What was made at the first start, for the operator to see once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstStart {
    /// The admin's private key. It opens this broker to whoever has it.
    pub admin_key: PathBuf,
    /// The certificate that clients pin.
    pub ca_certificate: PathBuf,
    /// The key that the store is sealed with. Without it the store cannot be read.
    pub master_key: PathBuf,
}

/// A broker. Clones are the same broker.
#[derive(Clone)]
pub struct Broker(Arc<Inner>);

pub(crate) type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What the handlers work with.
pub(crate) struct Inner {
    pub(crate) config: BrokerConfig,
    pub(crate) store: Arc<Store>,
    pub(crate) journal: Journal,
    pub(crate) token_key: SigningKey,
    pub(crate) pinned: [VerifyingKey; 1],
    pub(crate) issued: Issued,
    pub(crate) intake: Intake,
    pub(crate) collateral: CollateralService,
    pub(crate) admins: Admins,
    pub(crate) tls: Tls,
    pub(crate) clock: Clock,
    /// Only for replaying a recorded exchange in this crate's tests.
    pub(crate) insecure_nonce: Option<[u8; 32]>,
    /// One admin call changes something at a time, so that what is in force is what was stored last.
    pub(crate) changing: tokio::sync::Mutex<()>,
    challenger: RwLock<Arc<Challenger>>,
    challenge_keys_due: RwLock<u64>,
    policy: RwLock<Arc<InForce>>,
    standards: RwLock<Arc<InForceStandards>>,
    judges: RwLock<Arc<JudgeSet>>,
    assemble: Judges,
    first_start: Option<FirstStart>,
}

impl Broker {
    /// Opens the broker in its folder with the judges of shipped programs; makes it there at the first start.
    pub fn open(config: BrokerConfig) -> Result<Self, OpenError> {
        Self::open_with(config, all_judges())
    }

    /// As [`Broker::open`], with judges of the caller's choice.
    pub fn open_with(config: BrokerConfig, assemble: Judges) -> Result<Self, OpenError> {
        Self::assemble(config, assemble, Arc::new(Timestamp::now), None)
    }

    pub(crate) fn assemble(
        config: BrokerConfig,
        assemble: Judges,
        clock: Clock,
        insecure_nonce: Option<[u8; 32]>,
    ) -> Result<Self, OpenError> {
        let now = clock();
        let store = Arc::new(Store::open(&config.data_dir)?);
        take_configured_anchors(&config, &store)?;
        let admin_key = config.data_dir.join("admin.key");
        let (admins, admin_made) = Admins::load(&store, &admin_key)?;
        let token_key = keys::token_key(&store)?;
        let tls = Tls::open(&config.data_dir.join("tls"), &config.extra_names, now)?;
        let judges = Arc::new(assemble(&judges::trust(&store, &config)?)?);
        let folder = config.collateral_folder();
        let collateral =
            CollateralService::open_with_clock(&folder, config.collateral.clone(), clock.clone())?;
        let challenge = keys::challenge_keys(&store, seconds(now))?;
        let policy = InForce::load(&store).map_err(|error| OpenError::Stored {
            what: "policy",
            name: crate::policies::RESOURCE.to_string(),
            why: error.to_string(),
        })?;
        let made = store.was_created() || admin_made;
        let first_start = made.then(|| FirstStart {
            admin_key,
            ca_certificate: tls.ca_path.clone(),
            master_key: config.data_dir.join("master.key"),
        });
        Ok(Self(Arc::new(Inner {
            journal: Journal::start(store.clone()).map_err(OpenError::Journal)?,
            pinned: [token_key.verifying_key().clone()],
            token_key,
            issued: Issued::default(),
            intake: Intake::default(),
            collateral,
            admins,
            tls,
            clock,
            insecure_nonce,
            changing: tokio::sync::Mutex::new(()),
            challenge_keys_due: RwLock::new(0),
            challenger: RwLock::new(Arc::new(challenger(challenge, &judges))),
            policy: RwLock::new(Arc::new(policy)),
            standards: RwLock::new(InForceStandards::load(&store)?),
            judges: RwLock::new(judges),
            assemble,
            first_start,
            store,
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

/// A value that is replaced as a whole; readers keep what they took.
fn current<T: Clone>(cell: &RwLock<T>) -> T {
    cell.read().unwrap_or_else(PoisonError::into_inner).clone()
}

fn replace<T>(cell: &RwLock<T>, value: T) {
    *cell.write().unwrap_or_else(PoisonError::into_inner) = value;
}

impl Inner {
    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Seconds since 1970.
    pub(crate) fn now_s(&self) -> u64 {
        seconds(self.now())
    }

    pub(crate) fn challenger(&self) -> Arc<Challenger> {
        current(&self.challenger)
    }

    pub(crate) fn policy(&self) -> Arc<InForce> {
        current(&self.policy)
    }

    pub(crate) fn put_policy_in_force(&self, policy: InForce) {
        replace(&self.policy, Arc::new(policy));
    }

    pub(crate) fn standards(&self) -> Arc<InForceStandards> {
        current(&self.standards)
    }

    pub(crate) fn reload_standards(&self) -> Result<(), OpenError> {
        replace(&self.standards, InForceStandards::load(&self.store)?);
        Ok(())
    }

    pub(crate) fn judges(&self) -> Arc<JudgeSet> {
        current(&self.judges)
    }

    /// Whether judges can be made of what the store and this change say.
    pub(crate) fn try_judges(&self, change: impl FnOnce(&mut judges::Trust)) -> Result<(), OpenError> {
        let mut trust = judges::trust(&self.store, &self.config)?;
        change(&mut trust);
        (self.assemble)(&trust)?;
        Ok(())
    }

    pub(crate) fn reload_judges(&self) -> Result<(), OpenError> {
        replace(&self.judges, Arc::new((self.assemble)(&judges::trust(&self.store, &self.config)?)?));
        self.reload_challenger()
    }

    fn reload_challenger(&self) -> Result<(), OpenError> {
        let keys = keys::challenge_keys(&self.store, self.now_s())?;
        replace(&self.challenger, Arc::new(challenger(keys, &self.judges())));
        Ok(())
    }

    /// What must be done now and then: new challenge keys once a day, a new certificate long before the old one ends.
    pub(crate) fn maintain(&self) -> Result<(), OpenError> {
        let now = self.now_s();
        if now < current(&self.challenge_keys_due) {
            return Ok(());
        }
        self.reload_challenger()?;
        self.tls.renew(self.now())?;
        replace(&self.challenge_keys_due, now.saturating_add(MAINTENANCE_S));
        Ok(())
    }
}

/// How often challenge keys and the certificate are looked at.
const MAINTENANCE_S: u64 = 3600;

fn seconds(at: Timestamp) -> u64 {
    u64::try_from(at.as_second()).unwrap_or(0)
}

fn challenger(keys: ChallengeKeys, judges: &JudgeSet) -> Challenger {
    let challenger = Challenger::new(keys.current, judges.machines.iter().map(|judge| judge.tee()));
    match keys.previous {
        Some(previous) => challenger.with_previous(previous),
        None => challenger,
    }
}

/// Puts the roots that the configuration names and nobody has decided about. What an admin put or removed stays so:
/// the configuration is older than that decision, and a root that was distrusted must not come back by a restart.
fn take_configured_anchors(config: &BrokerConfig, store: &Store) -> Result<(), OpenError> {
    for file in &config.trust_anchors {
        let name = file.name.as_str();
        if store.was_withdrawn(Table::TrustAnchors, name)? && store.get(Table::TrustAnchors, name)?.is_none()
        {
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
        match store.get(Table::TrustAnchors, name)? {
            None => {
                store.put(Table::TrustAnchors, name, &body)?;
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

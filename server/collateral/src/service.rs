//! The service: memory, then disk, then network; one fetch per key, however many wait.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coffer_verify_api::{Collateral, CollateralKey, Document, Shelf};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::budget::{Budget, is_unproven};
use crate::disk::Disk;
use crate::document::{Unlike, examine};
use crate::error::{CacheError, FetchError, Missing};
use crate::kept::{About, Kept, State};
use crate::memory::Memory;
use crate::settings::Settings;
use crate::source::{Hints, Sources};

/// The time, as the caller has it.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Collateral for judges. Clones are the same service.
#[derive(Clone)]
pub struct CollateralService(Arc<Inner>);

struct Inner {
    settings: Settings,
    clock: Clock,
    memory: Mutex<Memory>,
    disk: Disk,
    /// None where nothing is fetched.
    sources: Option<Sources>,
    flights: Mutex<HashMap<CollateralKey, Flight>>,
    failures: Mutex<HashMap<CollateralKey, Failure>>,
    places: Semaphore,
    /// For keys that only evidence names, so that they take no place from the rest.
    unproven_places: Semaphore,
    unproven: Budget,
}

type Flight = Shared<BoxFuture<'static, Result<Kept, Missing>>>;

/// What went wrong a moment ago, and when it may be tried again.
struct Failure {
    error: Missing,
    again: Instant,
}

/// Why a document is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// The cache has none that is good.
    ToHave,
    /// The same, and only evidence says that there is one.
    ByEvidence,
    /// Whatever the cache has.
    ToRenew,
}

/// How many fetches go on at once, those that wait for a place among them.
const MAX_FLIGHTS: usize = 1024;
/// How many failures are remembered.
const MAX_FAILURES: usize = 4096;
/// A document that came a moment ago and has ended already is given to the judge, who says so; it is not asked for
/// again at once.
const JUST_FETCHED_S: i64 = 60;
/// An origin is for people; a longer one is cut.
const MAX_ORIGIN: usize = 1024;

/// What could be had of what was asked for.
#[derive(Default)]
pub struct Gathered {
    /// The documents.
    pub shelf: Shelf,
    /// What is missing, and why.
    pub missing: Vec<(CollateralKey, Missing)>,
}

/// One document in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its key.
    pub key: CollateralKey,
    /// The address or file that it is from.
    pub origin: String,
    /// When it came.
    pub fetched: Timestamp,
    /// Whether an owner put it here.
    pub imported: bool,
    /// When it ends, by its own word.
    pub valid_until: Option<Timestamp>,
    /// SHA-256 over body and chain, as judges remember it.
    pub digest: String,
    /// The length of the document and its chain.
    pub bytes: usize,
    /// How it stands now.
    pub state: State,
}

impl CollateralService {
    /// Opens the cache in a folder, which is made if it is not there.
    pub fn open(folder: &Path, settings: Settings) -> Result<Self, CacheError> {
        Self::open_with_clock(folder, settings, Arc::new(Timestamp::now))
    }

    /// As [`CollateralService::open`], with the caller's clock.
    pub fn open_with_clock(folder: &Path, settings: Settings, clock: Clock) -> Result<Self, CacheError> {
        let sources = match settings.offline {
            true => None,
            false => Some(Sources::new(&settings)?),
        };
        Ok(Self(Arc::new(Inner {
            clock,
            memory: Mutex::new(Memory::new(settings.max_memory)),
            disk: Disk::open(folder, settings.max_disk)?,
            sources,
            flights: Mutex::default(),
            failures: Mutex::default(),
            places: Semaphore::new(settings.concurrent.max(1)),
            unproven_places: Semaphore::new(settings.unproven_concurrent.max(1)),
            unproven: Budget::new(settings.unproven_per_minute),
            settings,
        })))
    }

    /// The settings it was opened with.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// What is in memory and good now, for a first try without waiting.
    pub fn at_hand(&self) -> AtHand {
        AtHand(self.0.clone())
    }

    /// Gets documents, all at once, and waits no longer than `wait`. What is still being fetched then goes on being
    /// fetched, so that who asks again finds it.
    pub async fn gather(&self, keys: &[CollateralKey], hints: &Hints, wait: Duration) -> Gathered {
        let hints = Arc::new(hints.clone());
        let one = |key: &CollateralKey| {
            let (key, inner, hints) = (key.clone(), self.0.clone(), hints.clone());
            async move {
                let found = tokio::time::timeout(wait, inner.get(&key, &hints)).await;
                let found = found.unwrap_or_else(|_| Err(Arc::new(FetchError::TimedOut(wait))));
                (key, found)
            }
        };
        let mut gathered = Gathered::default();
        for (key, found) in futures::future::join_all(keys.iter().map(one)).await {
            match found {
                Ok(kept) => gathered.shelf.put(key, kept.document),
                Err(error) => gathered.missing.push((key, error)),
            }
        }
        gathered
    }

    /// Fetches documents anew, whatever the cache has.
    pub async fn fetch(
        &self,
        keys: &[CollateralKey],
        hints: &Hints,
    ) -> Vec<(CollateralKey, Result<Listed, Missing>)> {
        let hints = Arc::new(hints.clone());
        let one = |key: &CollateralKey| {
            let (key, inner, hints) = (key.clone(), self.0.clone(), hints.clone());
            async move {
                let found = match inner.flight(&key, &hints, Asked::ToRenew) {
                    Ok(flight) => flight.await,
                    Err(error) => Err(error),
                };
                let listed = found.map(|kept| inner.listed(kept.about));
                (key, listed)
            }
        };
        futures::future::join_all(keys.iter().map(one)).await
    }

    /// Fetches what is due or has ended; gives how many are new. To be called now and then.
    pub async fn refresh(&self) -> usize {
        if self.0.sources.is_none() {
            return 0;
        }
        let inner = self.0.clone();
        let listed = blocking(move || inner.disk.list()).await;
        let now = (self.0.clock)();
        let due: Vec<CollateralKey> = listed
            .unwrap_or_default()
            .into_iter()
            .filter(|about| about.state(now, &self.0.settings) != State::Fresh)
            .map(|about| about.key)
            .filter(|key| !needs_evidence(key) && self.0.failed_before(key).is_none())
            .collect();
        let fetched = self.fetch(&due, &Hints::default()).await;
        fetched.iter().filter(|(_, result)| result.is_ok()).count()
    }

    /// What is in the cache, in the order of the keys. Waits for the disk.
    pub fn list(&self) -> Result<Vec<Listed>, CacheError> {
        let abouts = self.0.disk.list()?;
        Ok(abouts.into_iter().map(|about| self.0.listed(about)).collect())
    }

    /// A document as it is in the cache, whatever its dates. Waits for the disk.
    pub fn stored(&self, key: &CollateralKey) -> Option<(Listed, Arc<Document>)> {
        let kept = self.0.disk.read(key)?;
        Some((self.0.listed(kept.about), kept.document))
    }

    /// Removes a document; says whether it was there. Waits for the disk.
    pub fn remove(&self, key: &CollateralKey) -> Result<bool, CacheError> {
        self.0.memory().remove(key);
        self.0.disk.remove(key)
    }

    /// Puts a document that an owner has. It replaces one that ends earlier or came earlier. Waits for the disk.
    pub fn put(
        &self,
        key: CollateralKey,
        document: Document,
        origin: &str,
        fetched: Option<Timestamp>,
    ) -> Result<Result<Listed, String>, CacheError> {
        let valid_until = match examine(&key, &document) {
            Ok(valid_until) => valid_until,
            Err(Unlike { expected, found }) => return Ok(Err(format!("expected {expected}, found {found}"))),
        };
        let kept =
            kept(key, document, origin, fetched.unwrap_or_else(|| (self.0.clock)()), valid_until, None, true);
        self.0.disk.write(&kept)?;
        self.0.failures().remove(&kept.about.key);
        let listed = self.0.listed(kept.about.clone());
        self.0.memory().put(kept);
        Ok(Ok(listed))
    }
}

/// Whether its source wants more than its key, which only a request with evidence has.
fn needs_evidence(key: &CollateralKey) -> bool {
    matches!(key, CollateralKey::NvidiaOcsp(_) | CollateralKey::PckChain(_))
}

#[allow(clippy::too_many_arguments)]
fn kept(
    key: CollateralKey,
    document: Document,
    origin: &str,
    fetched: Timestamp,
    valid_until: Option<Timestamp>,
    max_age: Option<i64>,
    imported: bool,
) -> Kept {
    let about = About {
        key,
        origin: origin.chars().take(MAX_ORIGIN).collect(),
        // Whole seconds, so that a bundle that is exported says the same again.
        fetched: Timestamp::from_second(fetched.as_second()).unwrap_or(fetched),
        imported,
        valid_until,
        max_age,
        digest: *document.digest(),
        bytes: document.body().len(),
        chain_bytes: document.issuer_chain().len(),
    };
    Kept::new(about, document)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CacheError> + Send + 'static,
) -> Result<T, CacheError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(CacheError::Client(error.to_string())),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        locked(&self.memory)
    }

    fn failures(&self) -> MutexGuard<'_, HashMap<CollateralKey, Failure>> {
        locked(&self.failures)
    }

    fn listed(&self, about: About) -> Listed {
        let state = about.state((self.clock)(), &self.settings);
        Listed {
            key: about.key,
            origin: about.origin,
            fetched: about.fetched,
            imported: about.imported,
            valid_until: about.valid_until,
            digest: about.digest.to_string(),
            bytes: about.bytes.saturating_add(about.chain_bytes),
            state,
        }
    }

    /// Whether a document may be given as it is.
    fn is_good(&self, about: &About, now: Timestamp) -> bool {
        let young = now.duration_since(about.fetched).as_secs() < JUST_FETCHED_S && !about.imported;
        self.settings.offline || young || about.state(now, &self.settings) != State::Ended
    }

    async fn get(self: &Arc<Self>, key: &CollateralKey, hints: &Arc<Hints>) -> Result<Kept, Missing> {
        let now = (self.clock)();
        let in_memory = self.memory().get(key);
        let mut have = in_memory.filter(|kept| self.is_good(&kept.about, now));
        if have.is_none() {
            have = self.from_disk(key).await;
        }
        match &have {
            Some(kept) if self.is_good(&kept.about, now) => {
                let due = kept.about.state(now, &self.settings) == State::Due;
                if due && self.failed_before(key).is_none() {
                    // Nobody waits for it; it is there for those who come later.
                    drop(self.flight(key, hints, Asked::ToRenew));
                }
                return Ok(kept.clone());
            }
            _ => (),
        }
        // What the cache has was verified by a judge before, or is an owner's.
        let asked = if have.is_some() || !is_unproven(key) { Asked::ToHave } else { Asked::ByEvidence };
        let error = match self.failed_before(key) {
            Some(error) => error,
            None => match self.flight(key, hints, asked) {
                Err(error) => error,
                Ok(flight) => match flight.await {
                    Ok(kept) => return Ok(kept),
                    Err(error) => error,
                },
            },
        };
        self.or_stale(have, error, now)
    }

    /// The document that has ended, if the settings allow it for so long.
    fn or_stale(&self, have: Option<Kept>, error: Missing, now: Timestamp) -> Result<Kept, Missing> {
        match have {
            Some(kept) if kept.about.may_be_stale(now, &self.settings) => {
                tracing::warn!(key = %kept.about.key, %error, "collateral past its end is used, as the settings allow");
                Ok(kept)
            }
            Some(Kept { about: About { valid_until: Some(ended), .. }, .. }) => {
                Err(Arc::new(FetchError::Ended { ended, why: error.to_string() }))
            }
            _ => Err(error),
        }
    }

    async fn from_disk(self: &Arc<Self>, key: &CollateralKey) -> Option<Kept> {
        let (inner, own) = (self.clone(), key.clone());
        let kept = blocking(move || Ok(inner.disk.read(&own))).await.ok().flatten()?;
        self.memory().put(kept.clone());
        Some(kept)
    }

    fn failed_before(&self, key: &CollateralKey) -> Option<Missing> {
        let failures = self.failures();
        let failure = failures.get(key)?;
        let again_in = failure.again.saturating_duration_since(Instant::now());
        (!again_in.is_zero())
            .then(|| Arc::new(FetchError::FailedBefore { why: failure.error.to_string(), again_in }))
    }

    /// The one fetch of this key that is going on, or that begins now.
    fn flight(
        self: &Arc<Self>,
        key: &CollateralKey,
        hints: &Arc<Hints>,
        asked: Asked,
    ) -> Result<Flight, Missing> {
        if self.sources.is_none() {
            return Err(Arc::new(FetchError::Offline));
        }
        let mut flights = locked(&self.flights);
        if let Some(flight) = flights.get(key) {
            return Ok(flight.clone());
        }
        // One that ended between the caller's look into memory and here.
        let now = (self.clock)();
        if let Some(kept) =
            self.memory().get(key).filter(|kept| asked != Asked::ToRenew && self.is_good(&kept.about, now))
        {
            return Ok(futures::future::ready(Ok(kept)).boxed().shared());
        }
        if asked == Asked::ByEvidence
            && let Err(again_in) = self.unproven.take()
        {
            return Err(Arc::new(FetchError::Crowded { again_in }));
        }
        if flights.len() >= MAX_FLIGHTS {
            return Err(Arc::new(FetchError::Crowded { again_in: self.settings.timeout.duration() }));
        }
        let (inner, own, hints) = (self.clone(), key.clone(), hints.clone());
        // Its own task: it goes on when those who wait for it go away.
        let task = tokio::spawn(async move {
            let _landing = Landing(inner.clone(), own.clone());
            inner.fly(&own, &hints, asked == Asked::ByEvidence).await
        });
        let failed =
            FetchError::Failed { source_url: key.to_string(), why: "the fetch was ended".to_owned() };
        let flight = task.map(move |ended| ended.unwrap_or_else(|_| Err(Arc::new(failed)))).boxed().shared();
        flights.insert(key.clone(), flight.clone());
        Ok(flight)
    }

    /// Fetches, looks at what came, and keeps it.
    async fn fly(
        self: &Arc<Self>,
        key: &CollateralKey,
        hints: &Hints,
        unproven: bool,
    ) -> Result<Kept, Missing> {
        let Some(sources) = &self.sources else { return Err(Arc::new(FetchError::Offline)) };
        let all = self.settings.timeout.duration();
        let places = if unproven { &self.unproven_places } else { &self.places };
        let fetched = tokio::time::timeout(all, async {
            // Never closed, so an error does not come; if it did, the fetch would only be one of more at once.
            let _place = places.acquire().await;
            sources.fetch(key, &self.with_manifests(key, hints), unproven).await
        });
        let fetched = fetched.await.unwrap_or(Err(FetchError::TimedOut(all)));
        let examined = fetched.and_then(|fetched| {
            let shape = |Unlike { expected, found }| FetchError::Shape {
                source_url: fetched.origin.clone(),
                expected,
                found,
            };
            let valid_until = examine(key, &fetched.document).map_err(shape)?;
            Ok((fetched, valid_until))
        });
        let (fetched, valid_until) = match examined {
            Ok(good) => good,
            Err(error) => return Err(self.remember(key, error)),
        };
        let now = (self.clock)();
        let kept =
            kept(key.clone(), fetched.document, &fetched.origin, now, valid_until, fetched.max_age, false);
        self.failures().remove(key);
        self.memory().put(kept.clone());
        let (inner, own) = (self.clone(), kept.clone());
        // A full disk costs the next start a fetch, and this one nothing.
        if let Err(error) = blocking(move || inner.disk.write(&own)).await {
            tracing::warn!(%key, %error, "collateral was not written to the cache; it is kept in memory");
        }
        tracing::info!(%key, origin = kept.about.origin, "collateral fetched");
        Ok(kept)
    }

    /// Manifests carry certificates whose state is asked for, too.
    fn with_manifests(&self, key: &CollateralKey, hints: &Hints) -> Hints {
        let mut hints = hints.clone();
        if matches!(key, CollateralKey::NvidiaOcsp(_)) {
            for kept in self.memory().manifests() {
                for der in crate::document::certificates_in_xml(kept.document.body()) {
                    hints.add_der(der);
                }
            }
        }
        hints
    }

    fn remember(&self, key: &CollateralKey, error: FetchError) -> Missing {
        tracing::warn!(%key, %error, "collateral could not be fetched");
        let period = match &error {
            FetchError::Busy { retry_after, .. } => self.settings.failed_for.duration().max(*retry_after),
            _ => self.settings.failed_for.duration(),
        };
        let (error, now) = (Arc::new(error), Instant::now());
        let mut failures = self.failures();
        if failures.len() >= MAX_FAILURES {
            failures.retain(|_, failure| failure.again > now);
        }
        if failures.len() < MAX_FAILURES {
            failures.insert(key.clone(), Failure { error: error.clone(), again: now + period });
        }
        error
    }
}

/// Ends a flight, also when its task panics.
struct Landing(Arc<Inner>, CollateralKey);

impl Drop for Landing {
    fn drop(&mut self) {
        locked(&self.0.flights).remove(&self.1);
    }
}

/// The documents in memory that are good now.
pub struct AtHand(Arc<Inner>);

impl Collateral for AtHand {
    fn find(&self, key: &CollateralKey) -> Option<Arc<Document>> {
        let now = (self.0.clock)();
        let kept = self.0.memory().get(key)?;
        self.0.is_good(&kept.about, now).then_some(kept.document)
    }
}

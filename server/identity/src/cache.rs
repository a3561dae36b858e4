//! Issuers' keys, fetched once for all who wait and kept for a while.
//!
//! Nobody who is waiting can stop a fetch by going away, and nobody can make the broker ask an issuer more often
//! than the settings say: not with unknown key ids, not with many requests at once. Left out: the clock, which
//! callers bring in seconds since 1970.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::error::FetchError;
use crate::fetch::{FetchSettings, Fetcher};
use crate::issuer::Issuer;
use crate::key_set::{KeySet, KeySlot, KeySource};

/// The most sources of keys that are kept. Beyond that the one unused for longest goes.
const MAX_SLOTS: usize = 4096;

/// How long keys are good for.
#[derive(Clone, Copy, Debug)]
pub struct CacheTimes {
    /// After so many seconds keys are fetched anew; until then the old ones serve.
    pub refresh_after_s: u64,
    /// A source is asked at most once in so many seconds, whatever it answered.
    pub refetch_after_s: u64,
    /// Keys whose source fails serve for so many seconds.
    pub keep_for_s: u64,
}

impl Default for CacheTimes {
    fn default() -> Self {
        Self { refresh_after_s: 600, refetch_after_s: 30, keep_for_s: 24 * 3600 }
    }
}

/// The cache. Clones are the same one.
#[derive(Clone)]
pub struct KeyCache(Arc<Inner>);

struct Inner {
    fetcher: Fetcher,
    times: CacheTimes,
    slots: Mutex<HashMap<KeySlot, Slot>>,
}

#[derive(Default)]
struct Slot {
    keys: Option<(Arc<KeySet>, u64)>,
    asked_at: Option<u64>,
    used_at: u64,
    failure: Option<FetchError>,
    /// Closed when the fetch under way has ended.
    under_way: Option<watch::Receiver<()>>,
}

/// What can be done at once.
enum Step {
    Have(Arc<KeySet>),
    Wait(watch::Receiver<()>),
    Failed(FetchError),
}

impl KeyCache {
    /// An empty cache.
    pub fn new(settings: &FetchSettings, times: CacheTimes) -> Result<Self, FetchError> {
        Ok(Self(Arc::new(Inner { fetcher: Fetcher::new(settings)?, times, slots: Mutex::default() })))
    }

    /// The issuer's keys, with the one of that id if the issuer has it.
    pub async fn keys(
        &self,
        issuer: &Issuer,
        key_id: Option<&str>,
        now: u64,
    ) -> Result<Arc<KeySet>, FetchError> {
        self.keys_of(issuer.slot(), key_id, now).await
    }

    /// As [`KeyCache::keys`], of a place that is no issuer's of admins' tokens.
    pub async fn keys_of(
        &self,
        slot: &KeySlot,
        key_id: Option<&str>,
        now: u64,
    ) -> Result<Arc<KeySet>, FetchError> {
        // Keys in the settings change with the settings only, and need no slot.
        if let KeySource::Inline(text) = &slot.source {
            let parsed = KeySet::parse(text.as_bytes());
            return parsed
                .map(Arc::new)
                .map_err(|why| FetchError::Keys { source_url: "the settings".to_owned(), why });
        }
        match self.step(slot, key_id, now, true) {
            Step::Have(keys) => return Ok(keys),
            Step::Failed(why) => return Err(why),
            // The sender is dropped when the fetch ends, in whatever way.
            Step::Wait(mut ended) => while ended.changed().await.is_ok() {},
        }
        match self.step(slot, key_id, now, false) {
            Step::Have(keys) => Ok(keys),
            Step::Failed(why) => Err(why),
            Step::Wait(_) => Err(FetchError::NotFetched),
        }
    }

    /// How many sources are kept.
    pub fn len(&self) -> usize {
        self.slots().len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.slots().is_empty()
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<KeySlot, Slot>> {
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks what there is, and begins a fetch where one is due and allowed.
    fn step(&self, name: &KeySlot, key_id: Option<&str>, now: u64, may_wait: bool) -> Step {
        let times = self.0.times;
        let mut slots = self.slots();
        make_room(&mut slots, name);
        let slot = slots.entry(name.clone()).or_default();
        slot.used_at = now;
        // A fetch that ended without leaving a word (its runtime was stopped) is not waited for.
        slot.under_way.take_if(|ended| ended.has_changed().is_err());
        let age = |fetched: u64| now.saturating_sub(fetched);
        let usable = slot.keys.as_ref().filter(|(_, fetched)| age(*fetched) <= times.keep_for_s);
        let has_key = usable.filter(|(keys, _)| key_id.is_none_or(|id| keys.has(id)));
        let young = has_key.is_some_and(|(_, fetched)| age(*fetched) < times.refresh_after_s);
        let due = |asked: u64| now < asked || now.saturating_sub(asked) >= times.refetch_after_s;
        if !young && may_wait && slot.under_way.is_none() && slot.asked_at.is_none_or(due) {
            slot.asked_at = Some(now);
            slot.under_way = Some(self.begin(name.clone(), now));
        }
        match (has_key, &slot.under_way) {
            (Some((keys, _)), _) => Step::Have(Arc::clone(keys)),
            (None, Some(under_way)) if may_wait => Step::Wait(under_way.clone()),
            // Without the key, but with the others: the verifier says that the key is unknown.
            _ => match (usable, &slot.keys, &slot.failure) {
                (Some((keys, _)), _, _) => Step::Have(Arc::clone(keys)),
                (None, Some((_, fetched)), failure) => Step::Failed(FetchError::Stale {
                    age_s: age(*fetched),
                    why: failure
                        .as_ref()
                        .map_or_else(|| "not asked again yet".to_owned(), ToString::to_string),
                }),
                (None, None, failure) => Step::Failed(failure.clone().unwrap_or(FetchError::NotFetched)),
            },
        }
    }

    /// Fetches in a task of its own: whoever waits may go away.
    fn begin(&self, name: KeySlot, now: u64) -> watch::Receiver<()> {
        let (ends, ended) = watch::channel(());
        let cache = self.clone();
        tokio::spawn(async move {
            let fetched = cache.0.fetcher.fetch(&name).await;
            let mut slots = cache.slots();
            if let Some(slot) = slots.get_mut(&name) {
                slot.under_way = None;
                match fetched {
                    Ok(keys) => {
                        slot.keys = Some((Arc::new(keys), now));
                        slot.failure = None;
                    }
                    Err(why) => {
                        tracing::warn!(issuer = %name.issuer, scope = %name.owner, %why, "an issuer's keys could not be fetched");
                        slot.failure = Some(why);
                    }
                }
            }
            drop(slots);
            drop(ends);
        });
        ended
    }
}

/// Takes away the source that was unused for longest, if a new one finds no room.
fn make_room(slots: &mut HashMap<KeySlot, Slot>, name: &KeySlot) {
    if slots.len() < MAX_SLOTS || slots.contains_key(name) {
        return;
    }
    let idle = slots.iter().filter(|(_, slot)| slot.under_way.is_none());
    if let Some(oldest) = idle.min_by_key(|(_, slot)| slot.used_at).map(|(name, _)| name.clone()) {
        slots.remove(&oldest);
    }
}

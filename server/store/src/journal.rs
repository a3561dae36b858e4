//! What is written down of attempts: that they were made, what was decided on them, and what was released.
//!
//! INVARIANT I-1: a release is made only if its decision is durable. INVARIANT: a release is made only under the revision
//! that it was decided under, of a version that is active, not expired, and within its count; all of this is compared in
//! the transaction that writes the decision, so that it holds for all replicas. A batch is one transaction, so that
//! many callers share one sync, and the batch of one tenant's entries cannot fail another's.
//!
//! Refused attempts have a ring of their own inside the whole, so that whoever sends refusable evidence in any number
//! cannot push the others out. Rings are in the order of time, and replicas share no counter.
//! Replicas' clocks must be near each other: what one that is behind adds is the first that is dropped, until it has
//! seen where the others are.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, PoisonError};

use coffer_core_admin::TenantName;

use crate::StoreError;
use crate::batch::Batch;
use crate::engine::{Order, View};
use crate::places::Place;
use crate::store::{Inner, Store};
use crate::table::{self, EVIDENCE_RING, OTHERS, REFUSED};

/// How many refused attempts are kept, unless the tenant's limits say otherwise.
pub const MAX_REFUSED: u64 = 1_000;
/// How many attempts are kept in all.
pub const MAX_ATTEMPTS: u64 = 10_000;
/// How many decisions are written down for each attempt. None is dropped while its attempt is kept: the next one
/// is refused, and whoever asks again attests again.
pub const MAX_DECISIONS: u64 = 256;
/// Where others write to the same rings, how many attempts are added before the rings are counted again.
const RECOUNT: u64 = 256;

/// How much is kept of a tenant's attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many refused attempts.
    pub refused: u64,
    /// How many attempts in all.
    pub attempts: u64,
    /// How many decisions for each attempt.
    pub decisions: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { refused: MAX_REFUSED, attempts: MAX_ATTEMPTS, decisions: MAX_DECISIONS }
    }
}

/// An attempt as it is kept.
#[derive(Clone, Debug)]
pub struct AttemptEntry {
    /// Its name.
    pub id: String,
    /// Whether it counts among the refused ones.
    pub refused: bool,
    /// When it was made, in milliseconds since 1970: its place in the ring, after all that was there before.
    pub at_ms: i64,
    /// What the broker knows of it.
    pub body: Vec<u8>,
}

/// One thing to write down.
#[derive(Clone, Debug)]
pub enum JournalEntry {
    /// An attempt; replaces one of the same name.
    Attempt(AttemptEntry),
    /// What was decided on a request made with an attempt's token, where nothing is released.
    Decision {
        /// The attempt's name.
        attempt: String,
        /// What was decided.
        body: Vec<u8>,
    },
    /// The evidence that an attempt was made with, where evidence is kept.
    Evidence {
        /// The attempt's name.
        attempt: String,
        /// When, in milliseconds since 1970: its place in the ring.
        at_ms: i64,
        /// What was sent.
        body: Vec<u8>,
        /// How many are kept, with this one; the oldest go.
        keep: u64,
    },
    /// A resource is about to be released. It may be, if and only if the answer is [`Written::Kept`]; of any other
    /// answer nothing is written, and the caller writes the decision of its refusal.
    Release {
        /// The attempt's name.
        attempt: String,
        /// The resource's path.
        path: String,
        /// The version that is released; none if the value is not from this store.
        version: Option<u64>,
        /// The tenant's revision that the decision was made under.
        revision: u64,
        /// Now, in seconds since 1970.
        at: i64,
        /// What was decided.
        body: Vec<u8>,
    },
}

/// What became of an entry. A decision that was not kept was not made: nothing may be released on it.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is in the store.
    Kept,
    /// It is not: its attempt is no longer kept, so nobody could tell what the decision was about.
    AttemptGone,
    /// It is not: its attempt has as many decisions as are kept.
    AttemptFull,
    /// It is not: the tenant was removed.
    TenantGone,
    /// It is not: policies, standards or the resource changed since the decision; decide again.
    Stale,
    /// It is not: the version may be released no longer.
    Expired,
    /// It is not: the version was revoked.
    Revoked,
    /// It is not: the version was released to as many attempts as it may be.
    Spent,
    /// It is not: a row that it rests on is damaged.
    Damaged,
}

/// How many rows a tenant's rings hold, as this process knows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ring {
    pub(crate) refused: u64,
    pub(crate) others: u64,
    pub(crate) evidence: u64,
    /// How many were added since they were counted.
    pub(crate) added: u64,
    /// The newest place, in milliseconds since 1970. Later batches stand after it, also where a clock went back: what is
    /// added now must not be the oldest.
    pub(crate) last: u64,
}

impl Ring {
    pub(crate) fn counted(view: &(impl View + ?Sized), tenant: &str) -> Result<Self, StoreError> {
        let (from, until) = table::bounds(tenant);
        let mut last = 0;
        for ring in [REFUSED, OTHERS, EVIDENCE_RING] {
            for (key, _) in view.range(ring, &from, &until, Order::Descending, 1)? {
                last = last.max(Place::of_key(&key).map_or(0, |place| place.at));
            }
        }
        Ok(Self {
            refused: view.count(REFUSED, &from, &until)?,
            others: view.count(OTHERS, &from, &until)?,
            evidence: view.count(EVIDENCE_RING, &from, &until)?,
            added: 0,
            last,
        })
    }
}

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

impl Store {
    /// Writes entries down in one transaction. Durable when this returns; says of each what became of it.
    pub fn journal(&self, entries: &[(TenantName, JournalEntry)]) -> Result<Vec<Written>, StoreError> {
        let inner = &*self.inner;
        // Held for the whole of it, so that what is remembered of the rings is what was committed.
        let mut rings = inner.rings.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = inner.write(|change| {
            let mut known: HashMap<Arc<str>, Ring> = HashMap::new();
            for (tenant, _) in entries {
                if let Entry::Vacant(place) = known.entry(Arc::from(tenant.as_str())) {
                    let ring = match rings.get(tenant.as_str()) {
                        Some(ring) => *ring,
                        None => Ring::counted(&*change, tenant.as_str())?,
                    };
                    place.insert(ring);
                }
            }
            Batch::load(inner, change, entries, known)?.run()
        });
        match outcome {
            Ok((written, known)) => {
                rings.extend(known);
                Ok(written)
            }
            Err(error) => {
                // Whether it was kept is not known, so they are counted again.
                for (tenant, _) in entries {
                    rings.remove(tenant.as_str());
                }
                Err(error)
            }
        }
    }
}

//! How much is kept of attempts, and what this process knows of each tenant's rings.

use crate::StoreError;
use crate::engine::{Order, View};
use crate::places::Place;
use crate::table::{self, EVIDENCE_RING, OTHERS, REFUSED};

/// How many refused attempts are kept, unless the tenant's limits say otherwise.
pub const MAX_REFUSED: u64 = 1_000;
/// How many attempts are kept in all.
pub const MAX_ATTEMPTS: u64 = 10_000;
/// How many decisions are written down for each attempt. None is dropped while its attempt is kept: the next one
/// is refused, and whoever asks again attests again.
pub const MAX_DECISIONS: u64 = 256;

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

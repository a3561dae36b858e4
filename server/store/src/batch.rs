//! One journal transaction: everything is read first, in few questions, then each entry is checked and written.
//!
//! An entry is checked whole before its first row changes, so that a refused or damaged one leaves nothing behind.

mod load;
mod releases;
mod rings;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use coffer_core_admin::TenantName;

use crate::StoreError;
use crate::engine::{Change, Order};
use crate::entries::{AttemptEntry, JournalEntry, Written};
use crate::evidence::MAX_EVIDENCE;
use crate::heads::{Head, State};
use crate::inner::Inner;
use crate::keys::{self, TenantState};
use crate::places::{AttemptState, Place, decision_key};
use crate::resources::{count_key, release_key, split_count};
use crate::rings::{Limits, Ring};
use crate::seal::Sealer;
use crate::table::{self, ATTEMPT_STATES, ATTEMPTS, DECISIONS, EVIDENCE, EVIDENCE_PLACES, EVIDENCE_RING};
use crate::table::{OTHERS, REFUSED, RELEASE_COUNTS, RELEASES, RESOURCES, REVISIONS};

/// What this process knows of the rings of the tenants in a batch.
pub(crate) type Rings = HashMap<Arc<str>, Ring>;

/// A row that was read.
enum Slot<T> {
    Absent,
    There(T),
    /// It concerns its own entries only.
    Damaged,
}

impl<T> Slot<T> {
    fn of(read: Result<T, StoreError>) -> Result<Self, StoreError> {
        match read {
            Ok(value) => Ok(Self::There(value)),
            Err(StoreError::Record { .. }) => Ok(Self::Damaged),
            Err(error) => Err(error),
        }
    }
}

/// What a tenant's entries are written with.
struct Desk {
    state: TenantState,
    sealer: Sealer,
    limits: Limits,
    ring: Ring,
    added: u64,
    /// The first place after all that was there before this batch.
    floor: u64,
}

/// A value and whether it changed.
struct Kept<T> {
    value: T,
    changed: bool,
}

pub(crate) struct Batch<'a> {
    inner: &'a Inner,
    change: &'a mut dyn Change,
    entries: &'a [(TenantName, JournalEntry)],
    desks: HashMap<&'a str, Slot<Desk>>,
    /// By key, as all of these.
    states: HashMap<String, (&'a str, Slot<Kept<AttemptState>>)>,
    heads: HashMap<String, Slot<Head>>,
    counts: HashMap<String, (&'a str, Slot<Kept<u64>>)>,
    released: HashSet<String>,
}

/// The attempt that an entry is about.
fn attempt_of(entry: &JournalEntry) -> &str {
    match entry {
        JournalEntry::Attempt(attempt) => &attempt.id,
        JournalEntry::Decision { attempt, .. }
        | JournalEntry::Evidence { attempt, .. }
        | JournalEntry::Release { attempt, .. } => attempt,
    }
}

impl<'a> Batch<'a> {
    pub(crate) fn load(
        inner: &'a Inner,
        change: &'a mut dyn Change,
        entries: &'a [(TenantName, JournalEntry)],
        rings: Rings,
    ) -> Result<Self, StoreError> {
        let mut batch = Self {
            inner,
            change,
            entries,
            desks: HashMap::new(),
            states: HashMap::new(),
            heads: HashMap::new(),
            counts: HashMap::new(),
            released: HashSet::new(),
        };
        batch.load_desks(&rings)?;
        batch.load_states()?;
        batch.load_heads()?;
        batch.load_counts()?;
        Ok(batch)
    }

    /// Writes it all down; gives what became of each entry, and what the rings hold now.
    pub(crate) fn run(mut self) -> Result<(Vec<Written>, Rings), StoreError> {
        let mut written = vec![Written::Kept; self.entries.len()];
        // Attempts first, and what they push out: a decision that is kept is one that is still there afterwards.
        for (nth, ((tenant, entry), became)) in self.entries.iter().zip(&mut written).enumerate() {
            if let JournalEntry::Attempt(attempt) = entry {
                *became = self.add(tenant.as_str(), attempt, nth)?;
            }
        }
        let tenants: Vec<&'a str> = self.desks.keys().copied().collect();
        for tenant in &tenants {
            self.prune(tenant)?;
        }
        for (nth, ((tenant, entry), became)) in self.entries.iter().zip(&mut written).enumerate() {
            let tenant = tenant.as_str();
            match entry {
                JournalEntry::Attempt(_) => {}
                JournalEntry::Decision { attempt, body } => *became = self.decide(tenant, attempt, body)?,
                JournalEntry::Evidence { attempt, at_ms, body, keep } => {
                    let place = self.place(tenant, *at_ms, nth);
                    *became = self.keep_evidence(tenant, attempt, place, body, *keep)?;
                }
                JournalEntry::Release { attempt, path, version, revision, at, body } => {
                    *became = self.may_release(tenant, attempt, path, *version, *revision, *at);
                    if *became == Written::Kept {
                        self.spend(tenant, attempt, path, *version)?;
                        *became = self.decide(tenant, attempt, body)?;
                    }
                }
            }
        }
        self.flush()?;
        let rings = self.desks.into_iter().filter_map(|(tenant, desk)| match desk {
            Slot::There(desk) => Some((Arc::from(tenant), desk.ring)),
            Slot::Absent | Slot::Damaged => None,
        });
        Ok((written, rings.collect()))
    }

    /// Writes what changed and was held back to be written once.
    fn flush(&mut self) -> Result<(), StoreError> {
        for (key, (tenant, slot)) in &self.states {
            if let (Slot::There(state), Some(Slot::There(desk))) = (slot, self.desks.get_mut(tenant))
                && state.changed
            {
                let sealed = desk.sealer.seal(ATTEMPT_STATES, key, &state.value.join())?;
                self.change.put(ATTEMPT_STATES, key, &sealed)?;
            }
        }
        for (key, (tenant, slot)) in &self.counts {
            if let (Slot::There(count), Some(Slot::There(desk))) = (slot, self.desks.get_mut(tenant))
                && count.changed
            {
                let sealed = desk.sealer.seal(RELEASE_COUNTS, key, &count.value.to_be_bytes())?;
                self.change.put(RELEASE_COUNTS, key, &sealed)?;
            }
        }
        Ok(())
    }

    /// Seals a row of a tenant that is there, and puts it.
    fn put(&mut self, tenant: &str, table: &'static str, key: &str, value: &[u8]) -> Result<(), StoreError> {
        let Some(Slot::There(desk)) = self.desks.get_mut(tenant) else {
            return Err(StoreError::NoSuchTenant(tenant.to_owned()));
        };
        let sealed = desk.sealer.seal(table, key, value)?;
        self.change.put(table, key, &sealed)
    }

    /// Why nothing can be written for a tenant.
    fn closed(&self, tenant: &str) -> Option<Written> {
        match self.desks.get(tenant) {
            Some(Slot::There(_)) => None,
            Some(Slot::Damaged) => Some(Written::Damaged),
            Some(Slot::Absent) | None => Some(Written::TenantGone),
        }
    }
}

//! One journal transaction: everything is read first, in few questions, then each entry is checked and written.
//!
//! An entry is checked whole before its first row changes, so that a refused or damaged one leaves nothing behind.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use coffer_core_admin::TenantName;

use crate::StoreError;
use crate::engine::{Change, Order};
use crate::evidence::MAX_EVIDENCE;
use crate::heads::{Head, State};
use crate::journal::{AttemptEntry, JournalEntry, Limits, Ring, Written};
use crate::keys::{self, TenantState, damaged};
use crate::resources::{count_key, release_key, split_count};
use crate::seal::Sealer;
use crate::store::Inner;
use crate::table::{self, ATTEMPT_STATES, ATTEMPTS, DECISIONS, EVIDENCE, EVIDENCE_PLACES, EVIDENCE_RING};
use crate::table::{OTHERS, REFUSED, RELEASE_COUNTS, RELEASES, RESOURCES, REVISIONS};

/// How many attempts more than were added are pruned in one transaction.
const PRUNED: u64 = 256;

/// Where an attempt stands, and how many decisions it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AttemptState {
    pub(crate) place: Place,
    pub(crate) refused: bool,
    pub(crate) decisions: u32,
}

/// A place in a ring: milliseconds since 1970, then the place in the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) at: u64,
    pub(crate) nth: u16,
}

/// The length of a place as text.
pub(crate) const PLACE: usize = 20;

impl Place {
    /// The place of the batch's nth entry, not before `floor`.
    fn new(at_ms: i64, nth: usize, floor: u64) -> Self {
        let at = u64::try_from(at_ms).unwrap_or(0).max(floor);
        Self { at, nth: u16::try_from(nth).unwrap_or(u16::MAX) }
    }

    /// The place in a ring's key.
    pub(crate) fn of_key(key: &str) -> Option<Self> {
        let (at, nth) = table::split(key)?.1.get(..PLACE)?.split_at_checked(16)?;
        Some(Self { at: u64::from_str_radix(at, 16).ok()?, nth: u16::from_str_radix(nth, 16).ok()? })
    }

    fn text(self) -> String {
        format!("{:016x}{:04x}", self.at, self.nth)
    }

    /// The key of a ring's row.
    pub(crate) fn key(self, tenant: &str, id: &str) -> String {
        table::part(tenant, &self.text(), id)
    }

    pub(crate) fn join(self) -> [u8; 10] {
        let mut bytes = [0; 10];
        let (at, nth) = bytes.split_at_mut(8);
        at.copy_from_slice(&self.at.to_be_bytes());
        nth.copy_from_slice(&self.nth.to_be_bytes());
        bytes
    }

    fn split(plain: &[u8]) -> Option<(Self, &[u8])> {
        let (at, rest) = plain.split_first_chunk()?;
        let (nth, rest) = rest.split_first_chunk()?;
        Some((Self { at: u64::from_be_bytes(*at), nth: u16::from_be_bytes(*nth) }, rest))
    }
}

impl AttemptState {
    pub(crate) fn join(self) -> Vec<u8> {
        let mut bytes = self.place.join().to_vec();
        bytes.push(u8::from(self.refused));
        bytes.extend_from_slice(&self.decisions.to_be_bytes());
        bytes
    }

    pub(crate) fn split(key: &str, plain: &[u8]) -> Result<Self, StoreError> {
        let read = || {
            let (place, rest) = Place::split(plain)?;
            let (refused, rest) = rest.split_first()?;
            let decisions = u32::from_be_bytes(rest.try_into().ok()?);
            Some(Self { place, refused: *refused != 0, decisions })
        };
        read().ok_or_else(|| damaged(ATTEMPT_STATES, key))
    }

    fn ring(self) -> &'static str {
        if self.refused { REFUSED } else { OTHERS }
    }
}

/// The name of an attempt's nth decision.
pub(crate) fn decision_key(tenant: &str, attempt: &str, nth: u32) -> String {
    table::part(tenant, attempt, &format!("{nth:010}"))
}

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
        rings: HashMap<Arc<str>, Ring>,
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

    fn load_desks(&mut self, rings: &HashMap<Arc<str>, Ring>) -> Result<(), StoreError> {
        let mut tenants: Vec<&'a str> = self.entries.iter().map(|(tenant, _)| tenant.as_str()).collect();
        tenants.sort_unstable();
        tenants.dedup();
        let places: Vec<String> = tenants.iter().map(|tenant| keys::state_key(tenant)).collect();
        let wanted: Vec<&str> = places.iter().map(String::as_str).collect();
        let rows = self.change.get_many(REVISIONS, &wanted)?;
        let keys = &self.inner.keys;
        for ((tenant, place), row) in tenants.into_iter().zip(&places).zip(rows) {
            let Some(sealed) = row else {
                self.desks.insert(tenant, Slot::Absent);
                continue;
            };
            let limits = self.inner.limits_of(tenant);
            let ring = rings.get(tenant).copied().unwrap_or_default();
            let desk = keys.open_state(place, &sealed).and_then(|state| {
                let sealer = keys.sealer(&*self.change, tenant, state)?;
                Ok(Desk { state, sealer, limits, ring, added: 0, floor: ring.last.saturating_add(1) })
            });
            self.desks.insert(tenant, Slot::of(desk)?);
        }
        Ok(())
    }

    fn load_states(&mut self) -> Result<(), StoreError> {
        let mut wanted: Vec<(&'a str, String)> = Vec::with_capacity(self.entries.len());
        let mut seen = HashSet::new();
        for (tenant, entry) in self.entries {
            let (tenant, id) = (tenant.as_str(), attempt_of(entry));
            if seen.insert((tenant, id)) {
                wanted.push((tenant, table::key(tenant, table::check(id)?)));
            }
        }
        self.read_states(wanted)
    }

    fn read_states(&mut self, wanted: Vec<(&'a str, String)>) -> Result<(), StoreError> {
        let places: Vec<&str> = wanted.iter().map(|(_, key)| key.as_str()).collect();
        let rows = self.change.get_many(ATTEMPT_STATES, &places)?;
        for ((tenant, key), row) in wanted.into_iter().zip(rows) {
            let slot = match row {
                None => Slot::Absent,
                Some(sealed) => {
                    let plain = self.inner.keys.open(&*self.change, ATTEMPT_STATES, tenant, &key, &sealed);
                    let state = plain.and_then(|plain| AttemptState::split(&key, plain.expose()));
                    Slot::of(state.map(|value| Kept { value, changed: false }))?
                }
            };
            self.states.insert(key, (tenant, slot));
        }
        Ok(())
    }

    fn load_heads(&mut self) -> Result<(), StoreError> {
        let mut wanted: Vec<(&'a str, String)> = Vec::new();
        let mut seen = HashSet::new();
        for (tenant, entry) in self.entries {
            if let JournalEntry::Release { path, version: Some(_), .. } = entry
                && seen.insert((tenant.as_str(), path.as_str()))
            {
                wanted.push((tenant.as_str(), table::key(tenant.as_str(), path)));
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let places: Vec<&str> = wanted.iter().map(|(_, key)| key.as_str()).collect();
        let rows = self.change.get_many(RESOURCES, &places)?;
        for ((tenant, key), row) in wanted.into_iter().zip(rows) {
            let slot = match row {
                None => Slot::Absent,
                Some(sealed) => {
                    let plain = self.inner.keys.open(&*self.change, RESOURCES, tenant, &key, &sealed);
                    Slot::of(plain.and_then(|plain| Head::split(&key, plain.expose())))?
                }
            };
            self.heads.insert(key, slot);
        }
        Ok(())
    }

    /// The counter that a release of a version raises.
    fn counter(&self, tenant: &str, path: &str, version: u64) -> Option<(String, Option<u64>)> {
        let Some(Slot::There(head)) = self.heads.get(&table::key(tenant, path)) else { return None };
        let limit = head.version(version)?.release_limit;
        let shard = if limit.is_some() { 0 } else { self.inner.shard };
        Some((count_key(tenant, path, version, shard), limit))
    }

    fn load_counts(&mut self) -> Result<(), StoreError> {
        let mut counters: Vec<(&'a str, String)> = Vec::new();
        let mut releases: Vec<String> = Vec::new();
        let mut seen = HashSet::new();
        for (tenant, entry) in self.entries {
            let JournalEntry::Release { attempt, path, version: Some(version), .. } = entry else { continue };
            let Some((counter, limit)) = self.counter(tenant.as_str(), path, *version) else { continue };
            if limit.is_some() {
                releases.push(release_key(tenant.as_str(), path, *version, attempt));
            }
            if seen.insert((tenant.as_str(), path.as_str(), *version)) {
                counters.push((tenant.as_str(), counter));
            }
        }
        if counters.is_empty() {
            return Ok(());
        }
        let places: Vec<&str> = counters.iter().map(|(_, key)| key.as_str()).collect();
        let rows = self.change.get_many(RELEASE_COUNTS, &places)?;
        for ((tenant, key), row) in counters.into_iter().zip(rows) {
            let slot = match row {
                None => Slot::There(Kept { value: 0, changed: false }),
                Some(sealed) => {
                    let plain = self.inner.keys.open(&*self.change, RELEASE_COUNTS, tenant, &key, &sealed);
                    let count = plain.and_then(|plain| split_count(&key, plain.expose()));
                    Slot::of(count.map(|value| Kept { value, changed: false }))?
                }
            };
            self.counts.insert(key, (tenant, slot));
        }
        if !releases.is_empty() {
            releases.sort_unstable();
            releases.dedup();
            let places: Vec<&str> = releases.iter().map(String::as_str).collect();
            let rows = self.change.get_many(RELEASES, &places)?;
            self.released =
                releases.into_iter().zip(rows).filter_map(|(key, row)| row.map(|_| key)).collect();
        }
        Ok(())
    }

    /// Writes it all down; gives what became of each entry, and what the rings hold now.
    pub(crate) fn run(mut self) -> Result<(Vec<Written>, HashMap<Arc<str>, Ring>), StoreError> {
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

    fn place(&mut self, tenant: &str, at_ms: i64, nth: usize) -> Place {
        let Some(Slot::There(desk)) = self.desks.get_mut(tenant) else { return Place::new(at_ms, nth, 0) };
        let place = Place::new(at_ms, nth, desk.floor);
        desk.ring.last = desk.ring.last.max(place.at);
        place
    }

    fn add(&mut self, tenant: &'a str, attempt: &AttemptEntry, nth: usize) -> Result<Written, StoreError> {
        if let Some(closed) = self.closed(tenant) {
            return Ok(closed);
        }
        let key = table::key(tenant, &attempt.id);
        // An attempt that is judged again leaves its place. Its decisions stay: they were made.
        let before = match self.states.get(&key) {
            Some((_, Slot::There(state))) => Some(state.value),
            Some((_, Slot::Damaged)) => return Ok(Written::Damaged),
            _ => None,
        };
        if let Some(before) = before {
            self.change.discard(before.ring(), &before.place.key(tenant, &attempt.id))?;
            self.ring(tenant, |ring| {
                let number = if before.refused { &mut ring.refused } else { &mut ring.others };
                *number = number.saturating_sub(1);
            });
        }
        let state = AttemptState {
            place: self.place(tenant, attempt.at_ms, nth),
            refused: attempt.refused,
            decisions: before.map_or(0, |before| before.decisions),
        };
        self.change.put(state.ring(), &state.place.key(tenant, &attempt.id), b"")?;
        self.put(tenant, ATTEMPTS, &key, &attempt.body)?;
        self.states.insert(key, (tenant, Slot::There(Kept { value: state, changed: true })));
        self.ring(tenant, |ring| {
            let number = if state.refused { &mut ring.refused } else { &mut ring.others };
            *number = number.saturating_add(1);
            ring.added = ring.added.saturating_add(1);
        });
        if let Some(Slot::There(desk)) = self.desks.get_mut(tenant) {
            desk.added = desk.added.saturating_add(1);
        }
        Ok(Written::Kept)
    }

    fn ring(&mut self, tenant: &str, change: impl FnOnce(&mut Ring)) {
        if let Some(Slot::There(desk)) = self.desks.get_mut(tenant) {
            change(&mut desk.ring);
        }
    }

    /// Drops what is beyond the limits; in bounded steps, where there is more of it than was added.
    fn prune(&mut self, tenant: &'a str) -> Result<(), StoreError> {
        let Some(Slot::There(desk)) = self.desks.get_mut(tenant) else { return Ok(()) };
        if self.inner.wants_count(&desk.ring) {
            desk.ring = Ring::counted(&*self.change, tenant)?;
        }
        if desk.added == 0 || !self.inner.is_exact(&desk.ring) {
            return Ok(());
        }
        let (ring, limits) = (desk.ring, desk.limits);
        let step = desk.added.saturating_add(PRUNED);
        let refused = ring.refused.saturating_sub(limits.refused).min(step);
        // The refused ones are within their own bound then, so it is the others that are too many.
        let all = ring.refused.saturating_sub(refused).saturating_add(ring.others);
        let others = all.saturating_sub(limits.attempts).min(step).min(ring.others);
        self.drop_oldest(tenant, REFUSED, refused)?;
        self.drop_oldest(tenant, OTHERS, others)
    }

    fn drop_oldest(&mut self, tenant: &'a str, ring: &'static str, number: u64) -> Result<(), StoreError> {
        if number == 0 {
            return Ok(());
        }
        let (from, until) = table::bounds(tenant);
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        let rows = self.change.range(ring, &from, &until, Order::Ascending, number)?;
        let mut dropped = Vec::with_capacity(rows.len());
        for (place, _) in rows {
            if let Some((_, id)) = place.split_once('\0') {
                let key = table::key(tenant, id);
                dropped.push((id.to_owned(), key));
            }
            self.change.discard(ring, &place)?;
        }
        let unknown = dropped.iter().filter(|(_, key)| !self.states.contains_key(key));
        let unknown: Vec<(&'a str, String)> = unknown.map(|(_, key)| (tenant, key.clone())).collect();
        self.read_states(unknown)?;
        let gone = dropped.len() as u64;
        for (id, key) in dropped {
            let known = match self.states.get(&key) {
                Some((_, Slot::There(state))) => Some(state.value.decisions),
                _ => None,
            };
            self.drop_decisions(tenant, &id, known)?;
            self.change.discard(ATTEMPTS, &key)?;
            self.change.discard(ATTEMPT_STATES, &key)?;
            self.states.insert(key, (tenant, Slot::Absent));
        }
        self.ring(tenant, |counts| {
            let number = if ring == REFUSED { &mut counts.refused } else { &mut counts.others };
            *number = number.saturating_sub(gone);
        });
        Ok(())
    }

    /// Decisions are numbered from 1 without gaps, because they go only all together.
    fn drop_decisions(&mut self, tenant: &str, id: &str, known: Option<u32>) -> Result<(), StoreError> {
        match known {
            Some(number) => {
                for nth in 1..=number {
                    self.change.discard(DECISIONS, &decision_key(tenant, id, nth))?;
                }
            }
            None => {
                let (from, until) = table::part_bounds(tenant, id);
                for (key, _) in self.change.range(DECISIONS, &from, &until, Order::Ascending, usize::MAX)? {
                    self.change.discard(DECISIONS, &key)?;
                }
            }
        }
        Ok(())
    }

    fn decide(&mut self, tenant: &str, attempt: &str, body: &[u8]) -> Result<Written, StoreError> {
        let became = self.may_decide(tenant, attempt);
        if became != Written::Kept {
            return Ok(became);
        }
        let Some((_, Slot::There(state))) = self.states.get_mut(&table::key(tenant, attempt)) else {
            return Ok(Written::AttemptGone);
        };
        state.value.decisions = state.value.decisions.saturating_add(1);
        state.changed = true;
        let nth = state.value.decisions;
        self.put(tenant, DECISIONS, &decision_key(tenant, attempt, nth), body)?;
        Ok(Written::Kept)
    }

    fn may_decide(&self, tenant: &str, attempt: &str) -> Written {
        let desk = match self.desks.get(tenant) {
            Some(Slot::There(desk)) => desk,
            Some(Slot::Damaged) => return Written::Damaged,
            Some(Slot::Absent) | None => return Written::TenantGone,
        };
        match self.states.get(&table::key(tenant, attempt)) {
            Some((_, Slot::There(state))) if u64::from(state.value.decisions) >= desk.limits.decisions => {
                Written::AttemptFull
            }
            Some((_, Slot::There(_))) => Written::Kept,
            Some((_, Slot::Damaged)) => Written::Damaged,
            Some((_, Slot::Absent)) | None => Written::AttemptGone,
        }
    }

    fn may_release(
        &self,
        tenant: &str,
        attempt: &str,
        path: &str,
        version: Option<u64>,
        revision: u64,
        at: i64,
    ) -> Written {
        let may = self.may_decide(tenant, attempt);
        if may != Written::Kept {
            return may;
        }
        let Some(Slot::There(desk)) = self.desks.get(tenant) else { return Written::TenantGone };
        if desk.state.revision != revision {
            return Written::Stale;
        }
        let Some(number) = version else { return Written::Kept };
        let head = match self.heads.get(&table::key(tenant, path)) {
            Some(Slot::There(head)) => head,
            Some(Slot::Damaged) => return Written::Damaged,
            Some(Slot::Absent) | None => return Written::Stale,
        };
        let Some(known) = head.version(number) else { return Written::Stale };
        if known.state != State::Active {
            return Written::Revoked;
        }
        if known.expires_at.is_some_and(|expires_at| expires_at <= at) {
            return Written::Expired;
        }
        let Some((counter, limit)) = self.counter(tenant, path, number) else { return Written::Stale };
        let count = match self.counts.get(&counter) {
            Some((_, Slot::There(count))) => count.value,
            _ => return Written::Damaged,
        };
        match limit {
            Some(limit)
                if count >= limit && !self.released.contains(&release_key(tenant, path, number, attempt)) =>
            {
                Written::Spent
            }
            _ => Written::Kept,
        }
    }

    /// Counts a release. The same attempt counts once where there is a limit.
    fn spend(
        &mut self,
        tenant: &str,
        attempt: &str,
        path: &str,
        version: Option<u64>,
    ) -> Result<(), StoreError> {
        let Some(number) = version else { return Ok(()) };
        let Some((counter, limit)) = self.counter(tenant, path, number) else { return Ok(()) };
        if limit.is_some() {
            let key = release_key(tenant, path, number, attempt);
            if self.released.contains(&key) {
                return Ok(());
            }
            self.put(tenant, RELEASES, &key, b"")?;
            self.released.insert(key);
        }
        if let Some((_, Slot::There(count))) = self.counts.get_mut(&counter) {
            count.value = count.value.saturating_add(1);
            count.changed = true;
        }
        Ok(())
    }

    fn keep_evidence(
        &mut self,
        tenant: &'a str,
        attempt: &str,
        place: Place,
        body: &[u8],
        keep: u64,
    ) -> Result<Written, StoreError> {
        if let Some(closed) = self.closed(tenant) {
            return Ok(closed);
        }
        let key = table::key(tenant, attempt);
        if let Some(sealed) = self.change.get(EVIDENCE_PLACES, &key)? {
            let plain = self.inner.keys.open(&*self.change, EVIDENCE_PLACES, tenant, &key, &sealed);
            let Slot::There(plain) = Slot::of(plain)? else { return Ok(Written::Damaged) };
            let Some((before, _)) = Place::split(plain.expose()) else { return Ok(Written::Damaged) };
            self.drop_evidence(&before.key(tenant, attempt), &key)?;
            self.ring(tenant, |ring| ring.evidence = ring.evidence.saturating_sub(1));
        }
        if body.len() <= MAX_EVIDENCE && keep > 0 {
            self.put(tenant, EVIDENCE, &key, body)?;
            self.put(tenant, EVIDENCE_PLACES, &key, &place.join())?;
            self.change.put(EVIDENCE_RING, &place.key(tenant, attempt), b"")?;
            self.ring(tenant, |ring| {
                ring.evidence = ring.evidence.saturating_add(1);
                ring.added = ring.added.saturating_add(1);
            });
        }
        let Some(Slot::There(desk)) = self.desks.get_mut(tenant) else { return Ok(Written::TenantGone) };
        if self.inner.wants_count(&desk.ring) {
            desk.ring = Ring::counted(&*self.change, tenant)?;
        }
        if !self.inner.is_exact(&desk.ring) {
            return Ok(Written::Kept);
        }
        let excess = desk.ring.evidence.saturating_sub(keep).min(PRUNED);
        let (from, until) = table::bounds(tenant);
        let number = usize::try_from(excess).unwrap_or(usize::MAX);
        for (place, _) in self.change.range(EVIDENCE_RING, &from, &until, Order::Ascending, number)? {
            if let Some((_, oldest)) = place.split_once('\0') {
                self.drop_evidence(&place, &table::key(tenant, oldest))?;
                self.ring(tenant, |ring| ring.evidence = ring.evidence.saturating_sub(1));
            }
        }
        Ok(Written::Kept)
    }

    fn drop_evidence(&mut self, place: &str, key: &str) -> Result<(), StoreError> {
        self.change.discard(EVIDENCE_RING, place)?;
        self.change.discard(EVIDENCE, key)?;
        self.change.discard(EVIDENCE_PLACES, key)
    }
}

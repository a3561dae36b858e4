//! The rings of attempts and of evidence: taking a place, and dropping what is beyond the limits.

use super::*;

/// How many rows more than were added are dropped in one transaction.
const PRUNED: u64 = 256;

impl<'a> Batch<'a> {
    /// A new place, after all that was there before this batch.
    pub(super) fn place(&mut self, tenant: &str, at_ms: i64, nth: usize) -> Place {
        let Some(Slot::There(desk)) = self.desks.get_mut(tenant) else { return Place::new(at_ms, nth, 0) };
        let place = Place::new(at_ms, nth, desk.floor);
        desk.ring.last = desk.ring.last.max(place.at);
        place
    }

    pub(super) fn add(
        &mut self,
        tenant: &'a str,
        attempt: &AttemptEntry,
        nth: usize,
    ) -> Result<Written, StoreError> {
        if let Some(closed) = self.closed(tenant) {
            return Ok(closed);
        }
        let key = table::key(tenant, table::check(&attempt.id)?);
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
    pub(super) fn prune(&mut self, tenant: &'a str) -> Result<(), StoreError> {
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

    pub(super) fn keep_evidence(
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
        let key = table::key(tenant, table::check(attempt)?);
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

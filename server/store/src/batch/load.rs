//! Reading what a batch needs, in one question for each table.

use super::*;

impl<'a> Batch<'a> {
    pub(super) fn load_desks(&mut self, rings: &Rings) -> Result<(), StoreError> {
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

    pub(super) fn load_states(&mut self) -> Result<(), StoreError> {
        let mut wanted: Vec<(&'a str, String)> = Vec::with_capacity(self.entries.len());
        let mut seen = HashSet::new();
        for (tenant, entry) in self.entries {
            let (tenant, id) = (tenant.as_str(), attempt_of(entry));
            // What has no possible name is not there.
            if seen.insert((tenant, id)) && table::check(id).is_ok() {
                wanted.push((tenant, table::key(tenant, id)));
            }
        }
        self.read_states(wanted)
    }

    pub(super) fn read_states(&mut self, wanted: Vec<(&'a str, String)>) -> Result<(), StoreError> {
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

    pub(super) fn load_heads(&mut self) -> Result<(), StoreError> {
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
    pub(super) fn counter(&self, tenant: &str, path: &str, version: u64) -> Option<(String, Option<u64>)> {
        let Some(Slot::There(head)) = self.heads.get(&table::key(tenant, path)) else { return None };
        let limit = head.version(version)?.release_limit;
        let shard = if limit.is_some() { 0 } else { self.inner.shard };
        Some((count_key(tenant, path, version, shard), limit))
    }

    pub(super) fn load_counts(&mut self) -> Result<(), StoreError> {
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
}

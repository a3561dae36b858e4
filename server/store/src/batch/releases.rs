//! Decisions and releases: whether an entry may be written, and what it counts.

use super::*;

impl Batch<'_> {
    pub(super) fn decide(&mut self, tenant: &str, attempt: &str, body: &[u8]) -> Result<Written, StoreError> {
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

    pub(super) fn may_release(
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
    pub(super) fn spend(
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
}

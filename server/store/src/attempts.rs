//! Reading attempts and what was decided on them. They are written by the journal.

use coffer_core_secret::SecretBytes;

use crate::StoreError;
use crate::engine::Order;
use crate::places::PLACE;
use crate::scope::{Scope, get};
use crate::table::{self, ATTEMPTS, DECISIONS, OTHERS, REFUSED};

/// Some of the attempts, newest first.
pub struct AttemptPage {
    /// Their names and bodies.
    pub attempts: Vec<(String, SecretBytes)>,
    /// What to ask with for those before them; none if there are none.
    pub next: Option<String>,
}

impl Scope {
    /// An attempt's body.
    pub fn attempt(&self, id: &str) -> Result<Option<SecretBytes>, StoreError> {
        self.inner.read(|view| get(&self.inner.keys, view, &self.tenant, ATTEMPTS, id))
    }

    /// The bodies of an attempt's decisions, oldest first.
    pub fn decisions(&self, id: &str) -> Result<Vec<SecretBytes>, StoreError> {
        let (from, until) = table::part_bounds(&self.tenant, id);
        self.inner.read(|view| {
            let rows = view.range(DECISIONS, &from, &until, Order::Ascending, usize::MAX)?;
            let open = |(key, sealed): (String, Vec<u8>)| {
                self.inner.keys.open(view, DECISIONS, &self.tenant, &key, &sealed)
            };
            rows.into_iter().map(open).collect()
        })
    }

    /// The last attempts, newest first.
    pub fn attempts(&self, limit: usize) -> Result<Vec<(String, SecretBytes)>, StoreError> {
        self.attempts_page(None, limit).map(|page| page.attempts)
    }

    /// The attempts before a place that [`AttemptPage::next`] gave, or the last ones; newest first.
    pub fn attempts_page(&self, before: Option<&str>, limit: usize) -> Result<AttemptPage, StoreError> {
        let tenant = &*self.tenant;
        let (from, end) = table::bounds(tenant);
        // A place that this did not give is one like others, where perhaps nothing is.
        let until = match before.and_then(|before| before.split_at_checked(PLACE)) {
            Some((place, id)) => table::part(tenant, place, id),
            None => end,
        };
        self.inner.read(|view| {
            let mut order = Vec::new();
            for ring in [REFUSED, OTHERS] {
                for (key, _) in view.range(ring, &from, &until, Order::Descending, limit)? {
                    let name = table::split(&key).map(|(_, name)| name).unwrap_or_default();
                    if let Some((place, id)) = name.split_once('\0') {
                        order.push((place.to_owned(), id.to_owned()));
                    }
                }
            }
            order.sort_unstable_by(|a, b| b.cmp(a));
            order.truncate(limit);
            let keys: Vec<String> = order.iter().map(|(_, id)| table::key(tenant, id)).collect();
            let wanted: Vec<&str> = keys.iter().map(String::as_str).collect();
            let rows = view.get_many(ATTEMPTS, &wanted)?;
            let next = (order.len() == limit).then(|| order.last()).flatten();
            let next = next.map(|(place, id)| format!("{place}{id}"));
            let mut attempts = Vec::with_capacity(order.len());
            for (((_, id), key), row) in order.into_iter().zip(&keys).zip(rows) {
                if let Some(sealed) = row {
                    attempts.push((id, self.inner.keys.open(view, ATTEMPTS, tenant, key, &sealed)?));
                }
            }
            Ok(AttemptPage { attempts, next })
        })
    }

    /// How many attempts are kept: refused, and in all.
    pub fn attempt_counts(&self) -> Result<(u64, u64), StoreError> {
        let (from, until) = table::bounds(&self.tenant);
        self.inner.read(|view| {
            let refused = view.count(REFUSED, &from, &until)?;
            Ok((refused, refused.saturating_add(view.count(OTHERS, &from, &until)?)))
        })
    }
}

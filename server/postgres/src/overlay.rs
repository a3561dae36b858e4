//! What a transaction has changed and not sent yet, and what its own reads see through it.

use std::collections::BTreeMap;
use std::ops::Bound;

use coffer_server_store::Order;

/// A value, or that there is none any more.
type Changed = Option<Vec<u8>>;

/// Changes by table and key; of each key the last one.
#[derive(Default)]
pub(crate) struct Overlay(BTreeMap<&'static str, BTreeMap<String, Changed>>);

impl Overlay {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.values().all(BTreeMap::is_empty)
    }

    /// What was made of a key, where something was.
    pub(crate) fn get(&self, table: &str, key: &str) -> Option<&Changed> {
        self.0.get(table)?.get(key)
    }

    pub(crate) fn set(&mut self, table: &'static str, key: &str, value: Changed) {
        self.0.entry(table).or_default().insert(key.to_owned(), value);
    }

    /// All changes, by table and key.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, &str, Option<&[u8]>)> {
        self.0.iter().flat_map(|(table, changes)| {
            changes.iter().map(|(key, value)| (*table, key.as_str(), value.as_deref()))
        })
    }

    /// The changes of `from <= key < until`.
    pub(crate) fn within<'a>(
        &'a self,
        table: &str,
        from: &'a str,
        until: &'a str,
    ) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> {
        let bounds = (Bound::Included(from), Bound::Excluded(until));
        // A map panics on a range that ends before it begins.
        let changes = self.0.get(table).filter(|_| from < until);
        changes
            .into_iter()
            .flat_map(move |changes| changes.range::<str, _>(bounds))
            .map(|(key, value)| (key.as_str(), value.as_deref()))
    }

    /// The first `limit` rows of a range, of which `rows` are the first that are kept: `limit` and as many more as
    /// there are changes within, or all.
    pub(crate) fn over(
        &self,
        table: &str,
        (from, until): (&str, &str),
        order: Order,
        limit: usize,
        rows: Vec<(String, Vec<u8>)>,
    ) -> Vec<(String, Vec<u8>)> {
        let mut changes = self.within(table, from, until).peekable();
        if changes.peek().is_none() {
            return rows.into_iter().take(limit).collect();
        }
        let mut seen: BTreeMap<String, Vec<u8>> = rows.into_iter().collect();
        for (key, value) in changes {
            match value {
                Some(value) => seen.insert(key.to_owned(), value.to_vec()),
                None => seen.remove(key),
            };
        }
        match order {
            Order::Ascending => seen.into_iter().take(limit).collect(),
            Order::Descending => seen.into_iter().rev().take(limit).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = String> {
        "[a-d]{0,2}"
    }

    proptest! {
        #[test]
        fn a_range_seen_through_changes_is_the_range_of_the_changed_rows(
            kept in proptest::collection::btree_map(key(), any::<Vec<u8>>(), 0..8),
            changes in proptest::collection::vec((key(), any::<Option<Vec<u8>>>()), 0..8),
            (from, until) in (key(), key()),
            (limit, is_descending) in (0_usize..8, any::<bool>()),
        ) {
            let order = if is_descending { Order::Descending } else { Order::Ascending };
            let pick = |rows: &BTreeMap<String, Vec<u8>>, limit: usize| -> Vec<(String, Vec<u8>)> {
                let within = rows.iter().filter(|(key, _)| **key >= from && **key < until);
                let owned = within.map(|(key, value)| (key.clone(), value.clone()));
                match order {
                    Order::Ascending => owned.take(limit).collect(),
                    Order::Descending => owned.rev().take(limit).collect(),
                }
            };
            let mut overlay = Overlay::default();
            let mut model = kept.clone();
            for (key, value) in changes {
                overlay.set("t", &key, value.clone());
                match value {
                    Some(value) => model.insert(key, value),
                    None => model.remove(&key),
                };
            }
            let more = overlay.within("t", &from, &until).count();
            let rows = pick(&kept, limit + more);
            prop_assert_eq!(overlay.over("t", (&from, &until), order, limit, rows), pick(&model, limit));
        }
    }
}

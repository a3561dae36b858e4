//! Opening every record, for a person who wants to know that a store is whole.

use std::collections::HashSet;

use crate::StoreError;
use crate::backup::LAST;
use crate::engine::{Order, View};
use crate::heads::Head;
use crate::inner::{CLUSTER, Inner};
use crate::keys;
use crate::store::Store;
use crate::table::{self, REMOVALS, RESOURCES, REVISIONS, VALUES};

/// How many damaged records are named.
const NAMED: usize = 100;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many records were opened.
    pub records: u64,
    /// How many are damaged or missing.
    pub damaged: u64,
    /// The table and key of the first of those.
    pub named: Vec<(String, String)>,
    /// How many tenants there are.
    pub tenants: u64,
}

impl Report {
    /// Whether nothing is damaged.
    pub fn is_whole(&self) -> bool {
        self.damaged == 0
    }

    fn note(&mut self, table: &str, key: &str) {
        self.damaged = self.damaged.saturating_add(1);
        if self.named.len() < NAMED {
            self.named.push((table.to_owned(), key.to_owned()));
        }
    }

    /// Counts a record that opened; a damaged one is named, and any other fault ends the search.
    fn take<T>(&mut self, opened: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
        match opened {
            Ok(value) => {
                self.records = self.records.saturating_add(1);
                Ok(Some(value))
            }
            Err(StoreError::Record { table, key }) => {
                self.note(table, &key);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl Store {
    /// Opens every record of one state of the store.
    pub fn verify(&self) -> Result<Report, StoreError> {
        self.inner.read(|view| search(&self.inner, view))
    }
}

/// Calls `work` with each row of a table.
fn each(
    view: &dyn View,
    name: &'static str,
    mut work: impl FnMut(&str, &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let page = table::page(name);
    let mut from = String::new();
    loop {
        let rows = view.range(name, &from, LAST, Order::Ascending, page)?;
        for (key, value) in &rows {
            work(key, value)?;
        }
        match rows.last() {
            Some((key, _)) if rows.len() == page => from = table::after(key),
            _ => return Ok(()),
        }
    }
}

fn search(inner: &Inner, view: &dyn View) -> Result<Report, StoreError> {
    let ring = &inner.keys;
    let mut report = Report::default();
    let mut removed = HashSet::new();
    each(view, REMOVALS, |key, _| {
        removed.extend(table::split(key).map(|(_, name)| name.to_owned()));
        Ok(())
    })?;
    for name in table::BY_CLUSTER {
        each(view, name, |key, sealed| report.take(ring.open_own(name, key, sealed)).map(|_| ()))?;
    }
    each(view, REVISIONS, |key, _| {
        let of_cluster = table::split(key).is_some_and(|(tenant, _)| tenant == CLUSTER);
        report.tenants = report.tenants.saturating_add(u64::from(!of_cluster));
        Ok(())
    })?;
    for name in table::sealed_by_tenant() {
        each(view, name, |key, sealed| {
            let Some((tenant, path)) = table::split(key) else {
                report.note(name, key);
                return Ok(());
            };
            if removed.contains(tenant) {
                return Ok(());
            }
            let opened = report.take(ring.open(view, name, tenant, key, sealed))?;
            if let (RESOURCES, Some(plain)) = (name, opened) {
                match Head::split(key, plain.expose()) {
                    Ok(head) => {
                        for version in &head.versions {
                            let value = table::part(tenant, path, &table::version(version.version));
                            if view.get(VALUES, &value)?.is_none() {
                                report.note(VALUES, &value);
                            }
                        }
                    }
                    Err(_) => report.note(RESOURCES, key),
                }
            }
            Ok(())
        })?;
    }
    if view.get(REVISIONS, &keys::state_key(CLUSTER))?.is_none() {
        report.note(REVISIONS, &keys::state_key(CLUSTER));
    }
    Ok(report)
}

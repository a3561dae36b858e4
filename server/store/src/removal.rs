//! How a tenant begins and ends: its key and state, and the rows of one that is going.

use coffer_core_admin::TenantName;

use crate::StoreError;
use crate::engine::{Change, Order};
use crate::inner::{CLUSTER, Inner};
use crate::keys::{Keyring, TenantState};
use crate::scope::Transaction;
use crate::table::{self, REMOVALS, Table};

/// Makes a tenant's key and state; the cluster's settings have no row.
pub(crate) fn make(
    ring: &Keyring,
    change: &mut dyn Change,
    tenant: &str,
    settings: &[u8],
) -> Result<(), StoreError> {
    let epoch = ring.make_epoch(change, tenant)?;
    ring.put_state(change, tenant, TenantState { revision: 1, epoch })?;
    if tenant == CLUSTER || tenant == TenantName::DEFAULT {
        // Settings are sealed with the cluster's key of records, which the same transaction is making.
        return Ok(());
    }
    let mut cluster = Transaction::begin(ring, change, CLUSTER)?;
    cluster.put(Table::Tenants, tenant, settings)?;
    cluster.finish()
}

/// Ends the removals that were begun and not finished.
pub(crate) fn take_up_removals(inner: &Inner) -> Result<(), StoreError> {
    let (from, until) = table::bounds(CLUSTER);
    for (key, _) in inner.read(|view| view.range(REMOVALS, &from, &until, Order::Ascending, usize::MAX))? {
        if let Some((_, tenant)) = table::split(&key) {
            remove_rows(inner, tenant)?;
        }
    }
    Ok(())
}

/// Removes a tenant's rows in steps, each of which looks whether the removal is still on.
pub(crate) fn remove_rows(inner: &Inner, tenant: &str) -> Result<(), StoreError> {
    let begun = table::key(CLUSTER, tenant);
    let (from, until) = table::bounds(tenant);
    // Most are empty, and a look is cheaper than a transaction.
    let filled = inner.read(|view| {
        let mut filled = Vec::new();
        for name in table::all() {
            if !view.range(name, &from, &until, Order::Ascending, 1)?.is_empty() {
                filled.push(name);
            }
        }
        Ok(filled)
    })?;
    for name in filled {
        let page = table::page(name);
        loop {
            let removed = inner.write(|change| {
                if change.get(REMOVALS, &begun)?.is_none() {
                    return Ok(0);
                }
                let rows = change.range(name, &from, &until, Order::Ascending, page)?;
                for (key, _) in &rows {
                    change.discard(name, key)?;
                }
                Ok(rows.len())
            })?;
            if removed < page {
                break;
            }
        }
    }
    inner.write(|change| change.discard(REMOVALS, &begun))
}

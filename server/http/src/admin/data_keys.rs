//! How far the sealing of rows with new data keys is, which goes on after the rotation was answered.
//!
//! Counting looks at rows and opens none. It is bounded, and says so where it stopped before the end.

use axum::http::StatusCode;
use coffer_server_store::{Left, Scope, StoreError};
use serde::Serialize;
use serde_json::json as value;

use crate::call::{Admin, Answer, blocking};
use crate::reply::json;

/// How many rows one call looks at.
const LOOKED_AT: u64 = 100_000;

#[derive(Serialize)]
struct Shown {
    epoch: u32,
    older_keys: u64,
    rows_left: u64,
    /// Whether counting came to the end.
    counted: bool,
}

#[derive(Serialize)]
struct Unfinished {
    tenant: Option<String>,
    #[serde(flatten)]
    left: Shown,
}

fn shown(left: &Left) -> Shown {
    Shown { epoch: left.epoch, older_keys: left.older_keys, rows_left: left.records, counted: left.counted }
}

/// The tenant's own, for who rotated.
pub(crate) async fn own(admin: Admin) -> Answer {
    let call = admin.call.clone();
    let left = blocking(move || call.rows().left_to_reseal(LOOKED_AT)).await??;
    Ok(json(StatusCode::OK, &shown(&left)))
}

/// Everybody's: the sum, and each with older keys left. The cluster's own rows have no tenant.
pub(crate) async fn all(admin: Admin) -> Answer {
    let call = admin.call.clone();
    let found = blocking(move || {
        let store = call.inner().store();
        let mut scopes: Vec<(Option<String>, Scope)> = vec![(None, store.cluster())];
        let tenants = store.tenants()?.into_iter();
        scopes.extend(tenants.map(|(name, _)| (Some(name.to_string()), store.tenant(&name))));
        let (mut may_look, mut rows_left, mut counted, mut unfinished) = (LOOKED_AT, 0_u64, true, Vec::new());
        for (tenant, scope) in scopes {
            let left = match scope.left_to_reseal(may_look) {
                // Removed since the list was read.
                Err(StoreError::NoSuchTenant(_)) => continue,
                left => left?,
            };
            if left.older_keys == 0 {
                continue;
            }
            may_look = may_look.saturating_sub(left.looked_at);
            rows_left = rows_left.saturating_add(left.records);
            counted &= left.counted;
            unfinished.push(Unfinished { tenant, left: shown(&left) });
        }
        Ok::<_, StoreError>(value!({"rows_left": rows_left, "counted": counted, "unfinished": unfinished}))
    });
    Ok(json(StatusCode::OK, &found.await??))
}

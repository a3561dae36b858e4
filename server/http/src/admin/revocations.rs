//! What nothing is released to any more.

use axum::extract::{Path, Request};
use axum::http::StatusCode;
use coffer_core_admin::{NewRevocation, Revocation, RevocationList};
use coffer_core_protocol::error::Code;
use coffer_server_limits::Quantity;
use coffer_server_store::Table;

use super::MAX_BODY;
use crate::call::{Admin, Answer, body, parse};
use crate::record;
use crate::reply::{Refused, json};
use crate::revocations;

pub(crate) async fn list(admin: Admin) -> Answer {
    let revocations = admin.in_force().revocations.list().to_vec();
    Ok(json(StatusCode::OK, &RevocationList { revocations }))
}

pub(crate) async fn add(admin: Admin, request: Request) -> Answer {
    let new: NewRevocation = parse(&body(request, MAX_BODY).await?)?;
    let what = revocations::check(new).map_err(|error| Refused::new(Code::Malformed, format!("{error}.")))?;
    let in_force = admin.in_force();
    let count = in_force.revocations.list().len() as u64;
    in_force.quotas.check(count.saturating_add(1), Quantity::Revocations).map_err(super::over)?;
    let revocation = Revocation {
        id: revocations::id(&what),
        what,
        at: record::seconds(admin.inner().now()),
        by: admin.who.who().subject().to_owned(),
    };
    let row = serde_json::to_vec(&revocation).map_err(|_| Code::Internal)?;
    let id = revocation.id.clone();
    let put = move |rows: &coffer_server_store::Scope| {
        rows.put(Table::Revocations, &id, &row)?;
        Ok(true)
    };
    admin.change("revocation", revocation.id.clone(), put).await?;
    Ok(json(StatusCode::OK, &revocation))
}

pub(crate) async fn remove(admin: Admin, Path(id): Path<String>) -> Answer {
    let name = id.clone();
    admin.change("revocation", id, move |rows| Ok(rows.delete(Table::Revocations, &name)?)).await
}

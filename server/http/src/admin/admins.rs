//! A tenant's admins, whose tokens it trusts, and its keys.

use axum::extract::{Path, Request};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use coffer_core_admin::{Role, WhoAmI};
use coffer_core_protocol::error::Code;
use coffer_server_identity::{self as identity, Authorized, IssuerSettings, RoleSet};
use coffer_server_limits::Quantity;
use coffer_server_store::{Scope, Table};
use serde_json::json as value;

use super::MAX_BODY;
use crate::call::{Admin, Answer, Call, bearer, blocking, body, failed, parse};
use crate::error::OpenError;
use crate::gate;
use crate::keys::{self, ISSUERS};
use crate::known::{self, Known};
use crate::passport::{self, Passports};
use crate::reply::{Refused, json};

/// Any admin may ask who they are, a tenant's as well as the cluster's.
pub(crate) async fn whoami(call: Call, request: Request) -> Answer {
    let token = bearer(request.headers());
    let tenant = identity::Scope::Tenant(call.tenant.name.clone());
    let (who, cluster) = match gate::identify(&call, &tenant, token).await {
        Ok(who) => (who, false),
        Err(_) => (gate::identify(&call, &identity::Scope::Cluster, token).await?, true),
    };
    let roles = who.roles().iter().collect();
    let (subject, tenant) = (who.subject().to_owned(), call.tenant.name.clone());
    Ok(json(StatusCode::OK, &WhoAmI { subject, tenant, roles, cluster }))
}

/// Puts an admin, or removes one, after the rest was asked whether it would still work.
///
/// The last one who may manage admins stays: a scope that nobody can change is lost to its owner. Who
/// has a certificate does not count: its authority is in the configuration, and may be gone from there tomorrow.
pub(super) fn put_known(
    rows: &Scope,
    scope: &identity::Scope,
    by: &Authorized,
    name: &str,
    next: Option<&Known>,
) -> Result<bool, Refused> {
    let forbidden = |error: identity::Forbidden| Refused::new(Code::AdminForbidden, format!("{error}."));
    let mut all = known::read(rows).map_err(failed)?;
    let before = all.iter().position(|one| one.name() == name).map(|place| all.remove(place));
    if let Some(before) = &before {
        by.may_grant(before.roles()).map_err(forbidden)?;
    }
    if let Some(next) = next {
        by.may_grant(next.roles()).map_err(forbidden)?;
        all.push(next.clone());
    }
    if before.is_none() && next.is_none() {
        return Ok(false);
    }
    let head = match scope {
        identity::Scope::Cluster => Role::Operator,
        identity::Scope::Tenant(_) => Role::Owner,
    };
    let issuers = keys::issuers(rows).map_err(failed)?;
    let by_issuer = issuers.iter().any(|issuer| issuer.roles.iter().any(|rule| rule.roles.contains(head)));
    if !by_issuer && !has_key(&all, head) {
        let detail = format!("This is the last admin with a key and the role {head}; add another one first.");
        return Err(Refused::new(Code::Conflict, detail));
    }
    keys::verifier(scope, all, issuers)
        .map_err(|error| Refused::new(Code::Malformed, format!("{error}.")))?;
    match next {
        Some(next) => {
            let row = serde_json::to_vec(next).map_err(|_| Code::Internal)?;
            rows.put(Table::Admins, name, &row)?;
        }
        None => drop(rows.delete(Table::Admins, name)?),
    }
    Ok(true)
}

fn has_key(all: &[Known], role: Role) -> bool {
    all.iter().any(|one| matches!(one, Known::Key(key) if key.roles().contains(role)))
}

pub(crate) async fn list(admin: Admin) -> Answer {
    let rows = admin.rows().clone();
    let all = blocking(move || known::read(&rows)).await?.map_err(failed)?;
    Ok(json(StatusCode::OK, &known::shown(&all)))
}

pub(crate) async fn put(admin: Admin, Path(name): Path<String>, request: Request) -> Answer {
    let next = Known::of(&name, parse(&body(request, MAX_BODY).await?)?)?;
    let rows = admin.rows().clone();
    let count = blocking(move || rows.count(Table::Admins)).await??;
    admin.in_force().quotas.check(count.saturating_add(1), Quantity::Admins).map_err(super::over)?;
    change(&admin, name, Some(next)).await
}

pub(crate) async fn remove(admin: Admin, Path(name): Path<String>) -> Answer {
    change(&admin, name, None).await
}

async fn change(admin: &Admin, name: String, next: Option<Known>) -> Answer {
    let _changing = admin.tenant.changing.lock().await;
    let (own, named) = (admin.clone(), name.clone());
    let put = move || {
        let scope = identity::Scope::Tenant(own.tenant.name.clone());
        let found = put_known(own.rows(), &scope, &own.who, &named, next.as_ref())?;
        own.tenant.reload(&own.inner().loader, own.inner().now()).map_err(failed)?;
        Ok::<_, Refused>(found)
    };
    match blocking(put).await?? {
        true => {
            admin.told("admin", &name);
            Ok(StatusCode::OK.into_response())
        }
        false => Err(Refused::missing("There is no admin of that name.")),
    }
}

pub(crate) async fn issuers(admin: Admin) -> Answer {
    let rows = admin.rows().clone();
    let issuers = blocking(move || keys::issuers(&rows)).await?.map_err(failed)?;
    Ok(json(StatusCode::OK, &value!({"issuers": issuers})))
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Issuers {
    issuers: Vec<IssuerSettings>,
}

pub(crate) async fn put_issuers(admin: Admin, request: Request) -> Answer {
    let Issuers { issuers } = parse(&body(request, MAX_BODY).await?)?;
    let forbidden = |error: identity::Forbidden| Refused::new(Code::AdminForbidden, format!("{error}."));
    let granted = |list: &[IssuerSettings]| {
        let roles = list.iter().flat_map(|issuer| issuer.roles.iter().map(|rule| rule.roles));
        roles.fold(RoleSet::EMPTY, RoleSet::union)
    };
    let rows = admin.rows().clone();
    let (before, all) = blocking(move || Ok::<_, OpenError>((keys::issuers(&rows)?, known::read(&rows)?)))
        .await?
        .map_err(failed)?;
    admin.who.may_grant(granted(&before).union(granted(&issuers))).map_err(forbidden)?;
    if !granted(&issuers).contains(Role::Owner) && !has_key(&all, Role::Owner) {
        let detail = "Nobody would be owner of this tenant any more; add an owner's key first.";
        return Err(Refused::new(Code::Conflict, detail));
    }
    let scope = identity::Scope::Tenant(admin.tenant.name.clone());
    keys::verifier(&scope, all, issuers.clone())
        .map_err(|error| Refused::new(Code::Malformed, format!("{error}.")))?;
    let row = serde_json::to_vec(&issuers).map_err(|_| Code::Internal)?;
    let put = move |rows: &Scope| {
        rows.put(Table::Settings, ISSUERS, &row)?;
        Ok(true)
    };
    admin.change("setting", ISSUERS.to_owned(), put).await
}

pub(crate) async fn token_issuers(admin: Admin) -> Answer {
    Ok(json(StatusCode::OK, admin.in_force().passports.settings()))
}

pub(crate) async fn put_token_issuers(admin: Admin, request: Request) -> Answer {
    let settings: passport::Settings = parse(&body(request, MAX_BODY).await?)?;
    Passports::read(settings.clone()).map_err(|error| Refused::new(Code::Malformed, format!("{error}.")))?;
    let row = serde_json::to_vec(&settings).map_err(|_| Code::Internal)?;
    let put = move |rows: &Scope| {
        rows.put(Table::Settings, passport::ROW, &row)?;
        Ok(true)
    };
    admin.change("setting", passport::ROW.to_owned(), put).await
}

pub(crate) async fn rotate_token_key(admin: Admin) -> Answer {
    let now = admin.inner().now_s();
    let rotate = move |rows: &Scope| {
        keys::next_token_key(rows, now)?;
        Ok(true)
    };
    admin.change("token key", "next".to_owned(), rotate).await
}

/// How many rows are sealed anew in one transaction.
const RESEAL: usize = 256;

/// A new data key at once; what older keys sealed is sealed anew while the broker serves.
pub(crate) async fn rotate_data_key(admin: Admin) -> Answer {
    let call = admin.call.clone();
    let epoch = blocking(move || call.inner().store().rotate_tenant_key(&call.tenant.name)).await??;
    let call = admin.call.clone();
    tokio::task::spawn_blocking(move || {
        loop {
            match call.inner().store().reseal(&call.tenant.name, RESEAL) {
                Ok(progress) if progress.done => {
                    break tracing::info!(tenant = %call.tenant.name, "all rows are sealed anew");
                }
                Ok(_) => (),
                // It is taken up again at the next rotation, or by `coffer-broker reseal`.
                Err(error) => {
                    break tracing::error!(tenant = %call.tenant.name, %error, "rows could not be sealed anew");
                }
            }
        }
    });
    admin.told("data key", "next");
    Ok(json(StatusCode::ACCEPTED, &value!({"epoch": epoch})))
}

//! Tenants, which the operator makes and removes without seeing what they hold.

use axum::extract::{Path, Request};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use coffer_core_admin::{NewTenant, Role, TenantInfo, TenantList, TenantName, TenantSettings};
use coffer_core_protocol::error::Code;
use coffer_server_identity::{self as identity};
use coffer_server_store::{StoreError, Table};

use super::MAX_BODY;
use crate::call::{Admin, Answer, blocking, body, failed, parse};
use crate::keys;
use crate::known::Known;
use crate::record;
use crate::reply::{Refused, json};
use crate::tenancy::TenantRecord;

const MAX_HOSTS: usize = 32;
const MAX_HOST: usize = 253;

fn name(text: &str) -> Result<TenantName, Refused> {
    text.parse().map_err(|error| Refused::new(Code::TenantUnknown, format!("{error}.")))
}

fn shown(name: TenantName, record: TenantRecord) -> TenantInfo {
    let made_at = jiff::Timestamp::from_second(record.made_at).map(record::seconds).unwrap_or_default();
    TenantInfo { name, made_at, settings: record.settings }
}

pub(crate) async fn list(admin: Admin) -> Answer {
    let found = blocking(move || {
        let rows = admin.inner().store().tenants()?;
        let read = |(name, bytes): (TenantName, coffer_core_secret::SecretBytes)| {
            TenantRecord::read(&name, bytes.expose()).map(|record| shown(name, record))
        };
        rows.into_iter().map(read).collect::<Result<Vec<_>, _>>()
    });
    Ok(json(StatusCode::OK, &TenantList { tenants: found.await?.map_err(failed)? }))
}

pub(crate) async fn one(admin: Admin, Path(tenant): Path<String>) -> Answer {
    let tenant = name(&tenant)?;
    let own = tenant.clone();
    let record = blocking(move || admin.inner().loader.record(&own)).await?.map_err(failed)?;
    Ok(json(StatusCode::OK, &shown(tenant, record.ok_or(Code::TenantUnknown)?)))
}

/// Hosts that others have would take their guests away, so each host is one tenant's.
fn check(admin: &Admin, tenant: &TenantName, settings: &TenantSettings) -> Result<(), Refused> {
    let wrong = |why: String| Refused::new(Code::Malformed, format!("{why}."));
    if settings.hosts.len() > MAX_HOSTS {
        return Err(wrong(format!("a tenant has at most {MAX_HOSTS} hosts")));
    }
    for host in &settings.hosts {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        if host.is_empty() || host.len() > MAX_HOST || !host.bytes().all(plain) {
            return Err(wrong(
                "a host is a DNS name of letters, digits, '-' and '.', without a port".to_owned(),
            ));
        }
        if let Some(other) = admin.inner().tenants.of_host(host).filter(|other| other != tenant) {
            return Err(Refused::new(Code::Conflict, format!("The host {host} is tenant {other}'s.")));
        }
    }
    keys::quotas(settings, &admin.inner().config).map_err(|error| wrong(error.to_string()))?;
    Ok(())
}

pub(crate) async fn make(admin: Admin, Path(tenant): Path<String>, request: Request) -> Answer {
    let tenant = name(&tenant)?;
    let NewTenant { settings, owner } = parse(&body(request, MAX_BODY).await?)?;
    let first = Known::of(keys::FIRST_ADMIN, owner)?;
    // Nothing of the configuration may lock a tenant out, so its first owner has a key.
    if matches!(first, Known::Certificate(_)) {
        return Err(Refused::new(Code::Malformed, "The first owner of a tenant has a public key."));
    }
    if !first.roles().contains(Role::Owner) {
        return Err(Refused::new(Code::Malformed, "The first admin of a tenant has the role owner."));
    }
    let scope = identity::Scope::Tenant(tenant.clone());
    keys::verifier(&scope, vec![first.clone()], Vec::new())
        .map_err(|error| Refused::new(Code::Malformed, format!("{error}.")))?;
    let _changing = admin.inner().changing.lock().await;
    check(&admin, &tenant, &settings)?;
    let record = TenantRecord { made_at: admin.inner().now().as_second(), settings };
    let (own, named, row) = (admin.clone(), tenant.clone(), record.row());
    let make = move || {
        let store = own.inner().store();
        store.create_tenant(&named, &row)?;
        let key = serde_json::to_vec(&first).unwrap_or_default();
        store.tenant(&named).put(Table::Admins, first.name(), &key)
    };
    blocking(make).await?.map_err(|error| match error {
        StoreError::TenantExists(_) => {
            Refused::new(Code::Conflict, format!("There is a tenant {tenant} already."))
        }
        other => Refused::from(other),
    })?;
    reload_list(&admin).await?;
    admin.told("tenant", tenant.as_str());
    Ok(json(StatusCode::CREATED, &shown(tenant, record)))
}

pub(crate) async fn set(admin: Admin, Path(tenant): Path<String>, request: Request) -> Answer {
    let tenant = name(&tenant)?;
    let settings: TenantSettings = parse(&body(request, MAX_BODY).await?)?;
    let _changing = admin.inner().changing.lock().await;
    check(&admin, &tenant, &settings)?;
    let (own, named) = (admin.clone(), tenant.clone());
    let set = move || {
        let inner = own.inner();
        let Some(record) = inner.loader.record(&named)? else { return Ok(false) };
        let record = TenantRecord { settings, ..record };
        inner.store().set_tenant_settings(&named, None, &record.row())?;
        if let Some(tenant) = inner.tenants.get(&named) {
            tenant.reload(&inner.loader, inner.now())?;
        }
        Ok::<_, crate::error::OpenError>(true)
    };
    match blocking(set).await?.map_err(failed)? {
        true => {
            reload_list(&admin).await?;
            admin.told("tenant's settings", tenant.as_str());
            Ok(StatusCode::OK.into_response())
        }
        false => Err(Refused::plain(Code::TenantUnknown)),
    }
}

pub(crate) async fn remove(admin: Admin, Path(tenant): Path<String>) -> Answer {
    let tenant = name(&tenant)?;
    if tenant.is_default() {
        return Err(Refused::new(Code::Conflict, "The tenant `default` cannot be removed."));
    }
    let _changing = admin.inner().changing.lock().await;
    let (own, named) = (admin.clone(), tenant.clone());
    let found = blocking(move || {
        own.inner().tenants.forget(&named);
        let found = own.inner().store().remove_tenant(&named);
        own.inner().tenants.forget(&named);
        found
    });
    match found.await?? {
        true => {
            reload_list(&admin).await?;
            admin.told("tenant removed", tenant.as_str());
            Ok(StatusCode::OK.into_response())
        }
        false => Err(Refused::plain(Code::TenantUnknown)),
    }
}

async fn reload_list(admin: &Admin) -> Result<(), Refused> {
    let own = admin.clone();
    blocking(move || own.inner().tenants.reload_list(&own.inner().loader)).await?.map_err(failed)
}

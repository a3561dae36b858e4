//! What the owner judges by: appraisal policies, the platform policy, platforms' keys.

use axum::extract::{Path, Query, Request};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use coffer_core_admin::{AttestationPolicyList, PolicyBody};
use coffer_core_protocol::error::Code;
use coffer_server_limits::Quantity;
use coffer_server_store::{Scope, Table};
use coffer_verify_appraisal::PlatformPolicy;
use serde::Deserialize;
use serde_json::Value;

use super::MAX_BODY;
use crate::call::{Admin, Answer, blocking, body, failed, parse};
use crate::judges::CCA_ENDORSEMENTS;
use crate::reply::{Refused, json};
use crate::standards::{self, History, PLATFORM, PutError};

pub(crate) async fn policies(admin: Admin) -> Answer {
    let rows = admin.rows().clone();
    let found = blocking(move || standards::histories(&rows)).await?.map_err(failed)?;
    let attestation_policies = found.iter().map(|(name, history)| history.info(name)).collect();
    Ok(json(StatusCode::OK, &AttestationPolicyList { attestation_policies }))
}

#[derive(Deserialize)]
pub(crate) struct Which {
    version: Option<u32>,
}

/// The current version's text, or that of the version asked for.
pub(crate) async fn policy(
    admin: Admin,
    Path(name): Path<String>,
    Query(Which { version }): Query<Which>,
) -> Answer {
    let name = standards::policy_name(&name);
    let (rows, own) = (admin.rows().clone(), name.clone());
    let history = blocking(move || History::read(&rows, &own)).await?.map_err(failed)?;
    match history.and_then(|history| history.shown(&name, version)) {
        Some(shown) => Ok(json(StatusCode::OK, &shown)),
        None => {
            Err(Refused::missing("There is no appraisal policy of that name, or not that version of it."))
        }
    }
}

pub(crate) async fn put_policy(admin: Admin, Path(name): Path<String>, request: Request) -> Answer {
    let body: PolicyBody = parse(&body(request, MAX_BODY).await?)?;
    let PolicyBody { rego: Some(rego), preset: None, paths, tees } = body else {
        let detail = "An appraisal policy is put as a text (rego); there are no built-in ones.";
        return Err(Refused::new(Code::PolicyInvalid, detail));
    };
    if !(paths.is_empty() && tees.is_empty()) {
        let detail = "An appraisal policy is for one TEE by its name, as in default_cpu_snp; it names neither paths nor TEEs.";
        return Err(Refused::new(Code::PolicyInvalid, detail));
    }
    store_policy(&admin, &name, rego).await
}

/// Compiles, stores and puts in force; what was in force stays if any of it fails.
pub(crate) async fn store_policy(admin: &Admin, name: &str, rego: String) -> Answer {
    let name = standards::policy_name(name);
    let rows = admin.rows().clone();
    let count = blocking(move || rows.count(Table::AttestationPolicies)).await??;
    admin.in_force().quotas.check(count, Quantity::Policies).map_err(super::over)?;
    let _changing = admin.tenant.changing.lock().await;
    let (own, stored) = (admin.clone(), name.clone());
    let put = move || {
        let inner = own.inner();
        standards::put_policy(own.rows(), &stored, rego, inner.now())?;
        Ok::<_, PutError>(own.tenant.reload(&inner.loader, inner.now())?)
    };
    blocking(put).await?.map_err(|error| match error {
        PutError::Open(error) => failed(error),
        other => Refused::new(Code::PolicyInvalid, format!("{other}.")),
    })?;
    admin.told("appraisal policy", &name);
    Ok(StatusCode::OK.into_response())
}

pub(crate) async fn remove_policy(admin: Admin, Path(name): Path<String>) -> Answer {
    let name = standards::policy_name(&name);
    let own = name.clone();
    admin.change("appraisal policy", name, move |rows| standards::remove_policy(rows, &own)).await
}

pub(crate) async fn platform(admin: Admin) -> Answer {
    Ok(json(StatusCode::OK, &admin.in_force().standards.platform))
}

/// JSON, or TOML as people write it.
pub(crate) async fn put_platform(admin: Admin, request: Request) -> Answer {
    let body = body(request, MAX_BODY).await?;
    let wrong = |why: String| Refused::new(Code::PolicyInvalid, format!("{why}."));
    let policy = match body.trim_ascii_start().starts_with(b"{") {
        true => PlatformPolicy::from_json(&body).map_err(|error| wrong(error.to_string()))?,
        false => {
            let text = std::str::from_utf8(&body).map_err(|error| wrong(error.to_string()))?;
            PlatformPolicy::from_toml(text).map_err(|error| wrong(error.to_string()))?
        }
    };
    let stored = serde_json::to_vec(&policy).map_err(|_| Code::Internal)?;
    let put = move |rows: &Scope| {
        rows.put(Table::Settings, PLATFORM, &stored)?;
        Ok(true)
    };
    admin.change("platform policy", PLATFORM.to_owned(), put).await
}

/// The built-in platform policy again.
pub(crate) async fn reset_platform(admin: Admin) -> Answer {
    let remove = move |rows: &Scope| Ok(rows.delete(Table::Settings, PLATFORM)?);
    admin.change("platform policy", PLATFORM.to_owned(), remove).await
}

/// The keys of Arm platforms as JSON, as they were put.
pub(crate) async fn endorsements(admin: Admin) -> Answer {
    match admin.stored(|rows| rows.get(Table::Settings, CCA_ENDORSEMENTS)).await? {
        Some(bytes) => {
            let value: Value = serde_json::from_slice(bytes.expose()).map_err(|_| Code::Internal)?;
            Ok(json(StatusCode::OK, &value))
        }
        None => Err(Refused::missing("No keys of Arm platforms were put.")),
    }
}

pub(crate) async fn put_endorsements(admin: Admin, request: Request) -> Answer {
    let body = body(request, MAX_BODY).await?.to_vec();
    let (own, tried) = (admin.clone(), body.clone());
    let try_it = move || own.inner().loader.try_judges(own.rows(), |trust| trust.cca = Some(tried));
    let tried = blocking(try_it).await?;
    tried.map_err(|error| Refused::new(Code::Malformed, format!("{error}.")))?;
    let put = move |rows: &Scope| {
        rows.put(Table::Settings, CCA_ENDORSEMENTS, &body)?;
        Ok(true)
    };
    admin.change("endorsements", CCA_ENDORSEMENTS.to_owned(), put).await
}

pub(crate) async fn remove_endorsements(admin: Admin) -> Answer {
    let remove = move |rows: &Scope| Ok(rows.delete(Table::Settings, CCA_ENDORSEMENTS)?);
    admin.change("endorsements", CCA_ENDORSEMENTS.to_owned(), remove).await
}

//! What the owner judges by: appraisal policies, named reference values, the platform policy, platforms' keys.

use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use coffer_core_admin::{AttestationPolicyList, NamedValueList, PolicyBody};
use coffer_core_protocol::error::Code;
use coffer_server_store::Table;
use coffer_verify_appraisal::PlatformPolicy;
use serde::Deserialize;
use serde_json::Value;

use super::api::{change, failed, parse};
use super::{MAX_BODY, MAX_NAME};
use crate::broker::Broker;
use crate::call::{Answer, blocking, body};
use crate::judges::CCA_ENDORSEMENTS;
use crate::reply::{Refused, json};
use crate::standards::{self, History, PLATFORM, PutError};

pub(crate) async fn policies(State(broker): State<Broker>) -> Answer {
    let found = blocking(move || standards::histories(&broker.inner().store)).await?.map_err(failed)?;
    let attestation_policies = found.iter().map(|(name, history)| history.info(name)).collect();
    Ok(json(StatusCode::OK, &AttestationPolicyList { attestation_policies }))
}

#[derive(Deserialize)]
pub(crate) struct Which {
    version: Option<u32>,
}

/// The current version's text, or that of the version asked for.
pub(crate) async fn policy(
    State(broker): State<Broker>,
    Path(name): Path<String>,
    Query(Which { version }): Query<Which>,
) -> Answer {
    let name = standards::policy_name(&name);
    let history = History::read(&broker.inner().store, &name).map_err(failed)?;
    match history.and_then(|history| history.shown(&name, version)) {
        Some(shown) => Ok(json(StatusCode::OK, &shown)),
        None => {
            Err(Refused::missing("There is no appraisal policy of that name, or not that version of it."))
        }
    }
}

pub(crate) async fn put_policy(
    State(broker): State<Broker>,
    Path(name): Path<String>,
    request: Request,
) -> Answer {
    let body: PolicyBody = parse(&body(request, MAX_BODY).await?)?;
    let PolicyBody { rego: Some(rego), preset: None } = body else {
        let detail = "An appraisal policy is put as a text (rego); there are no built-in ones.";
        return Err(Refused::new(Code::PolicyInvalid, detail));
    };
    store_policy(&broker, &name, rego).await
}

/// Compiles, stores and puts in force; what was in force stays if any of it fails.
pub(super) async fn store_policy(broker: &Broker, name: &str, rego: String) -> Answer {
    let name = standards::policy_name(name);
    let _changing = broker.inner().changing.lock().await;
    let (own, stored) = (broker.clone(), name.clone());
    let put = move || {
        let inner = own.inner();
        standards::put_policy(&inner.store, &stored, rego, inner.now())?;
        Ok::<_, PutError>(inner.reload_standards()?)
    };
    blocking(put).await?.map_err(|error| match error {
        PutError::Open(error) => failed(error),
        other => Refused::new(Code::PolicyInvalid, format!("{other}.")),
    })?;
    tracing::info!(policy = name, "appraisal policy put");
    Ok(StatusCode::OK.into_response())
}

pub(crate) async fn remove_policy(State(broker): State<Broker>, Path(name): Path<String>) -> Answer {
    let name = standards::policy_name(&name);
    change(&broker, "appraisal policy", name.clone(), move |broker| {
        let found = standards::remove_policy(&broker.inner().store, &name)?;
        broker.inner().reload_standards().map(|()| found)
    })
    .await
}

pub(crate) async fn values(State(broker): State<Broker>) -> Answer {
    let standards = broker.inner().standards();
    let named_values = standards.values.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    Ok(json(StatusCode::OK, &NamedValueList { named_values }))
}

pub(crate) async fn put_value(
    State(broker): State<Broker>,
    Path(name): Path<String>,
    request: Request,
) -> Answer {
    let value: Value = parse(&body(request, MAX_BODY).await?)?;
    store_values(&broker, vec![(name, value)]).await
}

/// All of them or none.
pub(super) async fn store_values(broker: &Broker, values: Vec<(String, Value)>) -> Answer {
    let mut rows = Vec::new();
    for (name, value) in values {
        if name.is_empty() || name.len() > MAX_NAME {
            let detail = format!("A reference value's name has 1 to {MAX_NAME} bytes.");
            return Err(Refused::new(Code::ReferenceInvalid, detail));
        }
        rows.push((name, serde_json::to_vec(&value).map_err(|_| Code::Internal)?));
    }
    let names = rows.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    change(broker, "named reference value", names, move |broker| {
        let put: Vec<(&str, &[u8])> =
            rows.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        broker.inner().store.put_and_delete(Table::NamedValues, &put, &[])?;
        broker.inner().reload_standards().map(|()| true)
    })
    .await
}

pub(crate) async fn remove_value(State(broker): State<Broker>, Path(name): Path<String>) -> Answer {
    change(&broker, "named reference value", name.clone(), move |broker| {
        let found = broker.inner().store.delete(Table::NamedValues, &name)?;
        broker.inner().reload_standards().map(|()| found)
    })
    .await
}

pub(crate) async fn platform(State(broker): State<Broker>) -> Answer {
    Ok(json(StatusCode::OK, &broker.inner().standards().platform))
}

/// JSON, or TOML as people write it.
pub(crate) async fn put_platform(State(broker): State<Broker>, request: Request) -> Answer {
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
    change(&broker, "platform policy", PLATFORM.to_owned(), move |broker| {
        broker.inner().store.put(Table::Settings, PLATFORM, &stored)?;
        broker.inner().reload_standards().map(|()| true)
    })
    .await
}

/// The built-in platform policy again.
pub(crate) async fn reset_platform(State(broker): State<Broker>) -> Answer {
    change(&broker, "platform policy", PLATFORM.to_owned(), move |broker| {
        let found = broker.inner().store.delete(Table::Settings, PLATFORM)?;
        broker.inner().reload_standards().map(|()| found)
    })
    .await
}

/// The keys of Arm platforms as JSON, as they were put.
pub(crate) async fn endorsements(State(broker): State<Broker>) -> Answer {
    match broker.inner().store.get(Table::Settings, CCA_ENDORSEMENTS)? {
        Some(bytes) => {
            let value: Value = serde_json::from_slice(bytes.expose()).map_err(|_| Code::Internal)?;
            Ok(json(StatusCode::OK, &value))
        }
        None => Err(Refused::missing("No keys of Arm platforms were put.")),
    }
}

pub(crate) async fn put_endorsements(State(broker): State<Broker>, request: Request) -> Answer {
    let body = body(request, MAX_BODY).await?.to_vec();
    let (own, tried) = (broker.clone(), body.clone());
    let tried = blocking(move || own.inner().try_judges(|trust| trust.cca = Some(tried))).await?;
    tried.map_err(|error| Refused::new(Code::Malformed, format!("{error}.")))?;
    change(&broker, "endorsements", CCA_ENDORSEMENTS.to_owned(), move |broker| {
        broker.inner().store.put(Table::Settings, CCA_ENDORSEMENTS, &body)?;
        broker.inner().reload_judges().map(|()| true)
    })
    .await
}

pub(crate) async fn remove_endorsements(State(broker): State<Broker>) -> Answer {
    change(&broker, "endorsements", CCA_ENDORSEMENTS.to_owned(), move |broker| {
        let found = broker.inner().store.delete(Table::Settings, CCA_ENDORSEMENTS)?;
        broker.inner().reload_judges().map(|()| found)
    })
    .await
}

//! Our admin API, `/coffer/v1`.

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coffer_core_admin::{
    Attempt, AttemptList, Info, KeptEvidence, PolicyBody, PolicyList, ReferenceList, ResourceInfo,
    ResourceList, TrustAnchor, TrustAnchorList,
};
use coffer_core_launch::ReferenceValues;
use coffer_core_protocol::error::Code;
use coffer_server_store::Table;
use serde_json::Value;

use super::{MAX_BODY, MAX_NAME};
use crate::broker::Broker;
use crate::call::{Answer, blocking, body};
use crate::error::OpenError;
use crate::judges;
use crate::policies::{InForce, PRESETS, PutError, RESOURCE};
use crate::record::{self, Record};
use crate::reply::{Refused, json};

/// How many attempts a list has.
const LISTED: usize = 200;

pub(crate) async fn info(State(broker): State<Broker>) -> Answer {
    let inner = broker.inner();
    let info = Info {
        version: env!("CARGO_PKG_VERSION").to_string(),
        kbs_protocol: "0.1.0 to 0.4.0".to_string(),
        tees: inner.judges().machines.iter().map(|judge| judge.tee().name().to_string()).collect(),
        resources: inner.store.resource_count()?,
        reference_values: inner.store.count(Table::ReferenceValues)?,
        trust_anchors: inner.store.count(Table::TrustAnchors)?,
        resource_policy: inner.policy().name(),
    };
    Ok(json(StatusCode::OK, &info))
}

pub(crate) async fn resources(State(broker): State<Broker>) -> Answer {
    let store = broker.inner().store.clone();
    let found = blocking(move || store.resources()).await??;
    let info = |about: coffer_server_store::StoredResource| ResourceInfo {
        path: about.path,
        bytes: about.bytes,
        version: about.version,
        changed_at: jiff::Timestamp::from_second(about.changed_at).map(record::seconds).unwrap_or_default(),
    };
    Ok(json(StatusCode::OK, &ResourceList { resources: found.into_iter().map(info).collect() }))
}

pub(crate) async fn attempts(State(broker): State<Broker>) -> Answer {
    let store = broker.inner().store.clone();
    let found = blocking(move || {
        let mut list = Vec::new();
        for (id, body) in store.attempts(LISTED)? {
            if let Some(record) = Record::read(body.expose()) {
                let mut summary = record.summary;
                // The verdict's own cause goes before a policy's.
                if summary.code.is_none() {
                    let last = record::decisions(&store, &id)?.pop();
                    summary.code = last.and_then(|last| Some(last.causes.first()?.code.clone()));
                }
                list.push(summary);
            }
        }
        Ok::<_, coffer_server_store::StoreError>(list)
    });
    Ok(json(StatusCode::OK, &AttemptList { attempts: found.await?? }))
}

pub(crate) async fn attempt(State(broker): State<Broker>, Path(id): Path<String>) -> Answer {
    let store = &broker.inner().store;
    let missing = || Refused::missing("There is no attempt of that name, or no longer.");
    let body = store.attempt(&id)?.ok_or_else(missing)?;
    let record = Record::read(body.expose()).ok_or(Code::Internal)?;
    let mut summary = record.summary;
    let decisions = record::decisions(store, &id)?;
    if summary.code.is_none() {
        summary.code = decisions.last().and_then(|last| Some(last.causes.first()?.code.clone()));
    }
    let verdict = serde_json::from_str(record.verdict.get()).map_err(|_| Code::Internal)?;
    let mut devices = std::collections::BTreeMap::new();
    for (name, verdict) in record.devices {
        devices.insert(name, serde_json::from_str(verdict.get()).map_err(|_| Code::Internal)?);
    }
    let claims = record.token.as_deref().and_then(token_claims);
    Ok(json(StatusCode::OK, &Attempt { summary, verdict, causes: record.causes, decisions, devices, claims }))
}

/// What a token says, without what makes it one.
fn token_claims(token: &str) -> Option<Value> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

/// What the attempt was made with, if the broker keeps it.
pub(crate) async fn evidence(State(broker): State<Broker>, Path(id): Path<String>) -> Answer {
    let store = &broker.inner().store;
    let missing = || {
        Refused::missing(
            "There is no evidence of that attempt. The broker keeps that of the last `keep_evidence`.",
        )
    };
    let record = store.attempt(&id)?.and_then(|body| Record::read(body.expose())).ok_or_else(missing)?;
    let body = store.evidence(&id)?.ok_or_else(missing)?;
    let request = serde_json::from_slice(body.expose()).map_err(|_| Code::Internal)?;
    let (tee, at) = (record.summary.tee, record.summary.at);
    Ok(json(StatusCode::OK, &KeptEvidence { attempt: id, tee, at, request }))
}

pub(crate) async fn policies() -> Answer {
    let presets = PRESETS.iter().map(|(name, _)| name.to_string()).collect();
    Ok(json(StatusCode::OK, &PolicyList { policies: vec![RESOURCE.to_string()], presets }))
}

pub(crate) async fn policy(State(broker): State<Broker>, Path(name): Path<String>) -> Answer {
    known_policy(&name)?;
    Ok(json(StatusCode::OK, &broker.inner().policy().shown()))
}

pub(crate) async fn put_policy(
    State(broker): State<Broker>,
    Path(name): Path<String>,
    request: Request,
) -> Answer {
    known_policy(&name)?;
    let body: PolicyBody = parse(&body(request, MAX_BODY).await?)?;
    put_in_force(&broker, body).await
}

/// Compiles, stores and puts in force; what was in force stays if any of it fails.
pub(super) async fn put_in_force(broker: &Broker, body: PolicyBody) -> Answer {
    let _changing = broker.inner().changing.lock().await;
    let store = broker.inner().store.clone();
    let put = move || {
        let policy = InForce::compile(body)?;
        policy.save(&store)?;
        Ok::<_, PutError>(policy)
    };
    let policy = blocking(put).await?.map_err(|error| match error {
        PutError::Store(error) => Refused::from(error),
        other => Refused::new(Code::PolicyInvalid, format!("{other}.")),
    })?;
    tracing::info!(policy = RESOURCE, preset = policy.name(), "policy put in force");
    broker.inner().put_policy_in_force(policy);
    Ok(StatusCode::OK.into_response())
}

fn known_policy(name: &str) -> Result<(), Refused> {
    match name == RESOURCE {
        true => Ok(()),
        false => Err(Refused::missing("There is one policy, `resource`; it decides who gets resources.")),
    }
}

pub(crate) async fn references(State(broker): State<Broker>) -> Answer {
    let standards = broker.inner().standards();
    let values = standards.references.iter().filter_map(|values| serde_json::to_value(values).ok()).collect();
    Ok(json(StatusCode::OK, &ReferenceList { reference_values: values }))
}

pub(crate) async fn add_reference(State(broker): State<Broker>, request: Request) -> Answer {
    let body = body(request, MAX_BODY).await?;
    let wrong = |error: serde_json::Error| Refused::new(Code::ReferenceInvalid, format!("{error}."));
    let values: ReferenceValues = serde_json::from_slice(&body).map_err(wrong)?;
    store_reference(&broker, values).await
}

pub(super) async fn store_reference(broker: &Broker, values: ReferenceValues) -> Answer {
    let missing = values.missing_registers();
    if !missing.is_empty() {
        let detail = format!("The reference value has no value for {}.", missing.join(", "));
        return Err(Refused::new(Code::ReferenceIncomplete, detail));
    }
    let id = values.id().to_string();
    let body = serde_json::to_vec(&values).map_err(|_| Code::Internal)?;
    change(broker, "reference value", id.clone(), move |broker| {
        broker.inner().store.put(Table::ReferenceValues, &id, &body)?;
        broker.inner().reload_standards().map(|()| true)
    })
    .await
}

pub(crate) async fn remove_reference(State(broker): State<Broker>, Path(id): Path<String>) -> Answer {
    change(&broker, "reference value", id.clone(), move |broker| {
        let found = broker.inner().store.delete(Table::ReferenceValues, &id)?;
        broker.inner().reload_standards().map(|()| found)
    })
    .await
}

pub(crate) async fn anchors(State(broker): State<Broker>) -> Answer {
    let trust_anchors = judges::stored(&broker.inner().store).map_err(failed)?;
    Ok(json(StatusCode::OK, &TrustAnchorList { trust_anchors }))
}

pub(crate) async fn put_anchor(
    State(broker): State<Broker>,
    Path(name): Path<String>,
    request: Request,
) -> Answer {
    let anchor: TrustAnchor = parse(&body(request, MAX_BODY).await?)?;
    judges::anchor(&anchor).map_err(|error| Refused::new(Code::Malformed, format!("{error}.")))?;
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(Refused::new(Code::Malformed, format!("A name has 1 to {MAX_NAME} characters.")));
    }
    let body = serde_json::to_vec(&anchor).map_err(|_| Code::Internal)?;
    change(&broker, "trust anchor", name.clone(), move |broker| {
        broker.inner().store.put(Table::TrustAnchors, &name, &body)?;
        broker.inner().reload_judges().map(|()| true)
    })
    .await
}

pub(crate) async fn remove_anchor(State(broker): State<Broker>, Path(name): Path<String>) -> Answer {
    change(&broker, "trust anchor", name.clone(), move |broker| {
        let found = broker.inner().store.withdraw(Table::TrustAnchors, &name)?;
        broker.inner().reload_judges().map(|()| found)
    })
    .await
}

/// One change at a time, off the threads that serve; `false` means that there was nothing to remove.
pub(super) async fn change(
    broker: &Broker,
    what: &'static str,
    name: String,
    work: impl FnOnce(&Broker) -> Result<bool, OpenError> + Send + 'static,
) -> Answer {
    let _changing = broker.inner().changing.lock().await;
    let own = broker.clone();
    match blocking(move || work(&own)).await?.map_err(failed)? {
        true => {
            tracing::info!(what, name, "changed");
            Ok(StatusCode::OK.into_response())
        }
        false => Err(Refused::missing(format!("There is no {what} of that name."))),
    }
}

pub(super) fn failed(error: OpenError) -> Refused {
    tracing::error!(%error, "the store failed");
    Refused::plain(Code::StoreUnavailable)
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|error| Refused::new(Code::Malformed, format!("{error}.")))
}

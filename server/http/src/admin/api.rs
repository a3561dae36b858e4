//! What the broker holds for a tenant, its attestations, resource policies and trust anchors.

use axum::extract::{Path, Request};
use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coffer_core_admin::{
    Attempt, AttemptList, Info, KeptEvidence, PolicyBody, PolicyList, TrustAnchor, TrustAnchorList,
};
use coffer_core_protocol::error::Code;
use coffer_server_limits::Quantity;
use coffer_server_store::{Scope, Table};
use serde_json::Value;

use super::{MAX_BODY, MAX_NAME};
use crate::call::{Admin, Answer, blocking, body, failed, parse};
use crate::judges;
use crate::policies::{InForce, PRESETS, PutError, RESOURCE};
use crate::record::{self, Record};
use crate::reply::{Refused, json};

/// How many attempts a list has.
const LISTED: usize = 200;

pub(crate) async fn info(admin: Admin) -> Answer {
    let counts = |rows: &Scope| Ok((rows.resource_count()?, rows.count(Table::TrustAnchors)?));
    let (resources, trust_anchors) = admin.stored(counts).await?;
    let in_force = admin.in_force();
    let info = Info {
        version: env!("CARGO_PKG_VERSION").to_string(),
        kbs_protocol: "0.1.0 to 0.4.0".to_string(),
        tees: in_force.judges.machines.iter().map(|judge| judge.tee().name().to_string()).collect(),
        resources,
        reference_values: in_force.standards.kept.len() as u64,
        trust_anchors,
        resource_policy: in_force.policies.get(RESOURCE).map(InForce::name).unwrap_or_default(),
    };
    Ok(json(StatusCode::OK, &info))
}

pub(crate) async fn attempts(admin: Admin) -> Answer {
    let found = admin.stored(|rows| {
        let mut list = Vec::new();
        for (id, body) in rows.attempts(LISTED)? {
            if let Some(record) = Record::read(body.expose()) {
                let mut summary = record.summary;
                // The verdict's own cause goes before a policy's.
                if summary.code.is_none() {
                    let last = record::decisions(rows, &id)?.pop();
                    summary.code = last.and_then(|last| Some(last.causes.first()?.code.clone()));
                }
                list.push(summary);
            }
        }
        Ok(list)
    });
    Ok(json(StatusCode::OK, &AttemptList { attempts: found.await? }))
}

pub(crate) async fn attempt(admin: Admin, Path(id): Path<String>) -> Answer {
    let missing = || Refused::missing("There is no attempt of that name, or no longer.");
    let found = admin.stored(move |rows| Ok((rows.attempt(&id)?, record::decisions(rows, &id)?)));
    let (body, decisions) = found.await?;
    let record = Record::read(body.ok_or_else(missing)?.expose()).ok_or(Code::Internal)?;
    let mut summary = record.summary;
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
pub(crate) async fn evidence(admin: Admin, Path(id): Path<String>) -> Answer {
    let missing = || {
        Refused::missing(
            "There is no evidence of that attempt. The broker keeps that of the last `keep_evidence`.",
        )
    };
    let name = id.clone();
    let (record, body) = admin.stored(move |rows| Ok((rows.attempt(&name)?, rows.evidence(&name)?))).await?;
    let record = record.and_then(|body| Record::read(body.expose())).ok_or_else(missing)?;
    let body = body.ok_or_else(missing)?;
    let request = serde_json::from_slice(body.expose()).map_err(|_| Code::Internal)?;
    let (tee, at) = (record.summary.tee, record.summary.at);
    Ok(json(StatusCode::OK, &KeptEvidence { attempt: id, tee, at, request }))
}

pub(crate) async fn policies(admin: Admin) -> Answer {
    let presets = PRESETS.iter().map(|(name, _)| name.to_string()).collect();
    let policies = admin.in_force().policies.names();
    Ok(json(StatusCode::OK, &PolicyList { policies, presets }))
}

pub(crate) async fn policy(admin: Admin, Path(name): Path<String>) -> Answer {
    let in_force = admin.in_force();
    let policy = in_force.policies.get(&name);
    let policy = policy.ok_or_else(|| Refused::missing("There is no resource policy of that name."))?;
    Ok(json(StatusCode::OK, &policy.shown()))
}

pub(crate) async fn put_policy(admin: Admin, Path(name): Path<String>, request: Request) -> Answer {
    let body: PolicyBody = parse(&body(request, MAX_BODY).await?)?;
    put_in_force(&admin, name, body).await
}

/// Compiles, stores and puts in force; what was in force stays if any of it fails.
pub(super) async fn put_in_force(admin: &Admin, name: String, body: PolicyBody) -> Answer {
    let in_force = admin.in_force();
    let new = u64::from(in_force.policies.get(&name).is_none());
    let count = (in_force.policies.names().len() as u64).saturating_add(new);
    in_force.quotas.check(count, Quantity::Policies).map_err(super::over)?;
    let own = name.clone();
    let compiled = blocking(move || InForce::compile(&own, body).and_then(|policy| policy.row())).await?;
    let row = compiled.map_err(|error| match error {
        PutError::Store(error) => Refused::from(error),
        other => Refused::new(Code::PolicyInvalid, format!("{other}.")),
    })?;
    let own = name.clone();
    let put = move |rows: &Scope| {
        rows.put(Table::Policies, &own, &row)?;
        Ok(true)
    };
    admin.change("policy", name, put).await
}

pub(crate) async fn remove_policy(admin: Admin, Path(name): Path<String>) -> Answer {
    let own = name.clone();
    admin.change("policy", name, move |rows| Ok(rows.delete(Table::Policies, &own)?)).await
}

pub(crate) async fn anchors(admin: Admin) -> Answer {
    let rows = admin.rows().clone();
    let trust_anchors = blocking(move || judges::stored(&rows)).await?.map_err(failed)?;
    Ok(json(StatusCode::OK, &TrustAnchorList { trust_anchors }))
}

pub(crate) async fn put_anchor(admin: Admin, Path(name): Path<String>, request: Request) -> Answer {
    let anchor: TrustAnchor = parse(&body(request, MAX_BODY).await?)?;
    judges::anchor(&anchor).map_err(|error| Refused::new(Code::Malformed, format!("{error}.")))?;
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(Refused::new(Code::Malformed, format!("A name has 1 to {MAX_NAME} characters.")));
    }
    let body = serde_json::to_vec(&anchor).map_err(|_| Code::Internal)?;
    let own = name.clone();
    let put = move |rows: &Scope| {
        rows.put(Table::TrustAnchors, &own, &body)?;
        Ok(true)
    };
    admin.change("trust anchor", name, put).await
}

pub(crate) async fn remove_anchor(admin: Admin, Path(name): Path<String>) -> Answer {
    let own = name.clone();
    admin.change("trust anchor", name, move |rows| Ok(rows.withdraw(Table::TrustAnchors, &own)?)).await
}

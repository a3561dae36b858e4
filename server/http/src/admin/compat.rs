//! Upstream's admin calls under `/kbs/v0`, so that its `kbs-client` works.

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use coffer_core_admin::PolicyBody;
use coffer_core_launch::ReferenceValues;
use coffer_core_protocol::error::Code;
use serde::Deserialize;
use serde_json::Value;

use super::MAX_BODY;
use super::api;
use crate::broker::Broker;
use crate::call::{Answer, body};
use crate::policies::RESOURCE;
use crate::reply::{Refused, json};

#[derive(Deserialize)]
struct ResourcePolicy {
    policy: String,
}

/// `{"policy": base64 of Rego}`: base64url without padding, or as older clients send it, standard.
pub(crate) async fn put_policy(State(broker): State<Broker>, request: Request) -> Answer {
    let body = body(request, MAX_BODY).await?;
    let wrong = |why: String| Refused::new(Code::PolicyInvalid, why);
    let policy: ResourcePolicy = serde_json::from_slice(&body).map_err(|error| wrong(format!("{error}.")))?;
    let rego = decode(&policy.policy).ok_or_else(|| wrong("The policy is not base64.".to_string()))?;
    let rego = String::from_utf8(rego).map_err(|_| wrong("The policy is not UTF-8 text.".to_string()))?;
    api::put_in_force(&broker, PolicyBody { rego: Some(rego), preset: None }).await
}

pub(crate) async fn policies() -> Answer {
    Ok(json(StatusCode::OK, &[RESOURCE]))
}

/// Appraisal is this broker's own (D7). A stored policy that decides nothing would be a lie.
pub(crate) async fn attestation_policy() -> Answer {
    Err(Refused::not_implemented(
        "policy.attestation-unsupported",
        "PolicyEngineError",
        "This broker appraises with reference values and does not evaluate attestation policies.",
        "Add reference values with `coffer ref add`, and put what else must hold into the resource policy.",
    ))
}

#[derive(Deserialize)]
struct Message {
    #[serde(rename = "type")]
    kind: String,
    payload: String,
}

/// Our reference values as they are, or inside upstream's message (`type` `sample`).
pub(crate) async fn add_reference(State(broker): State<Broker>, request: Request) -> Answer {
    let body = body(request, MAX_BODY).await?;
    let wrong = |why: String| Refused::new(Code::ReferenceInvalid, why);
    let value: Value = serde_json::from_slice(&body).map_err(|error| wrong(format!("{error}.")))?;
    let value = match Message::deserialize(&value) {
        Err(_) => value,
        Ok(message) if message.kind == "sample" => {
            let payload =
                decode(&message.payload).ok_or_else(|| wrong("The payload is not base64.".to_string()))?;
            serde_json::from_slice(&payload).map_err(|error| wrong(format!("{error}.")))?
        }
        Ok(message) => {
            let kind: String = message.kind.chars().take(32).collect();
            return Err(wrong(format!("Messages of type {kind:?} are not read; send type \"sample\".")));
        }
    };
    let values: ReferenceValues = serde_json::from_value(value).map_err(|error| {
        wrong(format!(
            "{error}. Lists of values by name are for upstream's attestation policies, which are not evaluated here."
        ))
    })?;
    api::store_reference(&broker, values).await
}

pub(crate) async fn references(State(broker): State<Broker>) -> Answer {
    let references = broker.inner().references();
    let ids: Vec<&str> = references.iter().map(ReferenceValues::id).collect();
    Ok(json(StatusCode::OK, &ids))
}

pub(crate) async fn reference(State(broker): State<Broker>, Path(id): Path<String>) -> Answer {
    let references = broker.inner().references();
    match references.iter().find(|values| values.id() == id) {
        Some(values) => Ok(json(StatusCode::OK, values)),
        None => Err(Refused::missing("There are no reference values of that name.")),
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).or_else(|_| STANDARD.decode(text)).ok()
}

//! Upstream's admin calls under `/kbs/v0`, so that its `kbs-client` works.

use axum::extract::{Path, Request};
use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use coffer_core_admin::PolicyBody;
use coffer_core_protocol::error::Code;
use serde::Deserialize;
use serde_json::Value;

use super::{MAX_BODY, api, appraisal, references};
use crate::call::{Admin, Answer, blocking, body, failed};
use crate::policies::RESOURCE;
use crate::reply::{Refused, json};
use crate::standards;

#[derive(Deserialize)]
struct ResourcePolicy {
    policy: String,
}

/// `{"policy": base64 of Rego}`: base64url without padding, or as older clients send it, standard.
pub(crate) async fn put_policy(admin: Admin, request: Request) -> Answer {
    let body = body(request, MAX_BODY).await?;
    let wrong = |why: String| Refused::new(Code::PolicyInvalid, why);
    let policy: ResourcePolicy = serde_json::from_slice(&body).map_err(|error| wrong(format!("{error}.")))?;
    let rego = decode(&policy.policy).ok_or_else(|| wrong("The policy is not base64.".to_string()))?;
    let rego = String::from_utf8(rego).map_err(|_| wrong("The policy is not UTF-8 text.".to_string()))?;
    api::put_in_force(&admin, RESOURCE.to_owned(), PolicyBody::text(rego)).await
}

pub(crate) async fn policies(admin: Admin) -> Answer {
    Ok(json(StatusCode::OK, &admin.in_force().policies.names()))
}

#[derive(Deserialize)]
struct AttestationPolicy {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    policy_id: String,
    policy: String,
}

/// `{"type": "rego", "policy_id": "default_cpu", "policy": base64 of Rego}`.
pub(crate) async fn put_attestation_policy(admin: Admin, request: Request) -> Answer {
    let body = body(request, MAX_BODY).await?;
    let wrong = |why: String| Refused::new(Code::PolicyInvalid, why);
    let policy: AttestationPolicy =
        serde_json::from_slice(&body).map_err(|error| wrong(format!("{error}.")))?;
    if let Some(kind) = policy.kind.filter(|kind| kind != "rego") {
        let kind: String = kind.chars().take(32).collect();
        return Err(wrong(format!("Policies of type {kind:?} are not evaluated; send type \"rego\".")));
    }
    let rego = decode(&policy.policy).ok_or_else(|| wrong("The policy is not base64.".to_string()))?;
    let rego = String::from_utf8(rego).map_err(|_| wrong("The policy is not UTF-8 text.".to_string()))?;
    appraisal::store_policy(&admin, &policy.policy_id, rego).await
}

/// The names of the policies that there are.
pub(crate) async fn attestation_policies(admin: Admin) -> Answer {
    let rows = admin.rows().clone();
    let found = blocking(move || standards::histories(&rows)).await?.map_err(failed)?;
    let current = found.iter().filter(|(name, history)| history.info(name).current.is_some());
    let names: Vec<&str> = current.map(|(name, _)| name.as_str()).collect();
    Ok(json(StatusCode::OK, &names))
}

/// A message of the RVPS.
#[derive(Deserialize)]
pub(crate) struct Message {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) payload: String,
}

/// Our reference values as they are, or inside upstream's message: `sample` with ours or with values by name, or
/// `corim` with either.
pub(crate) async fn add_reference(admin: Admin, request: Request) -> Answer {
    let body = body(request, MAX_BODY).await?;
    let wrong = |why: String| Refused::new(Code::ReferenceInvalid, why);
    let value: Value = serde_json::from_slice(&body).map_err(|error| wrong(format!("{error}.")))?;
    let Ok(message) = Message::deserialize(&value) else { return taken(&admin, &body).await };
    message_taken(&admin, message).await
}

/// What upstream calls a message of the RVPS.
pub(crate) async fn message_taken(admin: &Admin, message: Message) -> Answer {
    let wrong = |why: String| Refused::new(Code::ReferenceInvalid, why);
    let payload = decode(&message.payload).ok_or_else(|| wrong("The payload is not base64.".to_string()))?;
    match message.kind.as_str() {
        "sample" => {
            let value: Value =
                serde_json::from_slice(&payload).map_err(|error| wrong(format!("{error}.")))?;
            match value {
                // Ours have registers and a platform; upstream's are lists or values by name.
                Value::Object(members)
                    if !(members.contains_key("registers") && members.contains_key("platform")) =>
                {
                    references::take_named(admin, members, "rvps").await
                }
                _ => taken(admin, &payload).await,
            }
        }
        "corim" => taken(admin, &payload).await,
        other => {
            let kind: String = other.chars().take(32).collect();
            Err(wrong(format!("Messages of type {kind:?} are not read; send type \"sample\" or \"corim\".")))
        }
    }
}

async fn taken(admin: &Admin, bytes: &[u8]) -> Answer {
    let sent = admin.in_force().standards.signers.take(bytes, admin.inner().now());
    references::take(admin, sent.map_err(references::not_taken)?).await
}

/// The ids of reference values, and the names of named ones.
pub(crate) async fn references(admin: Admin) -> Answer {
    let in_force = admin.in_force();
    let standards = &in_force.standards;
    let names: Vec<&String> = standards.kept.keys().chain(standards.kept_values.keys()).collect();
    Ok(json(StatusCode::OK, &names))
}

pub(crate) async fn reference(admin: Admin, Path(id): Path<String>) -> Answer {
    let in_force = admin.in_force();
    let standards = &in_force.standards;
    match standards.kept.get(&id).or_else(|| standards.kept_values.get(&id)) {
        Some(kept) => Ok(json(StatusCode::OK, &kept.value)),
        None => Err(Refused::missing("There are no reference values of that name.")),
    }
}

pub(crate) async fn remove_reference(admin: Admin, Path(id): Path<String>) -> Answer {
    let named = admin.in_force().standards.kept_values.contains_key(&id);
    match named {
        true => references::remove_named(admin, Path(id)).await,
        false => references::remove(admin, Path(id)).await,
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).or_else(|_| STANDARD.decode(text)).ok()
}

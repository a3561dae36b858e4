//! Upstream's admin calls under `/kbs/v0`, so that its `kbs-client` works.

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use coffer_core_admin::PolicyBody;
use coffer_core_corim::{Corim, CorimError};
use coffer_core_launch::ReferenceValues;
use coffer_core_protocol::error::Code;
use serde::Deserialize;
use serde_json::Value;

use super::MAX_BODY;
use super::{api, appraisal};
use crate::broker::Broker;
use crate::call::{Answer, blocking, body};
use crate::policies::RESOURCE;
use crate::reply::{Refused, json};
use crate::standards;

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

#[derive(Deserialize)]
struct AttestationPolicy {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    policy_id: String,
    policy: String,
}

/// `{"type": "rego", "policy_id": "default_cpu", "policy": base64 of Rego}`.
pub(crate) async fn put_attestation_policy(State(broker): State<Broker>, request: Request) -> Answer {
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
    appraisal::store_policy(&broker, &policy.policy_id, rego).await
}

/// The names of the policies that there are.
pub(crate) async fn attestation_policies(State(broker): State<Broker>) -> Answer {
    let found = blocking(move || standards::histories(&broker.inner().store)).await?.map_err(api::failed)?;
    let current = found.iter().filter(|(name, history)| history.info(name).current.is_some());
    let names: Vec<&str> = current.map(|(name, _)| name.as_str()).collect();
    Ok(json(StatusCode::OK, &names))
}

#[derive(Deserialize)]
struct Message {
    #[serde(rename = "type")]
    kind: String,
    payload: String,
}

/// Our reference values as they are, or inside upstream's message: `sample` with ours or with values by name, or
/// `corim` with either.
pub(crate) async fn add_reference(State(broker): State<Broker>, request: Request) -> Answer {
    let body = body(request, MAX_BODY).await?;
    let wrong = |why: String| Refused::new(Code::ReferenceInvalid, why);
    let value: Value = serde_json::from_slice(&body).map_err(|error| wrong(format!("{error}.")))?;
    let Ok(message) = Message::deserialize(&value) else { return ours(&broker, value).await };
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
                    appraisal::store_values(&broker, members.into_iter().collect()).await
                }
                other => ours(&broker, other).await,
            }
        }
        "corim" => corim(&broker, &payload).await,
        other => {
            let kind: String = other.chars().take(32).collect();
            Err(wrong(format!("Messages of type {kind:?} are not read; send type \"sample\" or \"corim\".")))
        }
    }
}

async fn ours(broker: &Broker, value: Value) -> Answer {
    let bytes = serde_json::to_vec(&value).map_err(|_| Code::Internal)?;
    let values = ReferenceValues::from_json(&bytes)
        .map_err(|error| Refused::new(Code::ReferenceInvalid, format!("{error}.")))?;
    api::store_reference(broker, values).await
}

/// The ids of reference values, and the names of named ones.
pub(crate) async fn references(State(broker): State<Broker>) -> Answer {
    let standards = broker.inner().standards();
    let ids = standards.references.iter().map(ReferenceValues::id);
    let names: Vec<&str> = ids.chain(standards.values.iter().map(|(name, _)| name.as_str())).collect();
    Ok(json(StatusCode::OK, &names))
}

pub(crate) async fn reference(State(broker): State<Broker>, Path(id): Path<String>) -> Answer {
    let standards = broker.inner().standards();
    let ours = standards.references.iter().find(|values| values.id() == id);
    match (ours, standards.values.get(&id)) {
        (Some(values), _) => Ok(json(StatusCode::OK, values)),
        (None, Some(value)) => Ok(json(StatusCode::OK, value)),
        (None, None) => Err(Refused::missing("There are no reference values of that name.")),
    }
}

pub(crate) async fn remove_reference(State(broker): State<Broker>, Path(id): Path<String>) -> Answer {
    let named = broker.inner().standards().values.get(&id).is_some();
    match named {
        true => appraisal::remove_value(State(broker), Path(id)).await,
        false => api::remove_reference(State(broker), Path(id)).await,
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).or_else(|_| STANDARD.decode(text)).ok()
}

/// Reference values of ours in a CoRIM, or another's by name. It is not signed: who sends it here is an admin.
async fn corim(broker: &Broker, payload: &[u8]) -> Answer {
    if coffer_core_corim::is_signed(payload) {
        let detail = "The CoRIM is signed, and the broker holds no keys to verify it with. Verify and add it with \
                      `coffer ref add --key`.";
        return Err(Refused::new(Code::ReferenceInvalid, detail));
    }
    let wrong = |error: CorimError| Refused::new(Code::ReferenceInvalid, format!("{error}."));
    match coffer_core_corim::from_corim(payload) {
        Ok(list) => {
            for values in list {
                api::store_reference(broker, values).await?;
            }
            Ok(StatusCode::OK.into_response())
        }
        // Named values have no times of their own, so a document past its end must not become some.
        Err(CorimError::Profile { .. }) => {
            let validity = Corim::parse(payload).map_err(wrong)?.validity;
            let now = broker.inner().now();
            if validity.is_some_and(|validity| !validity.holds_at(now.as_second())) {
                return Err(Refused::new(
                    Code::ReferenceInvalid,
                    format!("The CoRIM is not valid now, at {now}; ask its maker for a newer one."),
                ));
            }
            let values = coffer_core_corim::named_values(payload).map_err(wrong)?;
            appraisal::store_values(broker, values.into_iter().collect()).await
        }
        Err(error) => Err(wrong(error)),
    }
}

//! The paths and what they answer.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use coffer_core_initdata::Permission;
use coffer_core_protocol::uri::ResourcePath;
use coffer_guest_attest::{Binding, COCO_DOMAIN, Keys, RecordError, RuntimeEvent};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Body;
use hyper::{Method, Request, StatusCode};
use serde_json::{Value, json};

use crate::answer::{self, Answer};
use crate::unseal_error::UnsealError;

/// The longest body that is read: an event and its JSON.
const MAX_BODY: usize = 16 << 10;
/// Where events are posted.
const EVENTS: &str = "/aa/aael";

/// Where sealed secrets are posted.
const UNSEAL: &str = "/cdh/unseal";

/// What the API serves from.
pub struct Hub {
    pub(crate) keys: Arc<dyn Keys>,
    pub(crate) resources: Vec<ResourcePath>,
    evidence: Permission,
}

impl Hub {
    /// `resources` are those that init-data allows the workload, and no others are asked for: the image's own key is
    /// among them only if its owner wrote it there. `evidence` is its word on attesting as this guest.
    #[must_use]
    pub fn new(keys: Arc<dyn Keys>, resources: Vec<ResourcePath>, evidence: Permission) -> Self {
        Self { keys, resources, evidence }
    }
}

/// Answers a request.
pub(crate) async fn answer<B>(hub: &Hub, request: Request<B>) -> Answer
where
    B: Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    let posted = [EVENTS, UNSEAL].contains(&request.uri().path());
    let expected = if posted { Method::POST } else { Method::GET };
    if request.method() != expected {
        return answer::refused(
            StatusCode::METHOD_NOT_ALLOWED,
            "hub.method",
            &format!("only {expected} is served here"),
            &format!("Use {expected}."),
        );
    }
    let path = request.uri().path();
    if let Some(resource) = path.strip_prefix("/cdh/resource/") {
        return self::resource(hub, resource).await;
    }
    match path {
        "/aa/token" | "/aa/evidence" | "/aa/additional-evidence" if hub.evidence == Permission::Denied => {
            answer::refused(
                StatusCode::FORBIDDEN,
                "hub.evidence.denied",
                "init-data does not allow this workload to attest as its guest",
                "Use /coffer/evidence, which no broker takes for the guest's own. Or set evidence = \"allowed\" in \
             coffer.toml of the init-data, and measure again: the workload can then obtain what the broker gives \
             this guest.",
            )
        }
        "/aa/token" => token(hub, request.uri().query()).await,
        "/aa/evidence" => evidence(hub, request.uri().query(), Of::Machine, Binding::Raw).await,
        "/aa/additional-evidence" => evidence(hub, request.uri().query(), Of::Devices, Binding::Raw).await,
        "/coffer/evidence" => evidence(hub, request.uri().query(), Of::Machine, Binding::Workload).await,
        EVENTS => record(hub, request.into_body()).await,
        UNSEAL => unseal(hub, request.into_body()).await,
        "/info" => answer::json(&json!({
            "tee": hub.keys.tee().name(),
            "additional_tees": [],
            "version": env!("CARGO_PKG_VERSION"),
            "feature": ["resource", "attestation"],
        })),
        _ => answer::refused(
            StatusCode::NOT_FOUND,
            "hub.path",
            "there is no such path",
            "Use /cdh/resource/{repository}/{type}/{tag}, /cdh/unseal, /coffer/evidence, /aa/token, /aa/evidence, \
             /aa/additional-evidence, /aa/aael or /info.",
        ),
    }
}

async fn resource(hub: &Hub, path: &str) -> Answer {
    let Ok(path) = path.parse::<ResourcePath>() else {
        return answer::refused(
            StatusCode::BAD_REQUEST,
            "hub.resource",
            "the path names no resource",
            "Use /cdh/resource/{repository}/{type}/{tag}.",
        );
    };
    if !hub.resources.contains(&path) {
        return answer::refused(
            StatusCode::FORBIDDEN,
            "hub.resource.denied",
            "init-data does not name this resource for the workload",
            "Name it in `resources` in coffer.toml of the init-data (`coffer init-data --resource`), and measure again.",
        );
    }
    match hub.keys.resource(&path).await {
        Ok(value) => answer::secret(value, "application/octet-stream"),
        Err(error) => answer::failed(&error),
    }
}

async fn token(hub: &Hub, query: Option<&str>) -> Answer {
    match parameter(query, "token_type").as_deref() {
        Some("kbs") => match hub.keys.token().await {
            Ok(token) => answer::secret(token, "application/json"),
            Err(error) => answer::failed(&error),
        },
        _ => answer::refused(
            StatusCode::BAD_REQUEST,
            "hub.token-type",
            "the token type is not served",
            "Use /aa/token?token_type=kbs.",
        ),
    }
}

/// Opens the sealed secret in the body.
async fn unseal<B>(hub: &Hub, body: B) -> Answer
where
    B: Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    let bound = coffer_core_sealed_secret::MAX_TEXT;
    let body = match Limited::new(body, bound).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return not_sealed(&format!("the body has more than {bound} bytes, or is broken off")),
    };
    let Ok(text) = std::str::from_utf8(&body) else { return not_sealed("the body is no text") };
    match hub.unseal(text).await {
        Ok(secret) => answer::secret(secret, "application/octet-stream"),
        Err(UnsealError::Resource { why, .. }) => answer::failed(&why),
        Err(why) => answer::because(why.status(), &why.refusal()),
    }
}

fn not_sealed(message: &str) -> Answer {
    let remedy = "Post what `coffer secret seal` wrote: one line that begins with `sealed.`.";
    answer::refused(StatusCode::BAD_REQUEST, "sealed-secret.form", message, remedy)
}

/// Whose evidence is asked for.
#[derive(Clone, Copy)]
enum Of {
    Machine,
    Devices,
}

async fn evidence(hub: &Hub, query: Option<&str>, of: Of, binding: Binding) -> Answer {
    let Some(text) = parameter(query, "runtime_data") else {
        return answer::refused(
            StatusCode::BAD_REQUEST,
            "hub.runtime-data",
            "runtime_data is missing",
            "Give runtime_data=… with at most 64 bytes, as text or with &encoding=base64.",
        );
    };
    let data = match parameter(query, "encoding").as_deref() {
        None => Some(text.into_bytes()),
        Some("base64") => STANDARD.decode(&text).or_else(|_| URL_SAFE_NO_PAD.decode(&text)).ok(),
        Some(_) => None,
    };
    let Some(data) = data else {
        return answer::refused(
            StatusCode::BAD_REQUEST,
            "hub.encoding",
            "runtime_data is not in the encoding that is named",
            "Send base64 with &encoding=base64, or text without it.",
        );
    };
    let evidence = match of {
        Of::Machine => hub.keys.evidence(&data, binding),
        Of::Devices => hub.keys.additional_evidence(&data, binding),
    };
    match evidence.await {
        Ok(evidence) => answer::json_bytes(evidence),
        Err(error) => answer::failed(&error),
    }
}

/// Measures an event of the workload's.
async fn record<B>(hub: &Hub, body: B) -> Answer
where
    B: Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    let malformed = |message: &str| {
        let remedy =
            "Post {\"domain\": …, \"operation\": …, \"content\": …}, each a text, together at most 8 KiB.";
        answer::refused(StatusCode::BAD_REQUEST, "hub.aael", message, remedy)
    };
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
        return malformed("the body is too long or broken off");
    };
    let event: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
    let part = |name: &str| event.get(name).and_then(Value::as_str);
    let (Some(domain), Some(operation), Some(content)) = (part("domain"), part("operation"), part("content"))
    else {
        return malformed("the body is no event");
    };
    if domain == COCO_DOMAIN {
        return answer::refused(
            StatusCode::FORBIDDEN,
            "hub.aael.reserved",
            "events of this domain are the guest's own",
            "Use a domain of yours.",
        );
    }
    let recorded = match RuntimeEvent::new(domain, operation, content) {
        Ok(event) => hub.keys.record(event).await,
        Err(why) => Err(why.into()),
    };
    match recorded {
        Ok(()) => answer::json(&json!({})),
        Err(why) => {
            let status = match &why {
                RecordError::NotSupported(_) => StatusCode::NOT_IMPLEMENTED,
                RecordError::Event(_) => StatusCode::BAD_REQUEST,
                RecordError::Full => StatusCode::INSUFFICIENT_STORAGE,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            answer::because(status, &why.refusal())
        }
    }
}

fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

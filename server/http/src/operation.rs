//! What load balancers, monitoring and relying parties ask for.

use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use coffer_core_protocol::error::Code;
use serde_json::json as value;

use crate::call::{Admin, Answer, Call, blocking};
use crate::reply::{Refused, json};

/// OpenMetrics 1.0, section 3.
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

pub(crate) async fn readyz(call: Call) -> Answer {
    if call.inner().is_draining() {
        return Err(Refused::new(Code::StoreUnavailable, "The broker is ending; ask another one."));
    }
    let own = call.clone();
    match blocking(move || own.inner().store().check()).await? {
        Ok(()) => Ok("ready\n".into_response()),
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn metrics(admin: Admin) -> Answer {
    let text = admin.inner().metrics.text(admin.inner().tenants.count()).map_err(|_| Code::Internal)?;
    Ok(([(header::CONTENT_TYPE, METRICS)], text).into_response())
}

pub(crate) async fn openapi(call: Call) -> Answer {
    let text = call.inner().openapi.get().cloned().ok_or(Code::Internal)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

/// The keys of this tenant's tokens (RFC 7517).
pub(crate) async fn jwks(call: Call) -> Answer {
    let set = call.in_force().tokens.published(call.inner().now_s()).to_json();
    Ok(json(StatusCode::OK, &set))
}

/// As far as OpenID Connect Discovery 1.0 is of use to who verifies tokens: where the keys are.
pub(crate) async fn discovery(call: Call, request: Request) -> Answer {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| request.uri().host()).ok_or(Code::Malformed)?;
    let base = match call.tenant.name.is_default() {
        true => format!("https://{host}"),
        false => format!("https://{host}/t/{}", call.tenant.name),
    };
    let about = value!({
        "issuer": base,
        "jwks_uri": format!("{base}/.well-known/jwks.json"),
        "id_token_signing_alg_values_supported": ["ES256"],
        "response_types_supported": ["none"],
        "subject_types_supported": ["public"],
    });
    Ok(json(StatusCode::OK, &about))
}

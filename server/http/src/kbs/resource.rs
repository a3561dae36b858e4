//! `GET /kbs/v0/resource/…`: a secret for whom the policy allows, encrypted to the key inside the token.

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use coffer_core_admin::Decision;
use coffer_core_protocol::ear::{Ear, EarError};
use coffer_core_protocol::error::{Cause, Code};
use coffer_core_protocol::jwe;
use coffer_core_protocol::uri::ResourcePath;
use coffer_server_store::JournalEntry;
use serde_json::{Value, json};

use super::cookie;
use crate::broker::{Broker, Inner};
use crate::call::{Answer, bearer};
use crate::issued::Attested;
use crate::record::{self, Record};
use crate::reply::Refused;

pub(crate) async fn get(
    State(broker): State<Broker>,
    Path((repository, kind, tag)): Path<(String, String, String)>,
    request: Request,
) -> Answer {
    let inner = broker.inner();
    let token = token(inner, request.headers())?;
    let path = ResourcePath::new(&repository, &kind, &tag);
    let path = path.map_err(|error| Refused::new(Code::ResourcePath, format!("{error}.")))?;
    let result = inner.issued.verify(&token, &inner.pinned, inner.now_s()).map_err(refused)?;
    let ear = &result.ear;
    let attempt = ear.attempt().ok_or(Code::TokenInvalid)?;
    // The key and the value are made ready before the decision is written down, so that "released" is then true.
    let (outcome, answer) = match decide(inner, &result, &path) {
        Ok(causes) if causes.is_empty() => match seal(inner, ear, &path)? {
            Some(sealed) => (("released", Vec::new()), Ok(sealed)),
            None => (("absent", Vec::new()), Err(Refused::plain(Code::ResourceMissing))),
        },
        Ok(causes) => (("refused", causes.clone()), Err(Refused::plain(Code::PolicyDenied).because(causes))),
        Err(fault) => (("refused", Vec::new()), Err(fault)),
    };
    let (outcome, causes) = outcome;
    let code = causes.first().map(|cause| cause.code.clone()).unwrap_or_default();
    let decision = Decision {
        at: record::seconds(inner.now()),
        resource: path.to_string(),
        outcome: outcome.to_string(),
        causes,
    };
    let body = serde_json::to_vec(&decision).map_err(|_| Code::Internal)?;
    let entry = JournalEntry::Decision { attempt: attempt.clone(), body };
    let written: Result<(), Code> = inner.journal.write(entry).await.map_err(Code::from);
    tracing::info!(
        attempt,
        resource = %path,
        tee = ear.cpu().ok().and_then(tee).unwrap_or_default(),
        status = ?ear.cpu().map(|cpu| cpu.status).ok(),
        decision = if written.is_ok() { outcome } else { "not-written" },
        code = written.as_ref().err().map_or(code.as_str(), |code| code.as_str()),
        "resource"
    );
    // What is not written down was not decided: nobody is told more than that.
    written.map_err(|code| Refused::plain(code).attempt(&attempt))?;
    let sealed = answer.map_err(|refused| refused.attempt(&attempt))?;
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], sealed).into_response())
}

/// The token: sent, or the one of the session that the cookie names.
fn token(inner: &Inner, headers: &HeaderMap) -> Result<String, Refused> {
    if let Some(token) = bearer(headers) {
        return Ok(token.to_string());
    }
    let cookie = cookie(headers).ok_or(Code::TokenMissing)?;
    let attempt = inner.challenger().session(cookie)?;
    let body = inner.store.attempt(&attempt)?;
    let record = body.and_then(|body| Record::read(body.expose()));
    Ok(record.and_then(|record| record.token).ok_or(Code::TokenMissing)?)
}

fn refused(error: EarError) -> Refused {
    Refused::new(error.code(), format!("{error}."))
}

fn tee(cpu: &coffer_core_protocol::ear::Submodule) -> Option<&str> {
    let known = ["report_data", "init_data", "runtime_data_claims", "init_data_claims", "coffer"];
    cpu.evidence.keys().map(String::as_str).find(|name| !known.contains(name))
}

/// Asks the policy; gives the causes of its denial, those of the verdict first.
///
/// INVARIANT I-6: evidence of which the token does not say that hardware protects it opens nothing under a policy that
/// does not name software evidence.
fn decide(inner: &Inner, result: &Attested, path: &ResourcePath) -> Result<Vec<Cause>, Refused> {
    let fault = |error: &dyn std::fmt::Display| {
        tracing::error!(%error, "the resource policy could not be evaluated");
        Refused::plain(Code::PolicyFault)
    };
    let data = json!({"plugin": "resource", "resource-path": path.to_string(), "method": "GET"});
    let decision = inner.policy().policy.decide_text(&result.claims, &data).map_err(|error| fault(&error))?;
    let about = result.ear.cpu().ok().and_then(|cpu| cpu.evidence.get("coffer"));
    let decision = match about.and_then(|about| about.get("hardware")) == Some(&Value::Bool(true)) {
        true => decision,
        false => decision.of_software(),
    };
    if decision.is_allowed() {
        return Ok(Vec::new());
    }
    let verdict = about.and_then(|about| about.get("causes")).cloned();
    let mut causes: Vec<Cause> =
        verdict.and_then(|causes| serde_json::from_value(causes).ok()).unwrap_or_default();
    for denial in decision.denials {
        if !causes.iter().any(|cause| cause.code == denial.code) {
            let (code, title) = (denial.code, denial.message);
            causes.push(Cause {
                code,
                title,
                expected: denial.expected,
                found: denial.found,
                remedy: denial.remedy,
            });
        }
    }
    Ok(causes)
}

/// The resource as a JWE to the token's key, if there is one.
fn seal(inner: &Inner, ear: &Ear, path: &ResourcePath) -> Result<Option<Vec<u8>>, Refused> {
    let key = ear.tee_pubkey().map_err(refused)?;
    let Some(resource) = inner.store.resource(&path.to_string())? else { return Ok(None) };
    let sealed = jwe::seal(&key, resource.value.expose()).and_then(|jwe| jwe.to_json());
    sealed.map(Some).map_err(|error| Refused::new(Code::Seal, format!("{error}.")))
}

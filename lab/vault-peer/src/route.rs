//! From a request to the engine that answers it.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State as Extracted;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::answer::{Answer, error};
use crate::state::State;
use crate::{Shared, kv, token, transit};

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(handle).with_state(shared)
}

async fn handle(
    Extracted(shared): Extracted<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(path) = uri.path().strip_prefix("/v1/").and_then(decoded) else {
        return error(404, "no such path").into_response();
    };
    let fault = {
        let mut state = shared.state();
        state.requests.push(path.clone());
        state.faults.pop_front()
    };
    if let Some(fault) = fault
        && let Some(response) = fault.happen().await
    {
        return response;
    }
    let mut state = shared.state();
    answer(&mut state, &method, &path, uri.query(), &headers, &body).into_response()
}

fn answer(
    state: &mut State,
    method: &Method,
    path: &str,
    query: Option<&str>,
    headers: &HeaderMap,
    body: &[u8],
) -> Answer {
    if path == "sys/health" {
        let status = if state.sealed { 503 } else { 200 };
        return Answer { status, body: Some(json!({ "initialized": true, "sealed": state.sealed })) };
    }
    if state.sealed {
        return error(503, "Vault is sealed");
    }
    let body = match body {
        [] => Value::Null,
        body => match serde_json::from_slice(body) {
            Ok(body) => body,
            Err(_) => return error(400, "failed to parse JSON input"),
        },
    };
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if let Some(login) = path.strip_prefix("auth/").and_then(|path| path.strip_suffix("/login")) {
        return token::login(state, login, &body);
    }
    let name = header("X-Vault-Token").to_owned();
    if name.is_empty() {
        return error(403, "missing client token");
    }
    let Some(holder) = state.live(&name).cloned() else { return error(403, "permission denied") };
    let may = |state: &State, capability: &str| state.may(&holder, path, capability);
    let allowed = match method.as_str() {
        "GET" => may(state, "read"),
        "DELETE" => may(state, "delete"),
        "LIST" => may(state, "list"),
        _ => may(state, "update") || may(state, "create"),
    };
    if !allowed {
        return error(403, "1 error occurred:\n\t* permission denied\n\n");
    }
    if let Some(call) = path.strip_prefix("auth/token/") {
        return token::own(state, &name, method, call);
    }
    let namespace = header("X-Vault-Namespace").trim_matches('/').to_owned();
    if !state.spaces.contains_key(&namespace) {
        return error(404, &no_route(path));
    }
    let may_create = may(state, "create");
    let mounted = |mounts: Vec<String>| {
        let found = mounts.into_iter().find_map(|mount| {
            let rest = path.strip_prefix(&mount)?.strip_prefix('/')?.to_owned();
            Some((mount, rest))
        });
        found.filter(|(_, rest)| !rest.is_empty())
    };
    let space = state.space(&namespace);
    let (kv, transit) = (space.kv.keys().cloned().collect(), space.transit.keys().cloned().collect());
    if let Some((mount, rest)) = mounted(kv) {
        return kv::answer(space.kv(&mount), method, &rest, query, &body);
    }
    if let Some((mount, rest)) = mounted(transit) {
        return transit::answer(space.transit(&mount), method, &rest, &body, may_create);
    }
    error(404, &no_route(path))
}

fn no_route(path: &str) -> String {
    format!("no handler for route \"{path}\". route entry not found.")
}

/// Percent-encoding undone, once.
fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        match (byte, after) {
            (b'%', [high, low, after @ ..]) => {
                bytes.extend(hex::decode([*high, *low]).ok()?);
                rest = after;
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

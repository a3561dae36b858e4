//! Tokens about themselves, and the logins.

use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};

use crate::answer::{Answer, data, error, nothing, ok};
use crate::random;
use crate::state::State;

/// Answers a call with a token about itself.
pub(crate) fn own(state: &mut State, name: &str, method: &Method, call: &str) -> Answer {
    match (call, method.as_str()) {
        ("lookup-self", "GET") => look_up(state, name),
        ("renew-self", "POST" | "PUT") => renew(state, name),
        ("revoke-self", "POST" | "PUT") => {
            state.tokens.remove(name);
            nothing()
        }
        _ => error(404, "unsupported path"),
    }
}

fn look_up(state: &State, name: &str) -> Answer {
    let Some(token) = state.live(name) else { return error(403, "permission denied") };
    let left = token.ends.map(|end| end.saturating_sub(state.now)).unwrap_or_default();
    data(json!({
        "id": name,
        "policies": token.policies,
        "renewable": token.ends.is_some(),
        "ttl": left.as_secs(),
        "creation_ttl": token.ttl.as_secs(),
        "explicit_max_ttl": 0,
        "type": "service",
    }))
}

fn renew(state: &mut State, name: &str) -> Answer {
    let now = state.now;
    let Some(token) = state.tokens.get_mut(name).filter(|token| token.ends.is_none_or(|end| now < end))
    else {
        return error(403, "permission denied");
    };
    if token.ends.is_none() {
        return error(400, "lease is not renewable");
    }
    let end = now + token.ttl;
    let end = token.latest.map_or(end, |latest| end.min(latest));
    token.ends = Some(end);
    let (lease, policies) = (end.saturating_sub(now), token.policies.clone());
    granted(name, lease, &policies)
}

/// Answers a login.
pub(crate) fn login(state: &mut State, method: &str, body: &Value) -> Answer {
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (policies, ttl, max) = match method {
        "approle" => {
            let secret_id = text("secret_id");
            let Some(role) = state.approles.get_mut(&text("role_id")) else {
                return error(400, "invalid role or secret ID");
            };
            match role.secret_ids.get_mut(&secret_id) {
                Some(left) if *left > 0 => *left -= 1,
                _ => return error(400, "invalid role or secret ID"),
            }
            (role.policies.clone(), role.ttl, role.max)
        }
        "kubernetes" => match state.kubernetes.get(&text("role")) {
            None => return error(400, "invalid role name"),
            Some(role) if role.jwt != text("jwt") => return error(403, "permission denied"),
            Some(role) => (role.policies.clone(), role.ttl, Duration::ZERO),
        },
        other => return error(404, &format!("no handler for route \"auth/{other}/login\"")),
    };
    let policies: Vec<&str> = policies.iter().map(String::as_str).collect();
    let name = state.issue(&policies, ttl, max);
    let policies = state.tokens[&name].policies.clone();
    granted(&name, ttl, &policies)
}

fn granted(name: &str, lease: Duration, policies: &[String]) -> Answer {
    ok(json!({
        "request_id": random::hex(16),
        "lease_id": "",
        "renewable": false,
        "lease_duration": 0,
        "data": null,
        "warnings": null,
        "auth": {
            "client_token": name,
            "accessor": random::hex(12),
            "policies": policies,
            "token_policies": policies,
            "metadata": {},
            "lease_duration": lease.as_secs(),
            "renewable": lease > Duration::ZERO,
            "entity_id": "",
            "token_type": "service",
            "orphan": true,
        },
    }))
}

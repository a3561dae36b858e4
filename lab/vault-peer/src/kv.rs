//! The KV version 2 engine.

use std::collections::BTreeMap;

use axum::http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::answer::{Answer, absent, data, error, nothing};

/// Versions beyond these are forgotten, the oldest first.
const KEPT: usize = 10;

/// The secrets of one mount, by path.
#[derive(Default)]
pub(crate) struct Secrets(BTreeMap<String, Secret>);

/// A secret with its versions.
#[derive(Default)]
struct Secret {
    versions: BTreeMap<u64, Version>,
    newest: u64,
}

struct Version {
    data: Option<Value>,
    created: String,
    deleted: String,
    destroyed: bool,
}

impl Secrets {
    /// Writes a new version; gives its number.
    pub(crate) fn put(&mut self, path: &str, value: Value) -> u64 {
        let secret = self.0.entry(path.into()).or_default();
        secret.newest += 1;
        let version =
            Version { data: Some(value), created: time(), deleted: String::new(), destroyed: false };
        secret.versions.insert(secret.newest, version);
        while secret.versions.len() > KEPT {
            secret.versions.pop_first();
        }
        secret.newest
    }
}

impl Version {
    fn metadata(&self, number: u64) -> Value {
        json!({
            "created_time": self.created,
            "custom_metadata": null,
            "deletion_time": self.deleted,
            "destroyed": self.destroyed,
            "version": number,
        })
    }
}

/// Answers a call. `rest` is what follows the mount.
pub(crate) fn answer(
    engine: &mut Secrets,
    method: &Method,
    rest: &str,
    query: Option<&str>,
    body: &Value,
) -> Answer {
    let (call, path) = rest.split_once('/').unwrap_or((rest, ""));
    if path.is_empty() && method != "LIST" {
        return error(404, "unsupported path");
    }
    let secrets = &mut engine.0;
    match (call, method.as_str()) {
        ("data", "GET") => read(secrets.get(path), query),
        ("data", "POST" | "PUT") => write(engine, path, body),
        ("data", "DELETE") => {
            if let Some(secret) = secrets.get_mut(path)
                && let Some(version) = secret.versions.get_mut(&secret.newest)
            {
                delete(version);
            }
            nothing()
        }
        ("metadata", "GET") => secrets.get(path).map_or_else(absent, metadata),
        ("metadata", "DELETE") => {
            secrets.remove(path);
            nothing()
        }
        ("metadata", "LIST") => {
            let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
            let mut keys: Vec<String> = secrets
                .keys()
                .filter_map(|key| key.strip_prefix(&prefix))
                .map(|key| key.split_once('/').map_or(key.to_owned(), |(folder, _)| format!("{folder}/")))
                .collect();
            keys.dedup();
            if keys.is_empty() { absent() } else { data(json!({ "keys": keys })) }
        }
        ("delete" | "undelete" | "destroy", "POST" | "PUT") => {
            if let Some(secret) = secrets.get_mut(path) {
                change(secret, call, body);
            }
            nothing()
        }
        ("data" | "metadata" | "delete" | "undelete" | "destroy", _) => error(405, "unsupported operation"),
        _ => error(404, "unsupported path"),
    }
}

fn read(secret: Option<&Secret>, query: Option<&str>) -> Answer {
    let Some(secret) = secret else { return absent() };
    let wanted = query.and_then(|query| query.strip_prefix("version=")).map(str::parse::<u64>);
    let number = match wanted {
        Some(Err(_)) => return error(400, "version must be a number"),
        None | Some(Ok(0)) => secret.newest,
        Some(Ok(number)) => number,
    };
    let Some(version) = secret.versions.get(&number) else { return absent() };
    let metadata = version.metadata(number);
    match &version.data {
        Some(value) if version.deleted.is_empty() => data(json!({ "data": value, "metadata": metadata })),
        // A deleted version is a 404 that says what was deleted, and has no errors.
        _ => Answer { status: 404, body: Some(json!({ "data": { "data": null, "metadata": metadata } })) },
    }
}

fn write(secrets: &mut Secrets, path: &str, body: &Value) -> Answer {
    let Some(value) = body.get("data").filter(|value| value.is_object()) else {
        return error(400, "no data provided");
    };
    let newest = secrets.0.get(path).map_or(0, |secret| secret.newest);
    let expected = body.pointer("/options/cas").and_then(Value::as_u64);
    if expected.is_some_and(|expected| expected != newest) {
        return error(400, "check-and-set parameter did not match the current version");
    }
    let number = secrets.put(path, value.clone());
    let created = secrets.0.get(path).and_then(|secret| secret.versions.get(&number));
    data(created.map(|version| version.metadata(number)).unwrap_or_default())
}

fn metadata(secret: &Secret) -> Answer {
    let versions: serde_json::Map<String, Value> = secret
        .versions
        .iter()
        .map(|(number, version)| {
            let value = json!({
                "created_time": version.created,
                "deletion_time": version.deleted,
                "destroyed": version.destroyed,
            });
            (number.to_string(), value)
        })
        .collect();
    data(json!({
        "cas_required": false,
        "created_time": secret.versions.values().next().map(|version| &version.created),
        "current_version": secret.newest,
        "delete_version_after": "0s",
        "max_versions": 0,
        "oldest_version": secret.versions.keys().next().copied().unwrap_or_default(),
        "updated_time": secret.versions.values().last().map(|version| &version.created),
        "versions": versions,
    }))
}

fn change(secret: &mut Secret, call: &str, body: &Value) {
    let numbers = body.get("versions").and_then(Value::as_array).into_iter().flatten();
    for number in numbers.filter_map(|number| number.as_u64().or_else(|| number.as_str()?.parse().ok())) {
        let Some(version) = secret.versions.get_mut(&number) else { continue };
        match call {
            "delete" => delete(version),
            "undelete" if !version.destroyed => version.deleted.clear(),
            "destroy" => {
                version.data = None;
                version.destroyed = true;
            }
            _ => {}
        }
    }
}

fn delete(version: &mut Version) {
    if version.deleted.is_empty() {
        version.deleted = time();
    }
}

fn time() -> String {
    Timestamp::now().to_string()
}

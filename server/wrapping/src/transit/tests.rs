//! Tests of Vault's calls: forms, refusals, the table of routes, and any bytes.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::{MemoryTable, Route};

const NOW: Moment = Moment(1_700_000_000_123);
const PLAIN: &str = "ZGF0YSBrZXk=";

fn ring() -> Keyring {
    Keyring::new(Arc::new(MemoryTable::default()))
}

fn caller(policies: &[String]) -> Caller<'_> {
    Caller { display_name: "reader", policies, ttl_seconds: 600 }
}

fn send(ring: &Keyring, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = Request { method, path, query, body: &body };
    let answer = answer(&request, ring, &caller(&["default".into()]), NOW, |_, _| true);
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or(Value::Null))
}

fn post(ring: &Keyring, path: &str, body: &Value) -> (u16, Value) {
    send(ring, "POST", &format!("/v1/transit/{path}"), body)
}

#[track_caller]
fn data((status, body): (u16, Value)) -> Value {
    assert_eq!(status, 200, "{body}");
    body["data"].clone()
}

#[track_caller]
fn refused((status, body): (u16, Value), expected: u16, word: &str) {
    assert_eq!(status, expected, "{body}");
    let message = body["errors"][0].as_str().unwrap_or_default();
    assert!(message.contains(word), "{message:?} says nothing of {word}");
}

fn with_key() -> Keyring {
    let ring = ring();
    data(post(&ring, "keys/k", &json!({"insecure_plaintext_over_tls": true})));
    ring
}

#[test]
fn a_key_is_described_as_vault_describes_one() {
    let ring = ring();
    let (status, body) = post(&ring, "keys/k", &json!({"type": "aes256-gcm96", "derived": false}));
    assert_eq!(status, 200);
    let id = body["request_id"].as_str().unwrap();
    assert_eq!((id.len(), id.as_bytes()[14], id.matches('-').count()), (36, b'4', 4), "{id}");
    for (member, value) in [
        ("lease_id", json!("")),
        ("renewable", json!(false)),
        ("lease_duration", json!(0)),
        ("wrap_info", json!(null)),
        ("warnings", json!(null)),
        ("auth", json!(null)),
        ("mount_type", json!("transit")),
    ] {
        assert_eq!(body[member], value, "{member}");
    }
    let expected = json!({
        "name": "k", "type": "aes256-gcm96", "derived": false, "deletion_allowed": false, "exportable": false,
        "allow_plaintext_backup": false, "imported_key": false, "supports_encryption": true,
        "supports_decryption": true, "supports_derivation": true, "supports_signing": false,
        "auto_rotate_period": 0, "latest_version": 1, "min_available_version": 0, "min_decryption_version": 1,
        "min_encryption_version": 0, "keys": {"1": 1_700_000_000}, "disabled_versions": [],
        "insecure_plaintext_over_tls": false,
    });
    assert_eq!(body["data"], expected);
    assert_eq!(data(send(&ring, "GET", "/v1/transit/keys/k", &Value::Null)), expected);
    let (_, again) = post(&ring, "keys/k", &json!({"insecure_plaintext_over_tls": true}));
    assert!(again["warnings"][0].as_str().unwrap().contains("already existed"));
    assert_eq!(again["data"], expected, "creating it again changes nothing");
    for (method, path) in
        [("LIST", "/v1/transit/keys"), ("GET", "/v1/transit/keys?list=true"), ("LIST", "/v1/transit/keys/")]
    {
        assert_eq!(data(send(&ring, method, path, &Value::Null)), json!({"keys": ["k"]}));
    }
}

#[test]
fn what_is_not_there_is_404_to_readers_and_400_to_users() {
    let ring = ring();
    assert_eq!(send(&ring, "GET", "/v1/transit/keys/k", &Value::Null), (404, json!({"errors": []})));
    assert_eq!(send(&ring, "LIST", "/v1/transit/keys", &Value::Null), (404, json!({"errors": []})));
    refused(post(&ring, "encrypt/k", &json!({"plaintext": PLAIN})), 400, "encryption key not found");
    refused(send(&ring, "DELETE", "/v1/transit/keys/k", &Value::Null), 400, "not found");
    refused(post(&ring, "sign/k", &json!({})), 404, "no handler for route");
    refused(send(&ring, "GET", "/v1/transit/export/encryption-key/k", &Value::Null), 404, "no handler");
    refused(send(&ring, "GET", "/v1/sys/keys/k", &Value::Null), 404, "no handler");
}

#[test]
fn a_plaintext_is_encrypted_decrypted_and_rewrapped() {
    let ring = with_key();
    let wrapped = data(post(&ring, "encrypt/k", &json!({"plaintext": PLAIN})));
    assert_eq!(wrapped["key_version"], 1);
    let text = wrapped["ciphertext"].as_str().unwrap();
    assert!(text.starts_with("vault:v1:"), "{text}");
    let decrypt = |text: &str| post(&ring, "decrypt/k", &json!({"ciphertext": text}));
    assert_eq!(data(decrypt(text)), json!({"plaintext": PLAIN}));

    assert_eq!(data(post(&ring, "keys/k/rotate", &Value::Null))["latest_version"], 2);
    let newer = data(post(&ring, "rewrap/k", &json!({"ciphertext": text})));
    let newer = newer["ciphertext"].as_str().unwrap();
    assert!(newer.starts_with("vault:v2:"), "{newer}");
    assert_eq!(data(decrypt(newer)), json!({"plaintext": PLAIN}));
    data(post(&ring, "keys/k/config", &json!({"min_decryption_version": "2"})));
    refused(decrypt(text), 400, "disallowed by policy");

    for (twin, word) in [
        (newer.replace("v2", "v1"), "disallowed"),
        (newer.replace("v2", "v9"), "no version 9"),
        (newer.replace("v2", "v02"), "version is not a number"),
        (newer.replace("v2", "v0"), "version is not a number"),
        (newer.replace("v2", "v+2"), "version is not a number"),
        (newer.replace("vault:", ""), "prefix"),
        (newer.replace("vault:v2:", "vault:v2"), "colon"),
        (format!("{newer}AAAA"), "base64"),
        ("vault:v2:AQAA".into(), "too short"),
        (newer.replace("vault:v2:A", "vault:v2:Q"), "first byte"),
        (String::new(), "missing ciphertext"),
    ] {
        refused(decrypt(&twin), 400, word);
    }
    let mut changed = newer.as_bytes().to_vec();
    let at = changed.len() - 8;
    changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
    refused(decrypt(std::str::from_utf8(&changed).unwrap()), 400, "invalid ciphertext");
}

#[test]
fn context_and_associated_data_are_bound() {
    let ring = with_key();
    let form = json!({"plaintext": PLAIN, "associated_data": "YQ==", "context": "Yw=="});
    let wrapped = data(post(&ring, "encrypt/k", &form));
    let decrypt = |ad: Value, context: Value| {
        let form = json!({"ciphertext": wrapped["ciphertext"], "associated_data": ad, "context": context});
        post(&ring, "decrypt/k", &form)
    };
    assert_eq!(data(decrypt(json!("YQ=="), json!("Yw=="))), json!({"plaintext": PLAIN}));
    refused(decrypt(json!("Yg=="), json!("Yw==")), 400, "does not open");
    refused(decrypt(Value::Null, json!("Yw==")), 400, "does not open");
    refused(decrypt(json!("YQ=="), Value::Null), 400, "does not open");
    refused(decrypt(json!("%"), json!("Yw==")), 400, "base64");

    data(post(&ring, "keys/d", &json!({"derived": "true", "insecure_plaintext_over_tls": "true"})));
    refused(post(&ring, "encrypt/d", &json!({"plaintext": PLAIN})), 400, "context");
    let wrapped = data(post(&ring, "encrypt/d", &json!({"plaintext": PLAIN, "context": "Yw=="})));
    let form = json!({"ciphertext": wrapped["ciphertext"], "context": "Yw=="});
    assert_eq!(data(post(&ring, "decrypt/d", &form)), json!({"plaintext": PLAIN}));
}

#[test]
fn a_batch_has_one_result_for_each_item() {
    let ring = with_key();
    let form = json!({"batch_input": [{"plaintext": PLAIN, "reference": "a"}, {"plaintext": ""}]});
    let results = data(post(&ring, "encrypt/k", &form))["batch_results"].clone();
    assert_eq!((results[0]["reference"].clone(), results.as_array().unwrap().len()), (json!("a"), 2));
    assert_eq!(results[1].get("reference"), None);
    let (good, bad) =
        (json!({"ciphertext": results[0]["ciphertext"]}), json!({"ciphertext": "vault:v1:AQ=="}));
    let form = json!({"batch_input": [good, bad]});
    let (status, body) = post(&ring, "decrypt/k", &form);
    assert_eq!(status, 400);
    assert_eq!(body["data"]["batch_results"][0], json!({"plaintext": PLAIN}));
    assert!(body["data"]["batch_results"][1]["error"].as_str().unwrap().contains("invalid ciphertext"));
    let form = json!({"batch_input": [good, bad], "partial_failure_response_code": 207});
    assert_eq!(post(&ring, "decrypt/k", &form).0, 207);
    let form = json!({"batch_input": [bad], "partial_failure_response_code": 207});
    assert_eq!(post(&ring, "decrypt/k", &form).0, 400);
    let form = json!({"batch_input": [good], "partial_failure_response_code": 99});
    refused(post(&ring, "decrypt/k", &form), 400, "partial_failure_response_code");
    refused(post(&ring, "decrypt/k", &json!({"batch_input": []})), 400, "batch");
    let many = json!({"batch_input": vec![json!({"plaintext": ""}); 1001]});
    refused(post(&ring, "encrypt/k", &many), 400, "JSON");
}

#[test]
fn a_data_key_is_generated_plain_and_wrapped_or_wrapped_only() {
    let ring = with_key();
    for (bits, length) in [(json!(128), 16), (json!("256"), 32), (json!(512), 64), (Value::Null, 32)] {
        let made = data(post(&ring, "datakey/plaintext/k", &json!({"bits": bits})));
        let plain = crate::text::decode("x", made["plaintext"].as_str().unwrap()).unwrap();
        assert_eq!(plain.len(), length);
        let opened = data(post(&ring, "decrypt/k", &json!({"ciphertext": made["ciphertext"]})));
        assert_eq!(opened["plaintext"], made["plaintext"]);
    }
    let made = data(post(&ring, "datakey/wrapped/k", &Value::Null));
    assert_eq!(made.get("plaintext"), None);
    refused(post(&ring, "datakey/plaintext/k", &json!({"bits": 64})), 400, "bits");
    refused(post(&ring, "datakey/both/k", &json!({})), 404, "no handler");
}

#[test]
fn a_key_gives_no_plaintext_unless_it_was_created_to() {
    let ring = ring();
    data(post(&ring, "keys/k", &Value::Null));
    let wrapped = data(post(&ring, "encrypt/k", &json!({"plaintext": PLAIN})));
    let form = json!({"ciphertext": wrapped["ciphertext"]});
    refused(post(&ring, "decrypt/k", &form), 403, "insecure_plaintext_over_tls");
    refused(post(&ring, "datakey/plaintext/k", &Value::Null), 403, "insecure_plaintext_over_tls");
    data(post(&ring, "rewrap/k", &form));
    data(post(&ring, "datakey/wrapped/k", &Value::Null));
    let form = json!({"insecure_plaintext_over_tls": true});
    refused(post(&ring, "keys/k/config", &form), 400, "creation");
}

#[test]
fn what_is_not_done_here_is_refused_by_name() {
    let ring = with_key();
    for (form, word) in [
        (json!({"type": "rsa-4096"}), "type"),
        (json!({"exportable": true}), "exportable"),
        (json!({"exportable": "true"}), "exportable"),
        (json!({"allow_plaintext_backup": true}), "allow_plaintext_backup"),
        (json!({"convergent_encryption": true}), "convergent_encryption"),
        (json!({"auto_rotate_period": "30d"}), "auto_rotate_period"),
        (json!({"auto_rotate_period": 3600}), "auto_rotate_period"),
        (json!({"key_size": 64}), "key_size"),
        (json!({"derived": 1}), "JSON"),
    ] {
        refused(post(&ring, "keys/n", &form), 400, word);
    }
    let long = json!({"auto_rotate_period": vec![0; 40_000]});
    refused(post(&ring, "keys/n", &long), 413, "at most");
    let form = json!({"auto_rotate_period": "0", "exportable": false, "key_size": 0});
    data(post(&ring, "keys/n", &form));
    refused(post(&ring, "keys/-x", &Value::Null), 400, "name of a key");
    refused(post(&ring, "encrypt/k", &json!({"plaintext": PLAIN, "nonce": "AAAA"})), 400, "nonce");
    refused(post(&ring, "encrypt/k", &json!({"plaintext": "%"})), 400, "base64");
    refused(post(&ring, "encrypt/k", &json!({})), 400, "missing plaintext");
    refused(post(&ring, "encrypt/k", &json!({"plaintext": PLAIN, "key_version": 7})), 400, "version 7");
    let long = "A".repeat(4 * (crate::MAX_PLAINTEXT / 3 + 4));
    refused(post(&ring, "encrypt/k", &json!({"plaintext": long})), 413, "at most");
    for form in [
        json!({"min_decryption_version": 2}),
        json!({"min_encryption_version": 2}),
        json!({"min_encryption_version": -1}),
    ] {
        assert_eq!(post(&ring, "keys/k/config", &form).0, 400, "{form}");
    }
    refused(post(&ring, "keys/none/config", &json!({})), 400, "not found");
}

#[test]
fn deletion_is_allowed_first() {
    let ring = with_key();
    let delete = || send(&ring, "DELETE", "/v1/transit/keys/k", &Value::Null);
    refused(delete(), 400, "deletion is not allowed");
    assert_eq!(
        data(post(&ring, "keys/k/config", &json!({"deletion_allowed": "true"})))["deletion_allowed"],
        true
    );
    assert_eq!(delete(), (204, Value::Null));
}

#[test]
fn the_caller_is_told_who_it_is_and_that_the_broker_serves() {
    let ring = ring();
    let lookup = data(send(&ring, "GET", "/v1/auth/token/lookup-self", &Value::Null));
    let expected = json!({"display_name": "reader", "policies": ["default"], "ttl": 600, "renewable": false,
        "type": "service"});
    assert_eq!(lookup, expected);
    refused(send(&ring, "POST", "/v1/auth/token/renew-self", &json!({})), 400, "not renewable");
    let (status, health) = send(&ring, "GET", "/v1/sys/health", &Value::Null);
    assert_eq!(
        (status, &health["sealed"], &health["server_time_utc"]),
        (200, &json!(false), &json!(1_700_000_000))
    );
}

#[test]
fn half_used_keys_warn() {
    let ring = with_key();
    let name = KeyName::parse("k").unwrap();
    let table = MemoryTable::default();
    let mut key = crate::WrappingKey::generate(name.clone(), crate::KeyOptions::default(), NOW).unwrap();
    key.reserve(1, crate::MAX_USES / 2).unwrap();
    let record = key.to_bytes().unwrap();
    crate::KeyTable::replace(&table, &name, None, Some(record.expose())).unwrap();
    let half = Keyring::new(Arc::new(table));
    let warnings = |ring: &Keyring| post(ring, "datakey/wrapped/k", &Value::Null).1["warnings"].clone();
    assert_eq!(warnings(&ring), Value::Null);
    assert!(warnings(&half)[0].as_str().unwrap().contains("rotate the key"));
}

fn sample(route: &Route<Operation>) -> (String, Value) {
    let path = route.pattern.replace("{mount}", "transit").replace("{name}", "k");
    let path = match route.query {
        Some((key, value)) => format!("{path}?{key}={value}"),
        None => path,
    };
    let body = match route.operation {
        Operation::Encrypt => json!({"batch_input": [{"plaintext": PLAIN, "reference": "r"}]}),
        Operation::Decrypt | Operation::Rewrap => {
            json!({"ciphertext": "vault:v1:AQAAAA==", "context": "Yw=="})
        }
        Operation::Create => json!({"derived": true, "auto_rotate_period": 0}),
        Operation::Configure => json!({"min_decryption_version": 1, "deletion_allowed": true}),
        Operation::DataKeyPlaintext | Operation::DataKeyWrapped => json!({"bits": 256}),
        _ => Value::Null,
    };
    (path, body)
}

#[test]
fn every_route_asks_the_gate_for_its_permission_and_its_key() {
    for route in ROUTES {
        let (target, body) = sample(route);
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = Request { method: route.method, path, query, body: &body };
        let ring = ring();
        let mut asked = None;
        let denied = answer(&request, &ring, &caller(&[]), NOW, |permission, keys| {
            asked = Some((permission, keys.iter().map(ToString::to_string).collect::<Vec<_>>()));
            false
        });
        let (permission, keys) = asked.unwrap_or_else(|| panic!("{} {target} was not read", route.method));
        assert_eq!(permission, route.permission, "{target}");
        let about: &[&str] = if route.pattern.contains("{name}") { &["k"] } else { &[] };
        assert_eq!(keys, about, "{target}");
        assert_eq!((denied.status, denied.code), (403, Some("wrapping.denied")), "{target}");
        assert_eq!(ring.names().unwrap(), Vec::<String>::new());
    }
}

/// Runs over cut, doubled and changed forms of a request. The numbers are fixed, so a failure happens again.
pub(crate) fn mutations(path: &str, query: &str, body: &str, run: impl Fn(&str, &str, &[u8])) {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below.max(1)
    };
    const BYTES: &[u8] = b"\"\\{}[]:,/%@=&+-.0129aeuvxEZ~ \n\x00\x7f";
    for round in 0..150 {
        let mut parts = [path.as_bytes().to_vec(), query.as_bytes().to_vec(), body.as_bytes().to_vec()];
        let part = &mut parts[[2, 2, 2, 1, 0][round % 5]];
        for _ in 0..=next(3) {
            let (at, byte) = (next(part.len() + 1), BYTES[next(BYTES.len())]);
            match next(4) {
                0 => part.truncate(at),
                1 => part.insert(at, byte),
                2 => part.extend_from_within(at..),
                _ => {
                    if let Some(place) = part.get_mut(at) {
                        *place = byte;
                    }
                }
            }
        }
        let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
        run(&text(&parts[0]), &text(&parts[1]), &parts[2]);
    }
}

#[test]
fn any_bytes_are_answered() {
    for route in ROUTES {
        let (target, body) = sample(route);
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        mutations(path, query, &body.to_string(), |path, query, body| {
            let request = Request { method: route.method, path, query, body };
            let status = answer(&request, &with_key(), &caller(&[]), NOW, |_, _| true).status;
            assert!(status < 500, "{status} for {path}?{query} {}", String::from_utf8_lossy(body));
        });
    }
}

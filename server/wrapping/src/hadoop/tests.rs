//! Tests of Hadoop's calls: forms, refusals, the table of routes, and any bytes.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::{MemoryTable, Route};

const NOW: Moment = Moment(1_700_000_000_123);

fn ring() -> Keyring {
    Keyring::new(Arc::new(MemoryTable::default()))
}

fn call(ring: &Keyring, method: &str, target: &str, body: &Value) -> (u16, Value) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = Request { method, path, query, body: &body };
    let answer = answer(&request, ring, NOW, |_, _| true);
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or(Value::Null))
}

fn create(ring: &Keyring, name: &str, plaintext: &str) {
    let attributes = json!({"insecure_plaintext_over_tls": plaintext, "owner": "hdfs"});
    let form = json!({"name": name, "cipher": "AES/CTR/NoPadding", "length": 256, "description": "d",
        "attributes": attributes});
    assert_eq!(
        call(ring, "POST", "/kms/v1/keys", &form),
        (201, json!({"name": name, "versionName": format!("{name}@0")}))
    );
}

fn generate(ring: &Keyring, count: usize) -> Vec<Value> {
    let target = format!("/kms/v1/key/k/_eek?eek_op=generate&num_keys={count}");
    let (status, list) = call(ring, "GET", &target, &Value::Null);
    assert_eq!(status, 200, "{list}");
    list.as_array().unwrap().clone()
}

fn send_back(key: &Value) -> Value {
    json!({"name": "k", "iv": key["iv"], "material": key["encryptedKeyVersion"]["material"]})
}

#[track_caller]
fn refused((status, body): (u16, Value), expected: u16, class: &str) -> String {
    let remote = &body["RemoteException"];
    assert_eq!((status, remote["javaClassName"].as_str()), (expected, Some(class)), "{body}");
    assert_eq!(remote["exception"].as_str(), class.rsplit('.').next());
    remote["message"].as_str().unwrap().to_string()
}

const ILLEGAL: &str = "java.lang.IllegalArgumentException";
const SECURITY: &str = "java.security.GeneralSecurityException";
const FORBIDDEN: &str = "org.apache.hadoop.security.authorize.AuthorizationException";

#[test]
fn a_key_lives_as_hadoop_clients_see_it() {
    let ring = ring();
    create(&ring, "k", "true");
    let metadata = json!({"name": "k", "cipher": "AES/CTR/NoPadding", "length": 256, "description": "d",
        "attributes": {"insecure_plaintext_over_tls": "true", "owner": "hdfs"},
        "created": NOW.0, "versions": 1});
    for path in ["/kms/v1/key/k", "/kms/v1/key/k/_metadata"] {
        assert_eq!(call(&ring, "GET", path, &Value::Null), (200, metadata.clone()));
    }
    let several = call(&ring, "GET", "/kms/v1/keys/metadata?key=k&key=none", &Value::Null);
    assert_eq!(several, (200, json!([metadata, {}])));
    assert_eq!(call(&ring, "GET", "/kms/v1/keys/names", &Value::Null), (200, json!(["k"])));
    assert_eq!(
        call(&ring, "POST", "/kms/v1/key/k", &json!({})),
        (200, json!({"name": "k", "versionName": "k@1"}))
    );
    assert_eq!(
        call(&ring, "GET", "/kms/v1/key/k/_currentversion", &Value::Null),
        (200, json!({"name": "k", "versionName": "k@1"}))
    );
    assert_eq!(
        call(&ring, "GET", "/kms/v1/key/k/_versions", &Value::Null),
        (200, json!([{"name": "k", "versionName": "k@0"}, {"name": "k", "versionName": "k@1"}]))
    );
    assert_eq!(call(&ring, "POST", "/kms/v1/key/k/_invalidatecache", &Value::Null).0, 200);
    refused(call(&ring, "DELETE", "/kms/v1/key/k", &Value::Null), 403, FORBIDDEN);
}

#[test]
fn an_encrypted_key_is_decrypted_and_encrypted_again() {
    let ring = ring();
    create(&ring, "k", "true");
    let keys = generate(&ring, 3);
    assert_eq!(keys.len(), 3);
    assert_eq!(keys[0]["versionName"], "k@0");
    assert_eq!(keys[0]["encryptedKeyVersion"]["versionName"], "EEK");
    let decrypt = |key: &Value, version: &str| {
        let target = format!("/kms/v1/keyversion/{version}/_eek?eek_op=decrypt");
        call(&ring, "POST", &target, &send_back(key))
    };
    let (status, plain) = decrypt(&keys[0], "k%400");
    assert_eq!((status, &plain["versionName"], &plain["name"]), (200, &json!("EK"), &json!("k")));
    assert_eq!(crate::text::decode("x", plain["material"].as_str().unwrap()).unwrap().len(), 32);
    assert_ne!(decrypt(&keys[1], "k@0").1, plain);

    let again = |key: &Value, version: &str| {
        let target = format!("/kms/v1/keyversion/{version}/_eek?eek_op=reencrypt");
        call(&ring, "POST", &target, &send_back(key))
    };
    assert_eq!(again(&keys[0], "k@0"), (200, keys[0].clone()));
    call(&ring, "POST", "/kms/v1/key/k", &json!({}));
    let (status, newer) = again(&keys[0], "k@0");
    assert_eq!((status, &newer["versionName"], &newer["iv"]), (200, &json!("k@1"), &keys[0]["iv"]));
    assert_eq!(decrypt(&newer, "k@1").1, plain);

    // As Hadoop's client sends it: names that it does not know are null.
    let mut batch = keys.clone();
    batch.iter_mut().for_each(|key| key["encryptedKeyVersion"]["name"] = Value::Null);
    let (status, list) = call(&ring, "POST", "/kms/v1/key/k/_reencryptbatch", &json!(batch));
    assert_eq!((status, list.as_array().unwrap().len()), (200, 3));
    assert_eq!(decrypt(&list[0], "k@1").1, plain);
    assert_eq!(call(&ring, "POST", "/kms/v1/key/k/_reencryptbatch", &json!([])), (200, json!([])));

    // Refusal twins: another IV, another version, a changed material, another key's name.
    let mut twin = keys[0].clone();
    twin["iv"] = keys[1]["iv"].clone();
    refused(decrypt(&twin, "k@0"), 400, SECURITY);
    refused(decrypt(&keys[0], "k@1"), 400, SECURITY);
    let mut twin = keys[0].clone();
    twin["encryptedKeyVersion"]["material"] = json!("AQAA");
    refused(decrypt(&twin, "k@0"), 400, SECURITY);
    refused(decrypt(&keys[0], "k@7"), 400, ILLEGAL);
    refused(decrypt(&keys[0], "j@0"), 400, ILLEGAL);
    for version in ["k", "k@", "k@-1", "k@+1", "k@x", "@0", "k@4294967295"] {
        refused(decrypt(&keys[0], version), 400, ILLEGAL);
    }
}

#[test]
fn a_key_gives_no_plaintext_unless_it_was_created_to() {
    let ring = ring();
    create(&ring, "k", "false");
    let key = generate(&ring, 1).remove(0);
    let target = "/kms/v1/keyversion/k@0/_eek?eek_op=decrypt";
    let message = refused(call(&ring, "POST", target, &send_back(&key)), 403, FORBIDDEN);
    assert!(message.contains("insecure_plaintext_over_tls"), "{message}");
    call(&ring, "POST", "/kms/v1/key/k", &json!({}));
    let target = "/kms/v1/keyversion/k@0/_eek?eek_op=reencrypt";
    assert_eq!(call(&ring, "POST", target, &send_back(&key)).0, 200);
}

#[test]
fn material_neither_enters_nor_leaves() {
    let ring = ring();
    create(&ring, "k", "true");
    refused(call(&ring, "GET", "/kms/v1/keyversion/k@0", &Value::Null), 403, FORBIDDEN);
    let form = json!({"name": "m", "material": "AAAAAAAAAAAAAAAAAAAAAA=="});
    refused(call(&ring, "POST", "/kms/v1/keys", &form), 400, ILLEGAL);
    let form = json!({"material": "AAAAAAAAAAAAAAAAAAAAAA=="});
    refused(call(&ring, "POST", "/kms/v1/key/k", &form), 400, ILLEGAL);
    assert_eq!(call(&ring, "GET", "/kms/v1/keys/names", &Value::Null).1, json!(["k"]));
}

#[test]
fn what_is_not_done_here_is_refused_by_name() {
    let ring = ring();
    for (form, word) in [
        (json!({"name": "k", "cipher": "SM4/CTR/NoPadding"}), "cipher"),
        (json!({"name": "k", "length": 64}), "length"),
        (json!({"name": "a/b"}), "name"),
        (json!({"name": ""}), "name"),
        (json!({"cipher": "AES/CTR/NoPadding"}), "JSON"),
        (json!({"name": "k", "attributes": {"insecure_plaintext_over_tls": "yes"}}), "insecure"),
        (json!({"name": "k", "attributes": {"deletion_allowed": "1"}}), "deletion_allowed"),
        (json!(["k"]), "JSON"),
    ] {
        let message = refused(call(&ring, "POST", "/kms/v1/keys", &form), 400, ILLEGAL);
        assert!(message.contains(word), "{form}: {message}");
    }
    let long = json!({"name": "k", "unknown": vec![0; 40_000]});
    refused(call(&ring, "POST", "/kms/v1/keys", &long), 413, ILLEGAL);
    create(&ring, "k", "true");
    refused(call(&ring, "POST", "/kms/v1/keys", &json!({"name": "k"})), 409, "java.io.IOException");
    for count in ["0", "-1", "1001", "x", ""] {
        let target = format!("/kms/v1/key/k/_eek?eek_op=generate&num_keys={count}");
        refused(call(&ring, "GET", &target, &Value::Null), 400, ILLEGAL);
    }
    for (method, target) in [
        ("GET", "/kms/v1/key/none/_eek?eek_op=generate"),
        ("GET", "/kms/v1/key/k/_eek"),
        ("GET", "/kms/v1/key/k/_eek?eek_op=decrypt"),
        ("PUT", "/kms/v1/keys"),
        ("GET", "/kms/v2/keys/names"),
        ("POST", "/kms/v1/key/none"),
    ] {
        refused(call(&ring, method, target, &Value::Null), 404, "java.io.IOException");
    }
    // As Hadoop's server answers: metadata of no key is an empty object.
    assert_eq!(call(&ring, "GET", "/kms/v1/key/none/_metadata", &Value::Null), (200, json!({})));
}

#[test]
fn a_deletable_key_is_deleted() {
    let ring = ring();
    let form = json!({"name": "k", "attributes": {"deletion_allowed": "true"}});
    assert_eq!(call(&ring, "POST", "/kms/v1/keys", &form).0, 201);
    assert_eq!(call(&ring, "DELETE", "/kms/v1/key/k", &Value::Null), (200, Value::Null));
    assert_eq!(call(&ring, "GET", "/kms/v1/keys/names", &Value::Null), (200, json!([])));
}

/// A request for each route, on the key `k`.
fn sample(route: &Route<Operation>) -> (String, Value) {
    let segments = route.pattern.replace("{name}", "k").replace("{version}", "k@0").replace("{_}", "x");
    let target = match route.query {
        Some((key, value)) => format!("{segments}?{key}={value}"),
        None => segments,
    };
    let body = match route.operation {
        Operation::Create => json!({"name": "k"}),
        Operation::Decrypt | Operation::Reencrypt => {
            json!({"name": "k", "iv": "AAAAAAAAAAAAAAAAAAAAAA==", "material": "AQ=="})
        }
        Operation::ReencryptBatch => json!([]),
        _ => Value::Null,
    };
    let target = if route.operation == Operation::KeysMetadata { format!("{target}?key=k") } else { target };
    (target, body)
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
        let denied = answer(&request, &ring, NOW, |permission, keys| {
            asked = Some((permission, keys.iter().map(ToString::to_string).collect::<Vec<_>>()));
            false
        });
        let (permission, keys) = asked.unwrap_or_else(|| panic!("{} {target} was not read", route.method));
        assert_eq!(permission, route.permission, "{target}");
        let about: &[&str] = match route.operation {
            Operation::Probe | Operation::Names => &[],
            _ => &["k"],
        };
        assert_eq!(keys, about, "{target}");
        assert_eq!((denied.status, denied.code), (403, Some("wrapping.denied")), "{target}");
        assert_eq!(ring.names().unwrap(), Vec::<String>::new());
    }
}

#[test]
fn any_bytes_are_answered() {
    for route in ROUTES {
        let (target, body) = sample(route);
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        crate::transit::tests::mutations(path, query, &body.to_string(), |path, query, body| {
            let request = Request { method: route.method, path, query, body };
            let status = answer(&request, &ring(), NOW, |_, _| true).status;
            assert!(status < 500, "{status} for {path}?{query} {}", String::from_utf8_lossy(body));
        });
    }
}

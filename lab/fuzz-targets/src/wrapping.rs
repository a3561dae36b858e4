//! Wrapping calls, which clients of Hadoop's and Vault's key services make, and the records of keys.

use std::sync::Arc;

use coffer_server_wrapping::transit::Caller;
use coffer_server_wrapping::{
    KeyName, KeyOptions, Keyring, MemoryTable, Moment, Request, WrappingKey, hadoop, transit,
};

const NOW: Moment = Moment(1_700_000_000_123);

/// Reads `method path?query`, a line feed, and a body as a request of Hadoop's dialect.
pub fn hadoop_kms_call(data: &[u8]) {
    request(data, |request, ring| hadoop::answer(request, ring, NOW, |_, _| true).status);
}

/// The same of Vault's.
pub fn transit_call(data: &[u8]) {
    let caller = Caller { display_name: "fuzz", policies: &[], ttl_seconds: 0 };
    request(data, |request, ring| transit::answer(request, ring, &caller, NOW, |_, _| true).status);
}

/// Reads the record of a key.
pub fn wrapping_record(data: &[u8]) {
    if let Ok(key) = WrappingKey::from_bytes(&name(), data) {
        let written = key.to_bytes().unwrap();
        let again = WrappingKey::from_bytes(&name(), written.expose()).unwrap();
        assert!(again.to_bytes().unwrap().equals(written.expose()));
    }
}

fn name() -> KeyName {
    KeyName::parse("k").unwrap()
}

fn request(data: &[u8], answer: impl Fn(&Request<'_>, &Keyring) -> u16) {
    let at = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (line, body) = data.split_at(at);
    let Ok(line) = std::str::from_utf8(line) else { return };
    let (method, target) = line.split_once(' ').unwrap_or((line, ""));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let ring = Keyring::new(Arc::new(MemoryTable::default()));
    ring.create(&name(), KeyOptions::default(), NOW).unwrap();
    let request = Request { method, path, query, body: body.get(1..).unwrap_or_default() };
    let status = answer(&request, &ring);
    assert!((200..500).contains(&status), "{status}");
}

pub(crate) fn hadoop_seeds() -> Vec<Vec<u8>> {
    let iv = "AAAAAAAAAAAAAAAAAAAAAA==";
    [
        r#"POST /kms/v1/keys
{"name":"n","cipher":"AES/CTR/NoPadding","length":256,"attributes":{"insecure_plaintext_over_tls":"true"}}"#
            .to_string(),
        "GET /kms/v1/key/k/_eek?eek_op=generate&num_keys=2\n".into(),
        format!("POST /kms/v1/keyversion/k%400/_eek?eek_op=decrypt\n{{\"name\":\"k\",\"iv\":\"{iv}\",\"material\":\"AQAA\"}}"),
        format!(
            "POST /kms/v1/key/k/_reencryptbatch\n[{{\"versionName\":\"k@0\",\"iv\":\"{iv}\",\"encryptedKeyVersion\":\
             {{\"name\":null,\"versionName\":\"EEK\",\"material\":\"AQAA\"}}}}]"
        ),
    ]
    .map(String::into_bytes)
    .to_vec()
}

pub(crate) fn transit_seeds() -> Vec<Vec<u8>> {
    [
        r#"POST /v1/transit/encrypt/k
{"batch_input":[{"plaintext":"ZGF0YQ==","context":"Yw==","associated_data":"YQ==","reference":"r","key_version":"1"}]}"#,
        r#"POST /v1/transit/decrypt/k
{"ciphertext":"vault:v1:AQAAAA==","partial_failure_response_code":207}"#,
        r#"PUT /v1/transit/keys/n
{"type":"aes256-gcm96","derived":"true","auto_rotate_period":"0"}"#,
        r#"POST /v1/transit/keys/k/config
{"min_decryption_version":1,"deletion_allowed":true}"#,
        "GET /v1/transit/keys?list=true\n",
        "POST /v1/transit/datakey/wrapped/k\n{\"bits\":512}",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

pub(crate) fn record_seeds() -> Vec<Vec<u8>> {
    let key = WrappingKey::generate(name(), KeyOptions::default(), NOW).unwrap();
    vec![key.to_bytes().unwrap().expose().clone()]
}

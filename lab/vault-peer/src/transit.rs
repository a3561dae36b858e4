//! The transit engine with keys of the type `aes256-gcm96`.

use std::collections::BTreeMap;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use axum::http::Method;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::answer::{Answer, absent, data, error, nothing};
use crate::random;

/// The keys of one mount, by name.
#[derive(Default)]
pub(crate) struct Keys(BTreeMap<String, TransitKey>);

/// A key with its versions, from 1.
struct TransitKey {
    versions: BTreeMap<u64, [u8; 32]>,
    minimum: u64,
    deletable: bool,
}

impl TransitKey {
    fn new() -> Self {
        Self { versions: BTreeMap::from([(1, random::array())]), minimum: 1, deletable: false }
    }

    fn latest(&self) -> u64 {
        self.versions.keys().last().copied().unwrap_or_default()
    }

    fn encrypt(&self, plain: &[u8], associated: &[u8]) -> String {
        let version = self.latest();
        let nonce: [u8; NONCE_LEN] = random::array();
        let mut sealed = plain.to_vec();
        cipher(&self.versions[&version])
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(associated), &mut sealed)
            .expect("a short text can be sealed");
        format!("vault:v{version}:{}", STANDARD.encode([&nonce[..], &sealed].concat()))
    }

    fn decrypt(&self, ciphertext: &str, associated: &[u8]) -> Result<Vec<u8>, Answer> {
        let invalid = |why: &str| error(400, &format!("invalid ciphertext: {why}"));
        let rest = ciphertext.strip_prefix("vault:v").ok_or_else(|| invalid("no prefix"))?;
        let (version, text) = rest.split_once(':').ok_or_else(|| invalid("wrong number of fields"))?;
        let version: u64 = version.parse().map_err(|_| invalid("version number could not be decoded"))?;
        if version > self.latest() {
            return Err(invalid("version is too new"));
        }
        if version < self.minimum {
            return Err(error(400, "ciphertext or signature version is disallowed by policy (too old)"));
        }
        let key = self.versions.get(&version).ok_or_else(|| invalid("version is not kept"))?;
        let bytes = STANDARD.decode(text).map_err(|_| invalid("could not decode base64"))?;
        let Some((nonce, sealed)) = bytes.split_first_chunk::<NONCE_LEN>() else {
            return Err(invalid("ciphertext is too short"));
        };
        let mut plain = sealed.to_vec();
        let opened = cipher(key).open_in_place(
            Nonce::assume_unique_for_key(*nonce),
            Aad::from(associated),
            &mut plain,
        );
        let length = opened.map_err(|_| error(400, "cipher: message authentication failed"))?.len();
        plain.truncate(length);
        Ok(plain)
    }
}

impl Keys {
    fn key(&mut self, name: &str) -> &mut TransitKey {
        self.0.entry(name.into()).or_insert_with(TransitKey::new)
    }

    pub(crate) fn create(&mut self, name: &str) {
        self.key(name);
    }

    pub(crate) fn rotate(&mut self, name: &str) {
        let key = self.key(name);
        key.versions.insert(key.latest() + 1, random::array());
    }

    pub(crate) fn minimum(&mut self, name: &str, version: u64) {
        self.key(name).minimum = version;
    }

    pub(crate) fn delete(&mut self, name: &str) {
        self.0.remove(name);
    }
}

/// Answers a call. `rest` is what follows the mount; `may_create` is the token's capability to make keys.
pub(crate) fn answer(keys: &mut Keys, method: &Method, rest: &str, body: &Value, may_create: bool) -> Answer {
    let parts: Vec<&str> = rest.split('/').collect();
    let writes = matches!(method.as_str(), "POST" | "PUT");
    match (parts.as_slice(), writes) {
        (["keys", name], true) => create(keys, name, body),
        (["keys", name], false) if method == Method::GET => {
            keys.0.get(*name).map_or_else(absent, |key| describe(name, key))
        }
        (["keys", name], false) if method == Method::DELETE => delete(keys, name),
        (["keys", name, "rotate"], true) => {
            keys.rotate(name);
            nothing()
        }
        (["keys", name, "config"], true) => configure(keys.key(name), body),
        (["encrypt", name], true) => {
            // A token that may create gets the key made by its first use.
            if may_create {
                keys.create(name);
            }
            with_key(keys, name, |key| encrypt(key, body))
        }
        (["decrypt", name], true) => with_key(keys, name, |key| {
            let plain = opened(key, body)?;
            Ok(data(json!({ "plaintext": STANDARD.encode(plain) })))
        }),
        (["rewrap", name], true) => with_key(keys, name, |key| {
            let plain = opened(key, body)?;
            let ciphertext = key.encrypt(&plain, &associated(body)?);
            Ok(data(json!({ "ciphertext": ciphertext, "key_version": key.latest() })))
        }),
        (["datakey", form @ ("plaintext" | "wrapped"), name], true) => {
            with_key(keys, name, |key| data_key(key, form, body))
        }
        _ => error(404, "unsupported path"),
    }
}

fn with_key(keys: &Keys, name: &str, work: impl FnOnce(&TransitKey) -> Result<Answer, Answer>) -> Answer {
    match keys.0.get(name) {
        Some(key) => work(key).unwrap_or_else(|refusal| refusal),
        None => error(400, "encryption key not found"),
    }
}

fn create(keys: &mut Keys, name: &str, body: &Value) -> Answer {
    match body.get("type").and_then(Value::as_str).unwrap_or("aes256-gcm96") {
        "aes256-gcm96" => {}
        other => return error(400, &format!("this peer has no keys of the type {other}")),
    }
    if body.get("derived").and_then(Value::as_bool).unwrap_or_default() {
        return error(400, "this peer has no derived keys");
    }
    let key = keys.key(name);
    describe(name, key)
}

fn describe(name: &str, key: &TransitKey) -> Answer {
    let keys: serde_json::Map<String, Value> =
        key.versions.keys().map(|version| (version.to_string(), json!(1_700_000_000 + version))).collect();
    data(json!({
        "allow_plaintext_backup": false,
        "deletion_allowed": key.deletable,
        "derived": false,
        "exportable": false,
        "keys": keys,
        "latest_version": key.latest(),
        "min_available_version": 0,
        "min_decryption_version": key.minimum,
        "min_encryption_version": 0,
        "name": name,
        "supports_decryption": true,
        "supports_derivation": true,
        "supports_encryption": true,
        "supports_signing": false,
        "type": "aes256-gcm96",
    }))
}

fn configure(key: &mut TransitKey, body: &Value) -> Answer {
    if let Some(version) = body.get("min_decryption_version").and_then(Value::as_u64) {
        if version > key.latest() {
            return error(400, "cannot set min decryption version past the latest key version");
        }
        key.minimum = version.max(1);
    }
    if let Some(allowed) = body.get("deletion_allowed").and_then(Value::as_bool) {
        key.deletable = allowed;
    }
    nothing()
}

fn delete(keys: &mut Keys, name: &str) -> Answer {
    match keys.0.get(name) {
        None => error(400, &format!("could not delete key; not found: {name}")),
        Some(key) if !key.deletable => error(400, "deletion is not allowed for this key"),
        Some(_) => {
            keys.delete(name);
            nothing()
        }
    }
}

fn encrypt(key: &TransitKey, body: &Value) -> Result<Answer, Answer> {
    let text = body.get("plaintext").and_then(Value::as_str);
    let text = text.ok_or_else(|| error(400, "missing plaintext to encrypt"))?;
    let plain = STANDARD.decode(text).map_err(|_| error(400, "failed to base64-decode plaintext"))?;
    let ciphertext = key.encrypt(&plain, &associated(body)?);
    Ok(data(json!({ "ciphertext": ciphertext, "key_version": key.latest() })))
}

fn opened(key: &TransitKey, body: &Value) -> Result<Vec<u8>, Answer> {
    let text = body.get("ciphertext").and_then(Value::as_str).filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| error(400, "missing ciphertext to decrypt"))?;
    key.decrypt(text, &associated(body)?)
}

fn data_key(key: &TransitKey, form: &str, body: &Value) -> Result<Answer, Answer> {
    let bits = body.get("bits").and_then(Value::as_u64).unwrap_or(256);
    let mut made = match bits {
        128 | 256 | 512 => vec![0; usize::try_from(bits / 8).unwrap_or(32)],
        _ => return Err(error(400, "invalid bit length")),
    };
    random::fill(&mut made);
    let ciphertext = key.encrypt(&made, &associated(body)?);
    let mut answer = json!({ "ciphertext": ciphertext, "key_version": key.latest() });
    if form == "plaintext" {
        answer["plaintext"] = json!(STANDARD.encode(&made));
    }
    Ok(data(answer))
}

fn associated(body: &Value) -> Result<Vec<u8>, Answer> {
    let text = body.get("associated_data").and_then(Value::as_str).unwrap_or_default();
    STANDARD.decode(text).map_err(|_| error(400, "failed to base64-decode associated_data"))
}

fn cipher(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("a key of 32 bytes"))
}

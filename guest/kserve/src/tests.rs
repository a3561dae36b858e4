//! Another implementation's files, and clusters that ask for what the owner did not allow.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use coffer_core_protocol::uri::{ResourcePath, ResourceUri};
use coffer_core_secret::SecretBytes;
use coffer_guest_models::{Access, Job};
use serde_json::{Value, json};

use crate::jwe::{JweError, JweKey, Parts};
use crate::*;

const POLICY: &str = "kbs:///default/model-policy/models";
const KEY: &str = "kbs:///default/jwe/1";

fn vectors() -> Value {
    serde_json::from_str(include_str!("../testdata/jwcrypto.json")).unwrap()
}

fn plain(size: u64) -> Vec<u8> {
    (0..size).map(|at| ((at * at + at / 4096) % 251) as u8).collect()
}

fn key(text: &str) -> JweKey {
    JweKey::of_resource(&SecretBytes::copy_of(text.as_bytes())).unwrap()
}

fn open(text: &[u8], key: &JweKey) -> Result<Vec<u8>, JweError> {
    let text = text.to_vec();
    let mut out = Vec::new();
    let result = Parts::read(&text, text.len() as u64)?.open(&text, key, &mut out);
    result.map(|()| out)
}

#[test]
fn what_jwcrypto_encrypted_opens_with_each_form_of_the_key() {
    let all = vectors();
    let raw = SecretBytes::new((0..32).collect());
    let keys = [
        key(all["key_jwk"].as_str().unwrap()),
        key(all["key_base64url"].as_str().unwrap()),
        JweKey::of_resource(&raw).unwrap(),
    ];
    for vector in all["vectors"].as_array().unwrap() {
        let (text, size) = (vector["jwe"].as_str().unwrap(), vector["size"].as_u64().unwrap());
        for key in &keys {
            assert_eq!(open(text.as_bytes(), key).unwrap(), plain(size), "{vector}");
            assert_eq!(open(format!("{text}\r\n").as_bytes(), key).unwrap(), plain(size));
        }
    }
    for none in ["", "short", "{\"kty\":\"RSA\",\"k\":\"AAAA\"}", "{\"kty\":\"oct\",\"k\":\"AAAA\"}"] {
        assert!(JweKey::of_resource(&SecretBytes::copy_of(none.as_bytes())).is_none(), "{none}");
    }
}

#[test]
fn a_changed_character_anywhere_gives_an_error_and_not_one_byte() {
    let all = vectors();
    let own = key(all["key_base64url"].as_str().unwrap());
    for vector in all["vectors"].as_array().unwrap().iter().filter(|own| own["size"] == 100) {
        let good = vector["jwe"].as_str().unwrap().as_bytes();
        for at in 0..good.len() {
            let mut bad = good.to_vec();
            bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
            let mut out = Vec::new();
            let opened =
                Parts::read(&bad, bad.len() as u64).and_then(|parts| parts.open(&bad, &own, &mut out));
            assert!(opened.is_err() && out.is_empty(), "{at}");
            let cut = &good[..at];
            assert!(open(cut, &own).is_err(), "{at}");
        }
        assert!(open(&[good, b"AAAA"].concat(), &own).is_err());
        let other = JweKey::of_resource(&SecretBytes::new(vec![200; 32])).unwrap();
        assert!(matches!(open(good, &other), Err(JweError::Tag | JweError::Wrapped)));
    }
    for refusal in all["refusals"].as_array().unwrap() {
        let refused = open(refusal["jwe"].as_str().unwrap().as_bytes(), &own).unwrap_err();
        assert!(matches!(refused, JweError::Algorithm { .. } | JweError::Header(_)), "{refused}");
    }
}

struct Broker(BTreeMap<String, Vec<u8>>);

impl Keys for Broker {
    fn resource(&self, path: &ResourcePath) -> Result<SecretBytes, String> {
        let found = self.0.get(&path.to_uri()).ok_or("the broker refuses")?;
        Ok(SecretBytes::copy_of(found))
    }
}

fn broker(models: &Value) -> Broker {
    let policy = json!({"version": 1, "models": models}).to_string().into_bytes();
    Broker([(POLICY.into(), policy), (KEY.into(), (0..32).collect())].into())
}

fn run(broker: &Broker, source: &Path, to: &Path) -> Result<(), KserveError> {
    let arguments = [format!("cc+file://{}", source.display()), to.display().to_string()];
    let policy: ResourceUri = POLICY.parse().unwrap();
    let stop = AtomicBool::new(false);
    let job = Job { progress: &|_, _| {}, stop: &stop };
    initialize(&pairs(&arguments).unwrap(), &policy, broker, &Access::default(), &job)
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn encrypted_files_get_their_places_and_plain_ones_only_where_the_policy_says_so() {
    let all = vectors();
    let text = |at: usize| all["vectors"][at]["jwe"].as_str().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let (source, to) = (folder.path().join("source"), folder.path().join("models"));
    fs::create_dir_all(source.join("sub")).unwrap();
    let uri = format!("file://{}", source.display());
    let allowed = broker(&json!([{"source": uri, "jwe_key": KEY}]));
    assert_eq!(run(&allowed, &source, &to).unwrap_err().code(), "kserve.plain", "nothing is there");
    fs::write(source.join("a.bin.jwe"), text(5)).unwrap();
    fs::write(source.join("sub/b"), text(12)).unwrap();
    run(&allowed, &source, &to).unwrap();
    // Again, as a container that is started again does.
    run(&allowed, &source, &to).unwrap();
    assert_eq!(names(&to), ["a.bin", "sub"]);
    assert_eq!(
        (fs::read(to.join("a.bin")).unwrap(), fs::read(to.join("sub/b")).unwrap()),
        (plain(100), plain(100))
    );
    fs::write(source.join("config.json"), "{}").unwrap();
    let other = folder.path().join("other");
    assert_eq!(run(&allowed, &source, &other).unwrap_err().code(), "kserve.plain");
    assert_eq!(names(&other), [""; 0], "nothing of it was placed");
    let insecure = broker(&json!([{"source": uri, "jwe_key": KEY, "insecure_plain_files": true}]));
    run(&insecure, &source, &other).unwrap();
    assert_eq!(names(&other), ["a.bin", "config.json", "sub"]);
    for name in ["a.bin.jwe", "sub/b"] {
        fs::remove_file(source.join(name)).unwrap();
    }
    let refused = run(&insecure, &source, &folder.path().join("third")).unwrap_err();
    assert_eq!(refused.code(), "kserve.plain", "{refused}");
    fs::write(source.join("bad.jwe"), text(5).replace('.', "A.")).unwrap();
    assert_eq!(run(&insecure, &source, &folder.path().join("third")).unwrap_err().code(), "kserve.jwe");
    assert_eq!(names(&folder.path().join("third")), [""; 0]);
}

#[test]
fn what_the_policy_does_not_name_is_refused_before_anything_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (source, to) = (folder.path().join("source"), folder.path().join("models"));
    let uri = format!("file://{}", source.display());
    for models in [
        json!([]),
        json!([{"source": format!("{uri}x"), "jwe_key": KEY}]),
        json!([{"source": uri, "destination": "/elsewhere", "jwe_key": KEY}]),
    ] {
        assert_eq!(run(&broker(&models), &source, &to).unwrap_err().code(), "kserve.not-allowed", "{models}");
    }
    for models in [
        json!([{"source": uri}]),
        json!([{"source": uri, "signers": []}]),
        json!([{"source": uri, "signers": ["no key"]}]),
        json!([{"source": uri, "signers": ["x"], "jwe_key": KEY}]),
        json!([{"source": uri, "jwe_key": "no uri"}]),
        json!([{"source": uri, "jwe_key": KEY, "more": 1}]),
    ] {
        assert_eq!(run(&broker(&models), &source, &to).unwrap_err().code(), "kserve.policy", "{models}");
    }
    let silent = Broker(BTreeMap::new());
    assert_eq!(run(&silent, &source, &to).unwrap_err().code(), "kserve.resource");
    assert!(!to.exists());
    assert_eq!(pairs(&[]).unwrap_err().code(), "kserve.arguments");
    assert_eq!(pairs(&["one".into()]).unwrap_err().code(), "kserve.arguments");
}

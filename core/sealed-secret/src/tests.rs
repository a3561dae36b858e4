//! The vectors, both ends against each other, and each defect with its reason.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use coffer_core_protocol::jws::{JwsError, SigningKey, VerifyingKey};
use coffer_core_protocol::uri::{ResourcePath, UriError};
use coffer_core_secret::{Secret, SecretBytes};
use serde_json::{Value, json};

use super::*;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../testdata/sealed.json")).unwrap()
}

fn key(vectors: &Value) -> VerifyingKey {
    signer_key(vectors["key"].to_string().as_bytes()).unwrap()
}

fn kek(vectors: &Value) -> SecretBytes {
    SecretBytes::new(hex::decode(vectors["kek"].as_str().unwrap()).unwrap())
}

fn path(text: &str) -> ResourcePath {
    text.parse().unwrap()
}

fn verified(text: &str, key: &VerifyingKey) -> Result<Verified, SealedSecretError> {
    Unverified::parse(text)?.verify(key)
}

/// The vector's payload with one change, signed by a key of the test's.
fn changed(form: &str, change: impl FnOnce(&mut Value)) -> Result<Verified, SealedSecretError> {
    let text = vectors()[form].as_str().unwrap().to_owned();
    let payload = URL_SAFE_NO_PAD.decode(text.split('.').nth(2).unwrap()).unwrap();
    let mut payload: Value = serde_json::from_slice(&payload).unwrap();
    change(&mut payload);
    let signer = SigningKey::generate().unwrap();
    let header = json!({"kid": "kbs:///a/b/c"}).as_object().unwrap().clone();
    let text = format!("{PREFIX}{}", signer.sign_compact(&header, payload.to_string().as_bytes()).unwrap());
    verified(&text, signer.verifying_key())
}

#[test]
fn the_vectors_are_verified_and_opened() {
    let vectors = vectors();
    let secret = vectors["plaintext"].as_str().unwrap().as_bytes();
    for (form, expected) in
        [("envelope", Form::Envelope(WrapType::A256Gcm)), ("envelope_ctr", Form::Envelope(WrapType::A256Ctr))]
    {
        let sealed = verified(vectors[form].as_str().unwrap(), &key(&vectors)).unwrap();
        assert_eq!(sealed.form(), expected);
        assert_eq!(*sealed.key_id(), KeyId::Resource(path("default/sealing-key/1")));
        assert_eq!(*sealed.resource(), path("default/sealing-kek/1"));
        assert!(sealed.open(kek(&vectors)).unwrap().equals(secret));
    }
    let sealed = verified(vectors["vault"].as_str().unwrap(), &key(&vectors)).unwrap();
    assert_eq!((sealed.form(), sealed.resource()), (Form::Vault, &path("default/database/password")));
    assert!(sealed.open(SecretBytes::copy_of(b"the value")).unwrap().equals(b"the value"));
    let file = Unverified::parse(vectors["file_key"].as_str().unwrap()).unwrap();
    assert_eq!(*file.key_id(), KeyId::File("signer.jwk".into()));
    assert_eq!(file.key_id().to_string(), "signer.jwk");
}

#[test]
fn what_is_sealed_is_opened_and_has_upstream_s_members() {
    let signer = SigningKey::generate().unwrap();
    let sealing = Sealing::new(&signer, &path("default/sealing-key/1")).unwrap();
    let vault = sealing.vault(&path("a/b/c")).unwrap();
    let sealed = verified(&vault, signer.verifying_key()).unwrap();
    assert_eq!((sealed.form(), sealed.resource()), (Form::Vault, &path("a/b/c")));
    let kek = Secret::<[u8; KEY_LEN]>::random().unwrap();
    for value in [&b""[..], b"secret", &[7; 100_000]] {
        let text = sealing.envelope(&SecretBytes::copy_of(value), &kek, &path("a/k/1")).unwrap();
        assert!(is_sealed(&text) && text.is_ascii());
        let sealed = verified(&format!("{text}\n"), signer.verifying_key()).unwrap();
        assert_eq!(sealed.resource(), &path("a/k/1"));
        assert!(sealed.open(SecretBytes::copy_of(kek.expose())).unwrap().equals(value));
    }
    let part = |text: &str, at| -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text.split('.').nth(at).unwrap()).unwrap()).unwrap()
    };
    assert_eq!(part(&vault, 1), json!({"alg": "ES256", "kid": "kbs:///default/sealing-key/1"}));
    let expected: Value = serde_json::from_str(
        r#"{"version":"0.1.0","type":"vault","provider":"kbs","name":"kbs:///a/b/c","provider_settings":{},"annotations":{}}"#,
    )
    .unwrap();
    assert_eq!(part(&vault, 2), expected);
}

#[test]
fn two_seals_of_one_value_have_nothing_in_common() {
    let signer = SigningKey::generate().unwrap();
    let sealing = Sealing::new(&signer, &path("a/b/c")).unwrap();
    let kek = Secret::new([1; KEY_LEN]);
    let payload = || {
        let text = sealing.envelope(&SecretBytes::copy_of(b"secret"), &kek, &path("a/k/1")).unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(text.split('.').nth(2).unwrap()).unwrap();
        serde_json::from_slice::<Value>(&bytes).unwrap()
    };
    let (a, b) = (payload(), payload());
    for member in ["encrypted_key", "encrypted_data", "iv"] {
        assert_ne!(a[member], b[member], "{member}");
    }
}

#[test]
fn a_text_changed_anywhere_is_refused() {
    let vectors = vectors();
    let text = vectors["vault"].as_str().unwrap();
    for at in PREFIX.len()..text.len() {
        let mut bytes = text.as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(verified(&changed, &key(&vectors)).is_err(), "byte {at}");
    }
}

#[test]
fn each_defect_of_the_form_is_refused_with_its_reason() {
    let refused = |text: &str| Unverified::parse(text).unwrap_err();
    let vectors = vectors();
    let good = vectors["vault"].as_str().unwrap();
    for none in ["", "sealed", "Sealed.a.b.c", " sealed.a.b.c", &good[1..]] {
        assert!(matches!(refused(none), SealedSecretError::Prefix), "{none}");
    }
    for bad in ["sealed.", "sealed.a", "sealed.a.b", "sealed.%.%.%", "sealed.a.b.c.d"] {
        assert!(matches!(refused(bad), SealedSecretError::Signature(_)), "{bad}");
    }
    assert!(matches!(refused(&"sealed.".repeat(200_000)), SealedSecretError::TooLarge { .. }));
    let header = |header: Value| {
        let mut parts: Vec<&str> = good.split('.').collect();
        let header = URL_SAFE_NO_PAD.encode(header.to_string());
        parts[1] = &header;
        refused(&parts.join("."))
    };
    assert!(matches!(header(json!({"alg": "ES256"})), SealedSecretError::NoKeyId));
    assert!(matches!(header(json!({"alg": "ES256", "kid": 7})), SealedSecretError::NoKeyId));
    assert!(matches!(
        header(json!({"alg": "ES256", "kid": "kbs:///a", "crit": []})),
        SealedSecretError::Signature(JwsError::Critical)
    ));
    for kid in
        ["kbs:///a/b", "https://a/b/c", "../key", "a/b", "", ".", "kbs+pkcs11:///a/b/c", &"x".repeat(200)]
    {
        assert!(matches!(header(json!({"alg": "ES256", "kid": kid})), SealedSecretError::KeyId(_)), "{kid}");
    }
}

#[test]
fn the_form_without_signature_is_refused_and_the_refusal_says_what_to_do() {
    let payload = URL_SAFE_NO_PAD.encode(
        json!({"version":"0.1.0","type":"vault","provider":"kbs","name":"kbs:///a/b/c","provider_settings":{},"annotations":{}})
            .to_string(),
    );
    let error = Unverified::parse(&format!("sealed.fakejwsheader.{payload}.fakesignature")).unwrap_err();
    assert!(matches!(error, SealedSecretError::Fake));
    assert!(error.to_string().contains("coffer secret seal"), "{error}");
    assert_eq!(error.code(), "sealed-secret.unsigned");
}

#[test]
fn the_signature_is_that_of_the_key_and_of_no_other_algorithm() {
    let vectors = vectors();
    let text = vectors["vault"].as_str().unwrap();
    let refused = |text: &str, key: &VerifyingKey| verified(text, key).unwrap_err();
    let other = SigningKey::generate().unwrap();
    assert!(matches!(
        refused(text, other.verifying_key()),
        SealedSecretError::Signature(JwsError::Signature)
    ));
    let admin = SigningKey::generate_ed25519().unwrap();
    assert!(matches!(refused(text, admin.verifying_key()), SealedSecretError::SignerKey(_)));
    assert!(matches!(Sealing::new(&admin, &path("a/b/c")), Err(SealedSecretError::SignerKey(_))));
    for alg in ["none", "HS256", "EdDSA", "ES384", ""] {
        let mut parts: Vec<&str> = text.split('.').collect();
        let header = json!({"alg": alg, "kid": "kbs:///default/sealing-key/1"}).to_string();
        let header = URL_SAFE_NO_PAD.encode(header);
        parts[1] = &header;
        let refusal = refused(&parts.join("."), &key(&vectors));
        assert!(matches!(refusal, SealedSecretError::Signature(JwsError::Algorithm { .. })), "{alg}");
    }
}

#[test]
fn each_defect_of_a_signer_s_key_is_refused_with_its_reason() {
    let good = vectors()["key"].clone();
    let with = |member: &str, value: Value| {
        let mut key = good.clone();
        key[member] = value;
        signer_key(key.to_string().as_bytes())
    };
    assert!(with("kid", json!("x")).is_ok());
    let reason = |member: &str, value: Value| with(member, value).unwrap_err().to_string();
    assert!(reason("d", json!("AAAA")).contains("private part"));
    assert!(reason("alg", json!("ES384")).contains("ES384"));
    assert!(reason("crv", json!("P-384")).contains("P-256"));
    assert!(reason("y", json!("AAAA")).contains("P-256"));
    let admin = SigningKey::generate_ed25519().unwrap();
    let admin = serde_json::to_vec(admin.verifying_key()).unwrap();
    assert!(matches!(signer_key(&admin), Err(SealedSecretError::SignerKey(_))));
    assert!(matches!(signer_key(b"-----BEGIN PUBLIC KEY-----"), Err(SealedSecretError::SignerKey(_))));
    assert!(matches!(signer_key(&[b' '; 20_000]), Err(SealedSecretError::SignerKey(_))));
}

#[test]
fn each_defect_of_a_payload_is_refused_with_its_reason() {
    let with = |form: &str, member: &'static str, value: Value| {
        changed(form, |payload| payload[member] = value).unwrap_err()
    };
    for form in ["vault", "envelope"] {
        assert!(changed(form, |payload| payload["more"] = json!(1)).is_ok());
        assert!(matches!(
            with(form, "version", json!("0.2.0")),
            SealedSecretError::Member { member: "version", .. }
        ));
        for provider in ["aliyun", "ehsm", "aws", ""] {
            let refusal = with(form, "provider", json!(provider));
            assert!(matches!(refusal, SealedSecretError::Member { member: "provider", .. }));
        }
        assert!(matches!(with(form, "type", json!("x")), SealedSecretError::Member { member: "type", .. }));
        assert!(matches!(with(form, "type", json!(1)), SealedSecretError::Payload(_)));
    }
    let name = |value| with("vault", "name", value);
    assert!(matches!(name(Value::Null), SealedSecretError::Member { member: "name", .. }));
    for uri in ["kbs:///a/b", "kbs:///a/../c", "/etc/shadow", "kbs+x:///a/b/c"] {
        assert!(matches!(name(json!(uri)), SealedSecretError::Resource { member: "name", .. }), "{uri}");
    }
    let envelope = |member, value| with("envelope", member, value);
    assert!(matches!(
        envelope("key_id", json!("alias/key")),
        SealedSecretError::Resource { member: "key_id", why: UriError::Scheme { .. } }
    ));
    for member in ["encrypted_key", "encrypted_data", "iv"] {
        assert!(matches!(envelope(member, json!("%")), SealedSecretError::Base64(_)), "{member}");
        assert!(matches!(envelope(member, Value::Null), SealedSecretError::Member { .. }), "{member}");
    }
    assert!(matches!(
        envelope("encrypted_key", json!("AAAA")),
        SealedSecretError::Length { member: "encrypted_key", expected: 40, found: 3 }
    ));
    assert!(matches!(envelope("iv", json!("AAAA")), SealedSecretError::Length { expected: 12, .. }));
    assert!(matches!(
        envelope("wrap_type", json!("A256CTR")),
        SealedSecretError::Length { member: "iv", expected: 16, found: 12 }
    ));
    for wrap in ["A128GCM", "A256CBC", "", "none"] {
        let refusal = envelope("wrap_type", json!(wrap));
        assert!(matches!(refusal, SealedSecretError::Member { member: "wrap_type", .. }), "{wrap}");
    }
}

#[test]
fn a_member_that_is_there_twice_is_refused() {
    let signer = SigningKey::generate().unwrap();
    let header = json!({"kid": "kbs:///a/b/c"}).as_object().unwrap().clone();
    let payload =
        r#"{"version":"0.1.0","type":"vault","provider":"kbs","name":"kbs:///a/b/c","name":"kbs:///d/e/f"}"#;
    let text = format!("{PREFIX}{}", signer.sign_compact(&header, payload.as_bytes()).unwrap());
    assert!(matches!(verified(&text, signer.verifying_key()), Err(SealedSecretError::Payload(_))));
}

#[test]
fn an_envelope_opens_with_its_key_and_with_no_other() {
    let vectors = vectors();
    let sealed = verified(vectors["envelope"].as_str().unwrap(), &key(&vectors)).unwrap();
    let refused = |key: SecretBytes| sealed.open(key).err().unwrap();
    assert!(matches!(refused(SecretBytes::new(vec![1; 32])), SealedSecretError::EnvelopeKey));
    for length in [0, 16, 31, 33] {
        let refusal = refused(SecretBytes::new(vec![1; length]));
        assert!(matches!(refusal, SealedSecretError::EnvelopeKeyLength { .. }), "{length}");
    }
    let flipped = |member: &'static str| {
        changed("envelope", |payload| {
            let mut bytes = STANDARD.decode(payload[member].as_str().unwrap()).unwrap();
            bytes[0] ^= 1;
            payload[member] = STANDARD.encode(bytes).into();
        })
        .unwrap()
        .open(kek(&vectors))
        .err()
        .unwrap()
    };
    assert!(matches!(flipped("encrypted_key"), SealedSecretError::EnvelopeKey));
    assert!(matches!(flipped("encrypted_data"), SealedSecretError::Value));
    assert!(matches!(flipped("iv"), SealedSecretError::Value));
}

//! `coffer secret keygen`, `seal` and `unseal` without a broker: what is written opens with the key that was written.
#![allow(clippy::unwrap_used)]

mod cli;

use std::os::unix::fs::PermissionsExt;

use cli::Case;
use coffer_core_sealed_secret::{Unverified, signer_key};
use coffer_core_secret::SecretBytes;
use serde_json::json;

const KEY_ID: &str = "kbs:///default/sealing-key/1";

/// A case with a signing key at `key.pem` and its public part at `key.jwk`.
fn with_key() -> (Case, String, String) {
    let case = Case::new();
    let private = case.path("key.pem");
    let done = case.run(&["secret", "keygen", "--out", &private]);
    done.ends_with(0);
    assert_eq!(std::fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o600);
    let public = case.write("key.jwk", done.out.as_bytes());
    (case, private, public)
}

#[test]
fn a_named_secret_is_sealed_and_checked() {
    let (case, private, public) = with_key();
    let uri = "kbs:///default/database/password";
    let seal = ["secret", "seal", "--signing-key", &private, "--key-id", KEY_ID, "--resource", uri];
    let done = case.run(&seal);
    done.ends_with(0);
    assert!(done.err.contains(uri) && done.err.contains("init-data"), "{}", done.err);
    let text = case.write("sealed.txt", done.out.as_bytes());
    for key in [&public, &private] {
        let done = case.run(&["--output", "json", "secret", "unseal", "--check", "--key", key, &text]);
        done.ends_with(0);
        let expected = json!({"signature": "verified", "form": "vault", "key_id": KEY_ID, "resource": uri, "cipher": null});
        assert_eq!(done.json(), expected);
    }
    let other = case.path("other.pem");
    case.run(&["secret", "keygen", "--out", &other]).ends_with(0);
    let done = case.run(&["secret", "unseal", "--check", "--key", &other, &text]);
    done.ends_with(1);
    assert!(done.err.contains("does not fit"), "{}", done.err);
    case.run(&["secret", "unseal", "--key", &public, &text]).ends_with(2);
}

#[test]
fn a_value_is_sealed_under_a_key_that_goes_into_a_file_where_that_is_asked_for() {
    let (case, private, public) = with_key();
    let (value, kek) = (case.write("value", b"hunter2"), case.path("kek"));
    let uri = "kbs:///default/sealing-kek/1";
    let seal = [
        "--output",
        "json",
        "secret",
        "seal",
        "--signing-key",
        &private,
        "--key-id",
        KEY_ID,
        "--envelope-key",
        uri,
        "--file",
        &value,
        "--key-out",
        &kek,
    ];
    let done = case.run(&seal);
    done.ends_with(0);
    let (text, result) = (done.json()["sealed"].as_str().unwrap().to_owned(), done.json());
    assert_eq!((&result["form"], &result["resource"]), (&json!("envelope"), &json!(uri)));
    let key = signer_key(&std::fs::read(&public).unwrap()).unwrap();
    let sealed = Unverified::parse(&text).unwrap().verify(&key).unwrap();
    let kek = SecretBytes::new(std::fs::read(&kek).unwrap());
    assert!(sealed.open(kek).unwrap().equals(b"hunter2"));
    // The key's file is there: nothing is overwritten, and no second text is written.
    let again = case.run(&seal);
    again.ends_with(1);
    assert!(again.out.is_empty() && again.err.contains("cannot be made"), "{}", again.err);
}

#[test]
fn wrong_uses_are_refused_before_anything_is_written() {
    let (case, private, public) = with_key();
    let seal = |more: &[&str]| {
        let base = ["secret", "seal", "--signing-key", private.as_str(), "--key-id", KEY_ID];
        case.run(&[&base[..], more].concat())
    };
    seal(&[]).ends_with(2);
    seal(&["--resource", "kbs:///a/b/c", "--envelope-key", "kbs:///a/b/d"]).ends_with(2);
    seal(&["--resource", "kbs:///a/b/c", "--file", "x"]).ends_with(2);
    seal(&["--resource", "kbs:///a/b"]).ends_with(1);
    case.run(&["secret", "keygen", "--out", &private]).ends_with(1);
    let done = case.run(&[
        "secret",
        "seal",
        "--signing-key",
        &public,
        "--key-id",
        KEY_ID,
        "--resource",
        "kbs:///a/b/c",
    ]);
    done.ends_with(1);
    assert!(done.err.contains("coffer secret keygen"), "{}", done.err);
    let fake = case.write("fake", b"sealed.fakejwsheader.e30.fakesignature");
    let done = case.run(&["secret", "unseal", "--check", "--key", &public, &fake]);
    done.ends_with(1);
    assert!(done.err.contains("no signature"), "{}", done.err);
}

#[test]
fn a_key_provider_wraps_for_the_broker_s_key_and_unwraps_with_it() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let case = Case::new();
    let key = case.write("key", &[7; 32]);
    let parameters = |text: String| json!({"Parameters": {"attestation-agent": [STANDARD.encode(text)]}});
    let options = STANDARD.encode(r#"{"symkey":"AAAA"}"#);
    let wrap = |text: String| json!({"op": "keywrap", "keywrapparams": {"ec": parameters(text), "optsdata": options}});
    let ask = |request: &serde_json::Value| {
        case.run_with(&["image", "key-provider"], request.to_string().as_bytes())
    };
    let done = ask(&wrap(format!("keypath={key}::keyid=kbs:///default/image-key/app")));
    done.ends_with(0);
    let annotation = done.json()["keywrapresults"]["annotation"].as_str().unwrap().to_owned();
    let packet: serde_json::Value = serde_json::from_slice(&STANDARD.decode(&annotation).unwrap()).unwrap();
    assert_eq!(
        (&packet["kid"], &packet["wrap_type"]),
        (&json!("kbs:///default/image-key/app"), &json!("A256GCM"))
    );
    let unwrap = |text: String| json!({"op": "keyunwrap", "keyunwrapparams": {"dc": parameters(text), "annotation": annotation}});
    let done = ask(&unwrap(format!("keypath={key}")));
    done.ends_with(0);
    assert_eq!(done.json()["keyunwrapresults"]["optsdata"], json!(options));
    let other = case.write("other", &[8; 32]);
    let done = ask(&unwrap(format!("keypath={other}")));
    done.ends_with(1);
    assert!(done.out.is_empty() && done.err.contains("does not open"), "{}", done.err);
    ask(&wrap(format!("keypath={key}"))).ends_with(1);
    ask(&json!({"op": "nothing"})).ends_with(1);
}

#[test]
fn a_bundle_needs_its_trust_root_and_signer_and_is_refused_by_its_code() {
    let case = Case::new();
    let bundle = case.write("bundle", b"{}");
    let verify = ["image", "verify", "oci:nowhere", "--bundle", &bundle];
    let done = case.run(&verify);
    done.ends_with(2);
    assert!(done.err.contains("--trust-root") && done.err.contains("--identity"), "{}", done.err);
    let who = ["--trust-root", &bundle, "--identity", "a@b.example", "--issuer", "https://b.example"];
    let done = case.run(&[&verify[..], &who].concat());
    done.ends_with(1);
    assert!(done.err.contains("sigstore.bundle."), "{}", done.err);
    case.run(&["image", "verify", "oci:nowhere"]).ends_with(2);
}

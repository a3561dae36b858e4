//! The KBS protocol: what clients send to the broker, and what brokers answer to the guest.

use std::sync::LazyLock;

use coffer_core_protocol::Tee;
use coffer_core_protocol::ear::Ear;
use coffer_core_protocol::handshake::attester::Attester;
use coffer_core_protocol::handshake::relying_party::{Challenger, ClusterKey, Issued};
use coffer_core_protocol::jwe::{self, Jwe};
use coffer_core_protocol::jwk::PublicKey;
use coffer_core_protocol::jws::{Compact, SigningKey, VerifyingKey};
use coffer_core_protocol::tee_key::TeeKey;
use coffer_core_protocol::uri::{ResourcePath, ResourceUri};
use coffer_core_secret::Secret;
use serde_json::json;

const NOW: u64 = 1_800_000_000;

static CHALLENGER: LazyLock<Challenger> =
    LazyLock::new(|| Challenger::new(ClusterKey::new(Secret::new([5; 32])), [Tee::Tpm, Tee::Snp]));
static ISSUED: LazyLock<Issued> = LazyLock::new(|| {
    let (_, auth) = Attester::begin(Tee::Tpm, tee_key()).unwrap();
    CHALLENGER.insecure_issue_with_nonce(&auth, [6; 32], NOW).unwrap()
});
static SIGNER: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate_ed25519().unwrap());

fn tee_key() -> TeeKey {
    TeeKey::from_p256_scalar(Secret::new([1; 32])).unwrap()
}

/// The broker takes an auth request.
pub fn kbs_auth(data: &[u8]) {
    if let Ok(issued) = CHALLENGER.issue(data, NOW) {
        assert!([Tee::Tpm, Tee::Snp].contains(&issued.tee));
    }
}

/// The broker takes an attest request with a good cookie.
pub fn kbs_attest(data: &[u8]) {
    match CHALLENGER.accept(&ISSUED.cookie, data, NOW) {
        Ok(submission) => {
            assert_eq!((submission.tee, submission.id()), (Tee::Tpm, ISSUED.attempt.as_str()));
            assert!(jwe::seal(&submission.tee_pubkey, b"x").is_ok());
        }
        Err(refusal) => assert!((400..500).contains(&refusal.code().status())),
    }
}

/// The broker takes a cookie: only one that it made is good.
pub fn kbs_cookie(data: &[u8]) {
    let Ok(cookie) = std::str::from_utf8(data) else { return };
    if let Ok(submission) = CHALLENGER.accept(cookie, &attest_seeds().remove(0), NOW) {
        assert_eq!(submission.id(), ISSUED.attempt);
    }
}

/// The guest takes a broker's replies.
pub fn kbs_reply(data: &[u8]) {
    let (attester, _) = Attester::begin(Tee::Tpm, tee_key()).unwrap();
    if let Ok((challenged, _)) = attester.on_challenge(data) {
        let _ = challenged.device_report_data();
        let _ = challenged.evidence(json!(null), "", None);
    }
    let (attester, _) = Attester::begin(Tee::Tpm, tee_key()).unwrap();
    let (challenged, _) = attester.on_challenge(&ISSUED.body).unwrap();
    let (attesting, _) = challenged.evidence(json!(null), "", None).unwrap();
    if let Ok(session) = attesting.on_response(data) {
        let _ = session.open(data);
    }
}

/// The broker takes a guest's key.
pub fn jwk(data: &[u8]) {
    let Ok(value) = serde_json::from_slice(data) else { return };
    if let Ok(key) = PublicKey::from_json(&value) {
        assert_eq!(PublicKey::from_json(&serde_json::to_value(&key).unwrap()).unwrap(), key);
        assert!(jwe::seal(&key, b"x").is_ok());
    }
}

/// The guest takes an encrypted resource.
pub fn jwe_open(data: &[u8]) {
    if let Ok(jwe) = Jwe::from_json(data) {
        assert_eq!(Jwe::from_json(&jwe.to_json().unwrap()).unwrap(), jwe);
        if let Ok(plain) = tee_key().open(&jwe) {
            assert!(plain.equals(b"secret"));
        }
    }
}

/// The broker takes an admin's signature.
pub fn jws_verify(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(compact) = Compact::parse(text) else { return };
    let _ = (compact.key_id(), compact.insecure_header_key());
    if let Ok(payload) = compact.verify(SIGNER.verifying_key()) {
        assert_eq!(payload, SIGNED);
    }
    let _ = compact.verify(&published_key());
}

/// The broker takes an attestation token.
pub fn token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(key) = Compact::parse(text).and_then(|compact| compact.insecure_header_key())
        && let Ok(ear) = Ear::verify(text, &[key], NOW)
    {
        let _ = (ear.tee_pubkey(), ear.attempt(), ear.tee_claims(Tee::Tpm));
    }
}

/// Both ends take the name of a resource.
pub fn resource_uri(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(uri) = text.parse::<ResourceUri>() {
        assert_eq!(uri.to_string(), text);
        assert!(!text.contains("/../") && !text.contains('%') && !text.contains('?'));
    }
    if let Ok(path) = text.parse::<ResourcePath>() {
        assert_eq!(
            (path.to_string().as_str(), path.to_uri().parse::<ResourceUri>().unwrap().path()),
            (text, &path)
        );
    }
}

const SIGNED: &[u8] = br#"{"a":1}"#;

/// The key of RFC 8037, appendix A.2.
fn published_key() -> VerifyingKey {
    serde_json::from_value(json!({
        "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    }))
    .unwrap()
}

pub(crate) fn auth_seeds() -> Vec<Vec<u8>> {
    vec![
        Attester::begin(Tee::Tpm, tee_key()).unwrap().1,
        br#"{"version":"0.1.0","tee":"snp","extra-params":""}"#.to_vec(),
    ]
}

pub(crate) fn attest_seeds() -> Vec<Vec<u8>> {
    let (attester, _) = Attester::begin(Tee::Tpm, tee_key()).unwrap();
    let (challenged, _) = attester.on_challenge(&ISSUED.body).unwrap();
    let additional = r#"{"nvidia":{"device_evidence_list":[]}}"#;
    vec![challenged.evidence(json!({"tpm_quote": {}}), additional, Some("version = \"0.1.0\"")).unwrap().1]
}

pub(crate) fn cookie_seeds() -> Vec<Vec<u8>> {
    vec![ISSUED.cookie.clone().into_bytes()]
}

pub(crate) fn reply_seeds() -> Vec<Vec<u8>> {
    vec![
        br#"{"nonce":"AAAA","extra-params":{"selected-hash-algorithm":"sha512"}}"#.to_vec(),
        br#"{"token":"a.b.c","verdict":{"checks":[]},"attempt":"00"}"#.to_vec(),
        br#"{"type":"https://github.com/confidential-containers/kbs/errors/PolicyDeny","detail":"no","code":"policy.denied","causes":[{"code":"a","title":"b"}]}"#.to_vec(),
    ]
}

pub(crate) fn jwk_seeds() -> Vec<Vec<u8>> {
    let rsa = json!({"kty": "RSA", "alg": "RSA-OAEP-256", "e": "AQAB",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"});
    vec![serde_json::to_vec(&tee_key().public()).unwrap(), rsa.to_string().into_bytes()]
}

pub(crate) fn jwe_seeds() -> Vec<Vec<u8>> {
    vec![jwe::seal(&tee_key().public(), b"secret").unwrap().to_json().unwrap()]
}

pub(crate) fn jws_seeds() -> Vec<Vec<u8>> {
    let published = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let claims: serde_json::Value = serde_json::from_slice(SIGNED).unwrap();
    vec![published.as_bytes().to_vec(), SIGNER.sign_jwt(&claims).unwrap().into_bytes()]
}

pub(crate) fn uri_seeds() -> Vec<Vec<u8>> {
    ["kbs:///default/key/1", "kbs://broker:8080/a/b/c", "kbs+plugin:///a?b", "default/key/1"]
        .map(|text| text.as_bytes().to_vec())
        .to_vec()
}

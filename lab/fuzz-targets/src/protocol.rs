//! The KBS protocol: what clients send to the broker, and what brokers answer to the guest.

use std::sync::LazyLock;

use coffer_core_protocol::Tee;
use coffer_core_protocol::ear::Ear;
use coffer_core_protocol::handshake::attester::Attester;
use coffer_core_protocol::handshake::relying_party::{Challenger, ClusterKey, Issued};
use coffer_core_protocol::jwe::{self, Jwe, Sealer};
use coffer_core_protocol::jwk::PublicKey;
use coffer_core_protocol::jwks::{JwkSet, SignatureAlgorithm};
use coffer_core_protocol::jws::{Compact, SigningKey, VerifyingKey};
use coffer_core_protocol::passport::{Authority, HeaderKey};
use coffer_core_protocol::tee_key::TeeKey;
use coffer_core_protocol::uri::{ResourcePath, ResourceUri};
use coffer_core_sealed_secret::{Sealing, Unverified, signer_key};
use coffer_core_secret::{Secret, SecretBytes};
use serde_json::json;

const NOW: u64 = 1_800_000_000;

static CHALLENGER: LazyLock<Challenger> =
    LazyLock::new(|| Challenger::new(ClusterKey::new(Secret::new([5; 32])), [Tee::Tpm, Tee::Snp]));
static ISSUED: LazyLock<Issued> = LazyLock::new(|| {
    let (_, auth) = Attester::begin(Tee::Tpm, tee_key()).unwrap();
    CHALLENGER.insecure_issue_with_nonce(&auth, [6; 32], NOW).unwrap()
});
static SIGNER: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate_ed25519().unwrap());

static HYBRID_KEY: LazyLock<TeeKey> = LazyLock::new(|| TeeKey::generate_hybrid().unwrap());
static ML_KEM_KEY: LazyLock<TeeKey> =
    LazyLock::new(|| TeeKey::generate_ml_kem(|_, _, output| output.fill(1)).unwrap());
static SEALER: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate().unwrap());

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
            assert!(jwe::seal(submission.tee_pubkey.as_ref().unwrap(), b"x").is_ok());
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
        assert!(Sealer::new().with_kmac256(|_, _, output| output.fill(1)).seal(&key, b"x").is_ok());
    }
}

/// The guest takes an encrypted resource.
pub fn jwe_open(data: &[u8]) {
    if let Ok(jwe) = Jwe::from_json(data) {
        assert_eq!(Jwe::from_json(&jwe.to_json().unwrap()).unwrap(), jwe);
        for key in [&tee_key(), &*HYBRID_KEY, &*ML_KEM_KEY] {
            if let Ok(plain) = key.open(&jwe) {
                assert!(plain.equals(b"secret"));
            }
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

/// The broker takes another service's token: the input as a token whose own key is believed, and the input as claims
/// that a trusted key signed.
pub fn passport(data: &[u8]) {
    let authority = Authority {
        name: "theirs".into(),
        keys: JwkSet::of([SEALER.verifying_key()]),
        header_key: HeaderKey::InsecureBelieved,
        algorithms: SignatureAlgorithm::ALL.to_vec(),
        profile: None,
        issuer: None,
        audience: None,
        leeway_s: 60,
        tee_key_pointers: vec!["/a~1b/0/c".into(), "/".into()],
    };
    let header = json!({"kid": SEALER.verifying_key().thumbprint()});
    let signed = SEALER.sign_compact(header.as_object().unwrap(), data).unwrap();
    for text in std::str::from_utf8(data).into_iter().chain([signed.as_str()]) {
        let Ok(passport) = authority.verify(text, NOW) else { continue };
        assert_eq!(passport.to_ear().tee_pubkey().unwrap(), *passport.tee_pubkey());
        assert!(passport.expires_at() > NOW && passport.attempt().len() == 32);
    }
}

/// The broker takes another service's key set.
pub fn jwks(data: &[u8]) {
    if let Ok(set) = JwkSet::from_json(data) {
        assert_eq!(JwkSet::from_json(set.to_json().to_string().as_bytes()).unwrap().keys(), set.keys());
        for key in set.keys() {
            assert_eq!(key.key.thumbprint().len(), 43);
            assert!(key.key.spki_der().is_ok());
            let _ = SignatureAlgorithm::ALL.map(|algorithm| key.key.verify(algorithm, b"x", &[0; 64]));
        }
    }
}

/// The guest takes a signer's key, and a sealed secret: the input as text, and the input as a payload that was signed.
pub fn sealed_secret(data: &[u8]) {
    let _ = signer_key(data);
    let header = json!({"kid": "kbs:///default/sealing-key/1"});
    let signed = format!("sealed.{}", SEALER.sign_compact(header.as_object().unwrap(), data).unwrap());
    for text in std::str::from_utf8(data).into_iter().chain([signed.as_str()]) {
        let Ok(sealed) = Unverified::parse(text) else { continue };
        let _ = sealed.key_id().to_string();
        if let Ok(sealed) = sealed.verify(SEALER.verifying_key()) {
            let _ = (sealed.form(), sealed.resource().to_uri());
            let _ = sealed.open(SecretBytes::new(vec![4; 32]));
        }
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
    let keys = [tee_key().public(), HYBRID_KEY.public(), ML_KEM_KEY.public()];
    let keys = keys.iter().map(|key| serde_json::to_vec(key).unwrap());
    keys.chain([rsa.to_string().into_bytes()]).collect()
}

pub(crate) fn passport_seeds() -> Vec<Vec<u8>> {
    let key = tee_key().public();
    let claims = json!({"exp": NOW + 60, "iat": NOW, "tdx": {"attester_runtime_data": {"tee-pubkey": key}}});
    vec![SEALER.sign_jwt(&claims).unwrap().into_bytes(), claims.to_string().into_bytes()]
}

pub(crate) fn jwks_seeds() -> Vec<Vec<u8>> {
    let mut set = JwkSet::of([SEALER.verifying_key(), SIGNER.verifying_key()]).to_json();
    let rsa: serde_json::Value = serde_json::from_slice(&jwk_seeds().pop().unwrap()).unwrap();
    set["keys"]
        .as_array_mut()
        .unwrap()
        .push(json!({"kty": "RSA", "n": rsa["n"], "e": "AQAB", "alg": "PS256"}));
    vec![set.to_string().into_bytes()]
}

fn b64(text: &str) -> Vec<u8> {
    base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text).unwrap()
}

pub(crate) fn sealed_secret_seeds() -> Vec<Vec<u8>> {
    let path = |text: &str| text.parse::<ResourcePath>().unwrap();
    let sealing = Sealing::new(&SEALER, &path("default/sealing-key/1")).unwrap();
    let secret = SecretBytes::copy_of(b"secret");
    let envelope = sealing.envelope(&secret, &Secret::new([4; 32]), &path("default/kek/1")).unwrap();
    let payload = |text: &str| b64(text.split('.').nth(2).unwrap());
    vec![
        payload(&envelope),
        payload(&sealing.vault(&path("default/database/password")).unwrap()),
        envelope.into_bytes(),
        b"sealed.fakejwsheader.e30.fakesignature".to_vec(),
        serde_json::to_vec(SEALER.verifying_key()).unwrap(),
    ]
}

pub(crate) fn jwe_seeds() -> Vec<Vec<u8>> {
    let sealer = Sealer::new().with_kmac256(|_, _, output| output.fill(1));
    [tee_key().public(), HYBRID_KEY.public(), ML_KEM_KEY.public()]
        .map(|key| sealer.seal(&key, b"secret").unwrap().to_json().unwrap())
        .to_vec()
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

//! Passports of every kind of key, and the same passport with one defect.

use serde_json::json;

use super::*;
use crate::ear::{PROFILE, Status};
use crate::jwks::tests::Foreign;
use crate::jws::SigningKey;
use crate::tee_key::TeeKey;

const NOW: u64 = 1_800_000_000;

/// Says what certificates are worth by their text: a path ends well if the last one is the trusted root.
struct Chains {
    root: Vec<u8>,
    leaf: Vec<u8>,
}

impl ChainCheck for Chains {
    fn leaf_key(&self, leaf_first: &[Vec<u8>], now_s: u64) -> Result<Vec<u8>, String> {
        assert_eq!(now_s, NOW);
        match leaf_first.last() == Some(&self.root) {
            true => Ok(self.leaf.clone()),
            false => Err("nobody trusted issued it".into()),
        }
    }
}

fn authority(keys: JwkSet) -> Authority {
    Authority {
        name: "their service".into(),
        keys,
        header_key: HeaderKey::Refused,
        algorithms: SignatureAlgorithm::ALL.to_vec(),
        profile: Some(PROFILE.into()),
        issuer: Some("CoCo-Attestation-Service".into()),
        audience: None,
        leeway_s: 30,
        tee_key_pointers: Vec::new(),
    }
}

fn tee_key() -> Value {
    serde_json::from_str(
        r#"{"kty":"EC","crv":"P-256","alg":"ECDH-ES+A256KW","x":"nx4ILENzRM4U_IvOMV-6adbw7xotURxT0Y-cgP7MLys","y":"VF1QbIEc9CfngCcoDe2bdiF6XxlA20nsBkUeefZepIo"}"#,
    )
    .unwrap()
}

fn claims() -> Value {
    json!({
        "eat_profile": PROFILE, "iat": NOW, "exp": NOW + 300, "iss": "CoCo-Attestation-Service",
        "ear.verifier-id": {"build": "1", "developer": "d"},
        "submods": {"cpu0": {"ear.status": "affirming",
            "ear.veraison.annotated-evidence": {"runtime_data_claims": {"tee-pubkey": tee_key(), "nonce": "bm9uY2U="}}}}
    })
}

fn published(key: &SigningKey) -> JwkSet {
    JwkSet::of([key.verifying_key()])
}

fn refused(authority: &Authority, token: &str, now: u64) -> PassportError {
    match authority.verify(token, now) {
        Ok(_) => panic!("it must be refused"),
        Err(error) => error,
    }
}

/// A token put together by hand.
fn by_hand(header: &Value, payload: &str, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let text =
        format!("{}.{}", crate::b64::url(header.to_string().as_bytes()), crate::b64::url(payload.as_bytes()));
    let signature = sign(text.as_bytes());
    format!("{text}.{}", crate::b64::url(&signature))
}

#[test]
fn a_passport_reads_as_it_was_signed_and_says_who_spoke() {
    let key = SigningKey::generate().unwrap();
    let token = key.sign_jwt(&claims()).unwrap();
    let passport = authority(published(&key)).verify(&token, NOW).unwrap();
    assert_eq!(Value::Object(passport.claims().clone()), claims());
    assert_eq!(serde_json::to_value(passport.tee_pubkey()).unwrap(), tee_key());
    let origin = passport.origin();
    assert_eq!((origin.authority.as_str(), origin.trust), ("their service", Trust::KeySet));
    assert_eq!(origin.issuer.as_deref(), Some("CoCo-Attestation-Service"));
    assert_eq!(origin.key, key.verifying_key().thumbprint());
    let ear = passport.to_ear();
    assert_eq!(ear.cpu().unwrap().status, Status::Affirming);
    assert_eq!((ear.nonce(), ear.exp), (Some("bm9uY2U="), NOW + 300));
    assert_eq!(passport.expires_at(), NOW + 330);
    assert!(passport.check_time(NOW + 329).is_ok() && passport.check_time(NOW + 330).is_err());
}

#[test]
fn every_algorithm_that_is_allowed_signs_passports_and_none_that_is_not() {
    let signers = [(Foreign::p384(), "ES384"), (Foreign::rsa(), "RS256"), (Foreign::rsa(), "PS256")];
    for (signer, name) in signers {
        let algorithm = SignatureAlgorithm::from_name(name).unwrap();
        let mut jwk = signer.jwk();
        jwk["kid"] = json!("the key");
        let keys = JwkSet::from_json(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap();
        let header = json!({"alg": name, "kid": "the key"});
        let token = by_hand(&header, &claims().to_string(), |text| signer.sign(algorithm, text));
        let mut theirs = authority(keys);
        assert!(theirs.verify(&token, NOW).is_ok(), "{name}");
        theirs.algorithms.retain(|one| *one != algorithm);
        assert!(matches!(refused(&theirs, &token, NOW), PassportError::Algorithm { .. }), "{name}");
    }
}

#[test]
fn a_header_that_names_no_signature_or_another_kind_is_refused() {
    let rsa = Foreign::rsa();
    let mut jwk = rsa.jwk();
    jwk["kid"] = json!("k");
    let keys = JwkSet::from_json(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap();
    let theirs = authority(keys);
    let payload = claims().to_string();
    for alg in ["none", "None", "", "HS256", "HS512", "RS1", "RS512"] {
        // With HMAC over the public key this would be the classical confusion.
        let token = by_hand(&json!({"alg": alg, "kid": "k"}), &payload, |_| Vec::new());
        assert!(matches!(refused(&theirs, &token, NOW), PassportError::Algorithm { .. }), "{alg}");
    }
    let token = by_hand(&json!({"alg": "ES256", "kid": "k"}), &payload, |_| vec![0; 64]);
    let refusal = refused(&theirs, &token, NOW);
    assert!(matches!(
        refusal,
        PassportError::Signature(JwsError::Algorithm { expected: "RS256 or PS256", .. })
    ));
    let token = by_hand(&json!({"kid": "k"}), &payload, |_| Vec::new());
    assert!(matches!(refused(&theirs, &token, NOW), PassportError::Algorithm { .. }));
    let critical = json!({"alg": "RS256", "kid": "k", "crit": ["exp"], "exp": 1});
    let token = by_hand(&critical, &payload, |text| rsa.sign(SignatureAlgorithm::Rs256, text));
    assert!(matches!(refused(&theirs, &token, NOW), PassportError::Signature(JwsError::Critical)));
}

#[test]
fn the_key_is_the_one_that_the_token_names_and_is_trusted() {
    let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let token = key.sign_jwt(&claims()).unwrap();
    let refusal = refused(&authority(published(&other)), &token, NOW);
    assert!(matches!(refusal, PassportError::UnknownKey { .. }));
    assert!(matches!(refused(&authority(JwkSet::default()), &token, NOW), PassportError::UnknownKey { .. }));
    let theirs = authority(published(&key));
    let sign = |header: Value, by: &SigningKey| {
        by.sign_compact(header.as_object().unwrap(), claims().to_string().as_bytes()).unwrap()
    };
    assert!(matches!(refused(&theirs, &sign(json!({}), &key), NOW), PassportError::NoKey));
    let kid = key.verifying_key().thumbprint();
    let forged = sign(json!({"kid": kid, "jwk": other.verifying_key()}), &other);
    assert!(matches!(refused(&theirs, &forged, NOW), PassportError::Signature(JwsError::Signature)));
    assert!(matches!(refused(&theirs, &sign(json!({"kid": 7}), &key), NOW), PassportError::NoKey));
    let wrong = sign(json!({"kid": "../x"}), &key);
    assert!(matches!(refused(&theirs, &wrong, NOW), PassportError::UnknownKey { .. }));
}

#[test]
fn the_token_s_own_key_is_worth_its_certificates() {
    let key = SigningKey::generate().unwrap();
    let spki = SignatureKey::from(key.verifying_key().clone()).spki_der().unwrap();
    let chains =
        |leaf: &[u8]| HeaderKey::Certified(Arc::new(Chains { root: b"root".to_vec(), leaf: leaf.to_vec() }));
    let mut theirs = authority(JwkSet::default());
    theirs.header_key = chains(&spki);
    let token = |chain: Value| {
        let mut jwk = serde_json::to_value(key.verifying_key()).unwrap();
        jwk["x5c"] = chain;
        let header = json!({"jwk": jwk});
        key.sign_compact(header.as_object().unwrap(), claims().to_string().as_bytes()).unwrap()
    };
    let encoded = |parts: &[&[u8]]| json!(parts.iter().map(|part| STANDARD.encode(part)).collect::<Vec<_>>());
    let good = token(encoded(&[b"leaf", b"root"]));
    assert_eq!(theirs.verify(&good, NOW).unwrap().origin().trust, Trust::Chain);
    let refusal = |chain| refused(&theirs, &token(chain), NOW);
    assert!(matches!(refusal(encoded(&[b"leaf", b"other"])), PassportError::Chain(_)));
    assert!(matches!(refusal(encoded(&[])), PassportError::ChainForm(_)));
    assert!(matches!(refusal(encoded(&[&b"x"[..]; 9])), PassportError::ChainForm(_)));
    assert!(matches!(refusal(encoded(&[&[0; 20_000]])), PassportError::ChainForm(_)));
    assert!(matches!(refusal(json!("text")), PassportError::ChainForm(_)));
    assert!(matches!(refusal(json!([7])), PassportError::ChainForm(_)));
    assert!(matches!(refusal(json!(["%"])), PassportError::ChainForm(_)));
    let bare = key.sign_jwt(&claims()).unwrap();
    assert!(matches!(refused(&theirs, &bare, NOW), PassportError::NoChain));
    theirs.header_key = chains(b"another key");
    assert!(matches!(refused(&theirs, &good, NOW), PassportError::ChainKey));
    theirs.header_key = HeaderKey::Refused;
    assert!(matches!(refused(&theirs, &good, NOW), PassportError::NoKey));
}

#[test]
fn a_key_without_certificates_is_believed_only_under_the_insecure_name() {
    let key = SigningKey::generate().unwrap();
    let token = key.sign_jwt(&claims()).unwrap();
    let mut theirs = authority(JwkSet::default());
    theirs.header_key = HeaderKey::InsecureBelieved;
    assert_eq!(theirs.verify(&token, NOW).unwrap().origin().trust.name(), "insecure-header");
    let mut changed = token.into_bytes();
    let at = changed.len() - 10;
    changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
    assert!(theirs.verify(std::str::from_utf8(&changed).unwrap(), NOW).is_err());
}

#[test]
fn each_defect_of_the_claims_is_refused_with_its_reason() {
    let key = SigningKey::generate().unwrap();
    let mut theirs = authority(published(&key));
    theirs.audience = Some("broker".into());
    let mut good = claims();
    good["aud"] = json!("broker");
    let sign = |claims: &Value| key.sign_jwt(claims).unwrap();
    assert!(theirs.verify(&sign(&good), NOW).is_ok());
    let with = |claim: &str, value: Value| {
        let mut claims = good.clone();
        claims[claim] = value;
        sign(&claims)
    };
    let refusal = |token: &str| refused(&theirs, token, NOW);
    assert!(theirs.verify(&with("aud", json!(["x", "broker"])), NOW).is_ok());
    for wrong in [json!("other"), json!(["x"]), json!([])] {
        assert!(matches!(refusal(&with("aud", wrong)), PassportError::Claim { claim: "aud", .. }));
    }
    assert!(matches!(refusal(&with("aud", json!(7))), PassportError::Missing("aud")));
    assert!(matches!(refusal(&with("iss", json!("other"))), PassportError::Claim { claim: "iss", .. }));
    assert!(matches!(refusal(&with("iss", json!(null))), PassportError::Missing("iss")));
    assert!(matches!(refusal(&with("eat_profile", json!("x"))), PassportError::Claim { .. }));
    assert!(matches!(refusal(&with("exp", json!(NOW - 30))), PassportError::Expired { ago_s: 30 }));
    assert!(theirs.verify(&with("exp", json!(NOW - 29)), NOW).is_ok());
    for wrong in [json!(null), json!("1"), json!(-1), json!(1e300)] {
        assert!(matches!(refusal(&with("exp", wrong)), PassportError::Missing("exp")));
    }
    assert!(theirs.verify(&with("exp", json!(NOW as f64 + 1.5)), NOW).is_ok());
    for claim in ["nbf", "iat"] {
        assert!(theirs.verify(&with(claim, json!(NOW + 30)), NOW).is_ok());
        let future = with(claim, json!(NOW + 31));
        assert!(matches!(refusal(&future), PassportError::NotYetValid { ahead_s: 31 }), "{claim}");
    }
    let submods =
        |evidence: Value| with("submods", json!({"cpu0": {"ear.veraison.annotated-evidence": evidence}}));
    assert!(matches!(refusal(&submods(json!({}))), PassportError::NoTeeKey));
    let oct = json!({"runtime_data_claims": {"tee-pubkey": {"kty": "oct"}}});
    assert!(matches!(refusal(&submods(oct)), PassportError::TeeKey(JwkError::Kind(_))));
}

#[test]
fn a_claim_that_is_there_twice_is_refused() {
    let key = SigningKey::generate().unwrap();
    let theirs = authority(published(&key));
    let header = json!({"kid": key.verifying_key().thumbprint()});
    let sign = |payload: &str| key.sign_compact(header.as_object().unwrap(), payload.as_bytes()).unwrap();
    let good = claims().to_string();
    assert!(theirs.verify(&sign(&good), NOW).is_ok());
    for twice in [
        good.replacen('{', r#"{"exp":9999999999,"#, 1),
        good.replace(r#""kty":"EC""#, r#""kty":"EC","kty":"EC""#),
    ] {
        assert_ne!(twice, good);
        assert!(matches!(refused(&theirs, &sign(&twice), NOW), PassportError::Claims(_)));
    }
    for no_claims in ["[]", "", "7", "{} {}"] {
        assert!(matches!(refused(&theirs, &sign(no_claims), NOW), PassportError::Claims(_)));
    }
}

#[test]
fn a_token_over_the_bound_is_refused_before_it_is_read() {
    let theirs = authority(JwkSet::default());
    let refusal = refused(&theirs, &"x".repeat(MAX_TOKEN + 1), NOW);
    assert!(matches!(refusal, PassportError::TooLarge { .. }));
    assert_eq!((refusal.code(), refused(&theirs, "a.b", NOW).code()), (Code::TooLarge, Code::TokenInvalid));
}

#[test]
fn the_tee_key_is_found_where_other_services_have_it_and_two_must_be_one() {
    let key = SigningKey::generate().unwrap();
    let mut theirs = authority(published(&key));
    (theirs.profile, theirs.issuer) = (None, None);
    theirs.tee_key_pointers = vec!["/their/a~1b".into()];
    let other = serde_json::to_value(TeeKey::generate().unwrap().public()).unwrap();
    let sign = |mut claims: Value| {
        claims["exp"] = json!(NOW + 60);
        key.sign_jwt(&claims).unwrap()
    };
    for claims in [
        json!({"tdx": {"attester_runtime_data": {"tee-pubkey": tee_key()}}}),
        json!({"customized_claims": {"runtime_data": {"tee-pubkey": tee_key()}}}),
        json!({"their": {"a/b": tee_key()}}),
        json!({"their": {"a/b": tee_key()}, "tdx": {"attester_runtime_data": {"tee-pubkey": tee_key()}}}),
    ] {
        let passport = theirs.verify(&sign(claims.clone()), NOW).unwrap();
        assert_eq!(serde_json::to_value(passport.tee_pubkey()).unwrap(), tee_key());
        let ear = passport.to_ear();
        assert_eq!(ear.cpu().unwrap().status, Status::None, "nobody here appraised it");
        assert_eq!(ear.tee_pubkey().unwrap(), *passport.tee_pubkey());
        assert!(ear.cpu().unwrap().evidence["foreign"].is_object());
    }
    let two = json!({"their": {"a/b": other}, "tdx": {"attester_runtime_data": {"tee-pubkey": tee_key()}}});
    assert!(matches!(refused(&theirs, &sign(two), NOW), PassportError::TwoTeeKeys));
}

#[test]
fn another_signature_over_the_same_claims_is_the_same_attempt() {
    let key = SigningKey::generate().unwrap();
    let theirs = authority(published(&key));
    let (first, second) = (key.sign_jwt(&claims()).unwrap(), key.sign_jwt(&claims()).unwrap());
    assert_ne!(first, second);
    let attempt = |token: &str| theirs.verify(token, NOW).unwrap().attempt().to_owned();
    assert_eq!((attempt(&first), attempt(&first).len()), (attempt(&second), 32));
    let mut later = claims();
    later["exp"] = json!(NOW + 301);
    assert_ne!(attempt(&key.sign_jwt(&later).unwrap()), attempt(&first));
}

#[test]
fn our_own_tokens_are_passports_elsewhere() {
    let keys = crate::token_keys::TokenKeys::new(SigningKey::generate().unwrap());
    let set = JwkSet::from_json(keys.published(NOW).to_json().to_string().as_bytes()).unwrap();
    let token = keys.current().sign_jwt(&claims()).unwrap();
    assert!(authority(set).verify(&token, NOW).is_ok());
}

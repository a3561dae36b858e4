//! The recorded exchange reproduced, both ends against each other, and one changed member at a time.

use coffer_core_secret::Secret;
use proptest::prelude::*;
use serde_json::json;

use super::attester::{Attester, AttesterError, Attesting, KeyKind};
use super::relying_party::{Challenger, ClusterKey, Refusal};
use super::*;
use crate::Tee;
use crate::ear::{Ear, EarError};
use crate::error::Code;
use crate::jwe::Jwe;
use crate::jws::Compact;
use crate::tee_key::TeeKey;
use crate::wire::{AttestRequest, AuthRequest, KEY_ALGORITHMS};

const NOW: u64 = 1_800_000_000;

/// The recorded exchange, or nothing where the vectors are not there.
fn recorded() -> Option<Value> {
    let folder = std::env::var("COFFER_VECTORS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors").to_owned());
    let text = std::fs::read(format!("{folder}/kbs/rcar-transcript.json"));
    match text {
        Ok(text) => Some(serde_json::from_slice(&text).unwrap()),
        Err(_) => {
            println!("skipped: no vectors");
            None
        }
    }
}

fn recorded_key(record: &Value) -> TeeKey {
    let bytes = hex::decode(record["tee_key_p256_scalar_hex"].as_str().unwrap()).unwrap();
    TeeKey::from_p256_scalar(Secret::new(bytes.try_into().unwrap())).unwrap()
}

#[test]
fn our_attester_says_what_the_recorded_one_said() {
    let Some(record) = recorded() else { return };
    let (attester, auth) = Attester::begin(Tee::Sample, recorded_key(&record)).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&auth).unwrap(), record["auth_request"]);
    let challenge = json!({"nonce": record["challenge_nonce"], "extra-params": ""}).to_string();
    let (challenged, report_data) = attester.on_challenge(challenge.as_bytes()).unwrap();
    assert_eq!(report_data.digest().hex(), record["report_data_hex"].as_str().unwrap());
    let primary = record["attest_request"]["tee-evidence"]["primary_evidence"].clone();
    let (attesting, attest) = challenged.evidence(primary, "", None).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&attest).unwrap(), record["attest_request"]);
    let reply = json!({"token": record["token"]}).to_string();
    let session = attesting.on_response(reply.as_bytes()).unwrap();
    assert_eq!(session.token(), record["token"].as_str().unwrap());
    let plaintext = b64::from_std(record["plaintext_b64"].as_str().unwrap()).unwrap();
    assert!(session.open(record["jwe"].to_string().as_bytes()).unwrap().equals(&plaintext));
}

#[test]
fn the_recorded_canonical_text_is_ours_byte_for_byte() {
    let Some(record) = recorded() else { return };
    let request: AttestRequest = serde_json::from_value(record["attest_request"].clone()).unwrap();
    let claims = runtime_claims(&request.runtime_data, Some(""));
    let text = String::from_utf8(jcs::canonical(&claims).unwrap()).unwrap();
    assert_eq!(text, record["jcs"].as_str().unwrap());
}

#[test]
fn our_relying_party_accepts_the_recorded_client() {
    let Some(record) = recorded() else { return };
    let challenger = Challenger::new(ClusterKey::generate().unwrap(), [Tee::Sample]);
    let nonce = b64::from_std(record["challenge_nonce"].as_str().unwrap()).unwrap().try_into().unwrap();
    let auth = record["auth_request"].to_string();
    let issued = challenger.insecure_issue_with_nonce(auth.as_bytes(), nonce, NOW).unwrap();
    let body: Value = serde_json::from_slice(&issued.body).unwrap();
    assert_eq!(body, json!({"nonce": record["challenge_nonce"], "extra-params": ""}));
    let attest = record["attest_request"].to_string();
    let submission = challenger.accept(&issued.cookie, attest.as_bytes(), NOW + 1).unwrap();
    assert_eq!(submission.report_data.digest().hex(), record["report_data_hex"].as_str().unwrap());
    assert_eq!(submission.tee, Tee::Sample);
    assert_eq!(submission.init_data, None);
    assert_eq!(submission.tee_pubkey, Some(recorded_key(&record).public()));
    assert_eq!(submission.id(), issued.attempt);
    assert_eq!(submission.id(), attempt_id(record["challenge_nonce"].as_str().unwrap()));
}

#[test]
fn the_recorded_token_verifies_with_the_key_in_its_header_and_names_the_tee_key() {
    let Some(record) = recorded() else { return };
    let token = record["token"].as_str().unwrap();
    let key = Compact::parse(token).unwrap().insecure_header_key().unwrap();
    let ear = Ear::verify(token, std::slice::from_ref(&key), 1_795_209_600).unwrap();
    assert_eq!(ear.tee_pubkey().unwrap(), recorded_key(&record).public());
    assert_eq!(ear.nonce(), record["challenge_nonce"].as_str());
    assert!(matches!(Ear::verify(token, &[key], 1_795_209_830), Err(EarError::Expired { .. })));
}

#[test]
fn the_recorded_reply_has_the_recorded_keys_inside() {
    let Some(record) = recorded() else { return };
    let jwe: Jwe = serde_json::from_value(record["jwe"].clone()).unwrap();
    let (kek, cek) = jwe.keys_for_test(&recorded_key(&record));
    assert_eq!(hex::encode(kek), record["kek_hex"].as_str().unwrap());
    assert_eq!(hex::encode(cek), record["cek_hex"].as_str().unwrap());
}

fn challenger() -> Challenger {
    Challenger::new(ClusterKey::generate().unwrap(), [Tee::Tpm, Tee::Snp])
}

fn auth(members: Value) -> Vec<u8> {
    let mut request = json!({"version": "0.4.0", "tee": "tpm", "extra-params": ""});
    for (name, value) in members.as_object().unwrap() {
        request[name] = value.clone();
    }
    request.to_string().into_bytes()
}

/// An exchange up to the attest request, with the cookie that belongs to it.
fn attest(challenger: &Challenger) -> (String, Value) {
    let (attester, auth) = Attester::begin(Tee::Tpm, TeeKey::generate().unwrap()).unwrap();
    let issued = challenger.issue(&auth, NOW).unwrap();
    let (challenged, _) = attester.on_challenge(&issued.body).unwrap();
    let (_, body) = challenged.evidence(json!({"quote": 1}), "", Some("text")).unwrap();
    (issued.cookie, serde_json::from_slice(&body).unwrap())
}

fn code(result: Result<relying_party::Submission, Refusal>) -> Code {
    result.expect_err("it must be refused").code()
}

#[test]
fn each_defect_of_an_auth_request_has_its_own_code() {
    let challenger = challenger();
    let code = |members| challenger.issue(&auth(members), NOW).unwrap_err().code();
    assert!(challenger.issue(&auth(json!({})), NOW).is_ok());
    assert_eq!(code(json!({"version": "0.5.0"})), Code::Version);
    assert_eq!(code(json!({"version": "0.0.1"})), Code::Version);
    assert_eq!(code(json!({"tee": "sample"})), Code::TeeUnsupported);
    assert_eq!(code(json!({"tee": "abacus"})), Code::TeeUnsupported);
    assert_eq!(code(json!({"tee": 1})), Code::Malformed);
    assert_eq!(code(json!({"extra-params": {"supported-hash-algorithms": ["sm3"]}})), Code::HashUnsupported);
    assert_eq!(code(json!({"extra-params": {"supported-hash-algorithms": ["sha1"]}})), Code::HashUnsupported);
    assert_eq!(code(json!({"extra-params": "x".repeat(70_000)})), Code::TooLarge);
}

#[test]
fn the_version_s_refusal_names_the_range() {
    let refusal = challenger().issue(&auth(json!({"version": "1.0.0"})), NOW).unwrap_err();
    assert!(refusal.body().detail.contains("0.1.0 to 0.4.x"));
    assert_eq!((refusal.code().status(), refusal.body().code.as_deref()), (400, Some("protocol.version")));
}

#[test]
fn both_ends_hash_with_the_algorithm_that_was_selected() {
    let challenger = Challenger::new(ClusterKey::generate().unwrap(), [Tee::Tpm, Tee::Se]);
    for (tee, offered, expected) in [
        ("tpm", json!(["sha256", "sha384", "sha512"]), Algorithm::Sha384),
        ("tpm", json!(["sha256"]), Algorithm::Sha256),
        ("tpm", json!(["sha512", "sha256"]), Algorithm::Sha512),
        ("tpm", json!(["sm3", "sha256"]), Algorithm::Sha256),
        ("se", json!(["sha256", "sha384", "sha512"]), Algorithm::Sha512),
    ] {
        let request = auth(json!({"tee": tee, "extra-params": {"supported-hash-algorithms": offered}}));
        let issued = challenger.issue(&request, NOW).unwrap();
        let (attester, _) = Attester::begin(Tee::Tpm, TeeKey::generate().unwrap()).unwrap();
        let (challenged, report_data) = attester.on_challenge(&issued.body).unwrap();
        let (_, body) = challenged.evidence(json!(1), "", None).unwrap();
        let submission = challenger.accept(&issued.cookie, &body, NOW).unwrap();
        assert_eq!(report_data.digest().algorithm(), expected);
        assert_eq!(submission.report_data, report_data);
    }
}

#[test]
fn an_attester_refuses_a_hash_that_it_did_not_offer() {
    for name in ["sha1", "sm3", "md5"] {
        let (attester, _) = Attester::begin(Tee::Tpm, TeeKey::generate().unwrap()).unwrap();
        let body = json!({"nonce": "", "extra-params": {"selected-hash-algorithm": name}}).to_string();
        assert!(matches!(attester.on_challenge(body.as_bytes()), Err(AttesterError::Hash { .. })));
    }
}

/// A negotiated exchange up to the attest request.
fn negotiated(challenger: &Challenger, change: fn(&mut Value)) -> (String, KeyKind, Vec<u8>, Attesting) {
    let (negotiating, auth) = Attester::negotiate(Tee::Tpm).unwrap();
    let issued = challenger.issue(&auth, NOW).unwrap();
    let mut body: Value = serde_json::from_slice(&issued.body).unwrap();
    change(&mut body);
    let wanted = negotiating.on_challenge(body.to_string().as_bytes()).unwrap();
    let kind = wanted.kind();
    let (challenged, _) = wanted.with_key(kind.generate().unwrap()).unwrap();
    let (attesting, body) = challenged.evidence(json!(1), "", None).unwrap();
    (issued.cookie, kind, body, attesting)
}

#[test]
fn two_ends_of_ours_agree_on_the_hybrid_key_and_secrets_are_sealed_to_it() {
    let challenger = challenger();
    let (cookie, kind, body, attesting) = negotiated(&challenger, |_| ());
    assert_eq!(kind, KeyKind::Hybrid);
    let submission = challenger.accept(&cookie, &body, NOW).unwrap();
    assert_eq!(submission.tee_pubkey.as_ref().unwrap().algorithm(), crate::jwk::HYBRID);
    let session = attesting.on_response(br#"{"token":"t"}"#).unwrap();
    let jwe = crate::jwe::seal(submission.tee_pubkey.as_ref().unwrap(), b"secret").unwrap();
    assert!(session.open(&jwe.to_json().unwrap()).unwrap().equals(b"secret"));
}

#[test]
fn an_attester_falls_back_to_p_256_where_the_broker_does_not_name_the_hybrid_key() {
    let challenger = challenger();
    let silent: [fn(&mut Value); 5] = [
        |body| body["extra-params"] = json!(""),
        |body| body["extra-params"] = json!({}),
        |body| body["extra-params"][KEY_ALGORITHMS] = json!("ECDH-ES+ML-KEM-768+A256KW"),
        |body| body["extra-params"][KEY_ALGORITHMS] = json!(["ECDH-ES+A256KW", "more", 7]),
        |body| drop(body.as_object_mut().unwrap().remove("extra-params")),
    ];
    for change in silent {
        let (cookie, kind, body, _) = negotiated(&challenger, change);
        assert_eq!(kind, KeyKind::P256);
        assert_eq!(
            challenger.accept(&cookie, &body, NOW).unwrap().tee_pubkey.unwrap().algorithm(),
            "ECDH-ES+A256KW"
        );
    }
}

#[test]
fn a_challenge_names_keys_only_to_an_attester_that_asked_and_only_those_that_it_offered() {
    let challenger = challenger();
    let extra = |params: Value| {
        let issued = challenger.issue(&auth(json!({"extra-params": params})), NOW).unwrap();
        serde_json::from_slice::<Value>(&issued.body).unwrap()["extra-params"].clone()
    };
    assert_eq!(extra(json!("")), json!(""));
    assert_eq!(extra(json!({"supported-hash-algorithms": ["sha384"]})), json!(""));
    assert_eq!(extra(json!({KEY_ALGORITHMS: []})), json!(""));
    assert_eq!(extra(json!({KEY_ALGORITHMS: ["dir", "ML-KEM-768+A192KW"]})), json!(""));
    assert_eq!(
        extra(json!({KEY_ALGORITHMS: ["ECDH-ES+A256KW", "dir", "ECDH-ES+ML-KEM-768+A256KW"]})),
        json!({KEY_ALGORITHMS: ["ECDH-ES+ML-KEM-768+A256KW", "ECDH-ES+A256KW"]})
    );
    assert_eq!(
        extra(json!({KEY_ALGORITHMS: ["RSA-OAEP-256"], "supported-hash-algorithms": ["sha512"]})),
        json!({KEY_ALGORITHMS: ["RSA-OAEP-256"], "selected-hash-algorithm": "sha512"})
    );
}

#[test]
fn a_key_of_ml_kem_alone_is_taken_only_by_a_broker_that_can_seal_to_it() {
    let key = || TeeKey::generate_ml_kem(|_, _, _| ()).unwrap();
    let exchange = |challenger: &Challenger| {
        let (attester, auth) = Attester::begin(Tee::Tpm, key()).unwrap();
        let issued = challenger.issue(&auth, NOW).unwrap();
        let (challenged, _) = attester.on_challenge(&issued.body).unwrap();
        let (_, body) = challenged.evidence(json!(1), "", None).unwrap();
        challenger.accept(&issued.cookie, &body, NOW)
    };
    assert_eq!(code(exchange(&challenger())), Code::KeyUnsupported);
    let able = challenger().with_ml_kem();
    assert_eq!(exchange(&able).unwrap().tee_pubkey.unwrap().algorithm(), "ML-KEM-768+A192KW");
    let offered = auth(json!({"extra-params": {KEY_ALGORITHMS: ["ML-KEM-768+A192KW"]}}));
    let body: Value = serde_json::from_slice(&able.issue(&offered, NOW).unwrap().body).unwrap();
    assert_eq!(body["extra-params"][KEY_ALGORITHMS], json!(["ML-KEM-768+A192KW"]));
}

#[test]
fn an_attester_shows_a_refusal_of_either_broker() {
    let (attester, _) = Attester::begin(Tee::Tpm, TeeKey::generate().unwrap()).unwrap();
    let body = serde_json::to_vec(&Refusal::Nonce.body().with_attempt("ab")).unwrap();
    let Err(AttesterError::Refused(shown)) = attester.on_challenge(&body) else { panic!("must be refused") };
    assert_eq!((shown.known_code(), shown.attempt.as_deref()), (Some(Code::ChallengeNonce), Some("ab")));
    let (attester, _) = Attester::begin(Tee::Tpm, TeeKey::generate().unwrap()).unwrap();
    assert!(matches!(attester.on_challenge(b"<html>"), Err(AttesterError::Reply { step: "auth", .. })));
}

#[test]
fn each_defect_of_a_cookie_has_its_own_code() {
    let ours = challenger();
    let (cookie, body) = attest(&ours);
    let body = body.to_string().into_bytes();
    assert!(ours.accept(&cookie, &body, NOW + 300).is_ok());
    assert_eq!(code(ours.accept(&cookie, &body, NOW + 301)), Code::ChallengeExpired);
    assert!(ours.accept(&cookie, &body, NOW - 60).is_ok());
    assert_eq!(code(ours.accept(&cookie, &body, NOW - 61)), Code::ChallengeFuture);
    assert_eq!(code(challenger().accept(&cookie, &body, NOW)), Code::ChallengeForeign);
    assert_eq!(code(ours.accept("", &body, NOW)), Code::ChallengeMalformed);
    assert_eq!(code(ours.accept("%", &body, NOW)), Code::ChallengeMalformed);
    assert_eq!(code(ours.accept(&"A".repeat(600), &body, NOW)), Code::ChallengeMalformed);
    let sealed = b64::from_url(&cookie).unwrap();
    for at in 4..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert_eq!(code(ours.accept(&b64::url(&changed), &body, NOW)), Code::ChallengeTampered, "{at}");
    }
    let mut changed = sealed.clone();
    changed[0] ^= 1;
    assert_eq!(code(ours.accept(&b64::url(&changed), &body, NOW)), Code::ChallengeForeign);
    assert_eq!(code(ours.accept(&b64::url(&sealed[..20]), &body, NOW)), Code::ChallengeTampered);
}

#[test]
fn a_cookie_is_refused_before_the_body_for_what_it_is_refused_for_with_it() {
    let ours = challenger();
    let (cookie, body) = attest(&ours);
    let body = body.to_string().into_bytes();
    let attempt = ours.accept(&cookie, &body, NOW).unwrap().id().to_owned();
    assert_eq!(ours.check(&cookie, NOW).unwrap(), attempt);
    let mut changed = b64::from_url(&cookie).unwrap();
    changed[40] ^= 1;
    for cookie in [cookie.as_str(), &b64::url(&changed), "", "%"] {
        for now in [NOW - 61, NOW - 60, NOW, NOW + 300, NOW + 301] {
            let early = ours.check(cookie, now).map_err(|refusal| refusal.code());
            let late = ours.accept(cookie, &body, now).map_err(|refusal| refusal.code());
            assert_eq!(early.err(), late.err(), "{cookie} at {now}");
        }
    }
    assert_eq!(challenger().check(&cookie, NOW).unwrap_err().code(), Code::ChallengeForeign);
}

#[test]
fn a_challenge_for_a_tee_that_another_replica_judges_has_its_own_code() {
    let secret = || Secret::new([7; 32]);
    let there = Challenger::new(ClusterKey::new(secret()), [Tee::Tpm]);
    let here = Challenger::new(ClusterKey::new(secret()), [Tee::Snp]);
    let (cookie, body) = attest(&there);
    assert_eq!(code(here.accept(&cookie, body.to_string().as_bytes(), NOW)), Code::ChallengeTee);
    let same = Challenger::new(ClusterKey::new(secret()), [Tee::Snp, Tee::Tpm]);
    assert!(same.accept(&cookie, body.to_string().as_bytes(), NOW).is_ok());
}

#[test]
fn a_rotation_keeps_the_challenges_of_the_key_before_and_no_older_ones() {
    let mut challenger = challenger();
    let (cookie, body) = attest(&challenger);
    let body = body.to_string().into_bytes();
    challenger.rotate(ClusterKey::generate().unwrap());
    assert!(challenger.accept(&cookie, &body, NOW).is_ok());
    challenger.rotate(ClusterKey::generate().unwrap());
    assert_eq!(code(challenger.accept(&cookie, &body, NOW)), Code::ChallengeForeign);
}

#[test]
fn the_answer_to_one_challenge_is_refused_with_the_cookie_of_another() {
    let challenger = challenger();
    let (_, body) = attest(&challenger);
    let (cookie, _) = attest(&challenger);
    assert_eq!(code(challenger.accept(&cookie, body.to_string().as_bytes(), NOW)), Code::ChallengeNonce);
}

#[test]
fn each_defect_of_an_attest_request_has_its_own_code() {
    let challenger = challenger();
    let (cookie, good) = attest(&challenger);
    let with = |pointer: &str, value: Value| {
        let mut body = good.clone();
        *body.pointer_mut(pointer).unwrap() = value;
        code(challenger.accept(&cookie, body.to_string().as_bytes(), NOW))
    };
    assert_eq!(with("/runtime-data/nonce", json!("AAAA")), Code::ChallengeNonce);
    assert_eq!(with("/runtime-data/tee-pubkey/kty", json!("oct")), Code::KeyUnsupported);
    assert_eq!(with("/runtime-data/tee-pubkey/alg", json!("RSA1_5")), Code::KeyUnsupported);
    assert_eq!(with("/runtime-data/tee-pubkey/x", json!("AAAA")), Code::KeyUnsupported);
    assert_eq!(with("/runtime-data", json!(null)), Code::Malformed);
    assert_eq!(with("/tee-evidence/additional_evidence", json!({})), Code::Malformed);
    assert_eq!(with("/init-data/format", json!("json")), Code::InitDataFormat);
    assert_eq!(with("/init-data/body", json!("x".repeat(9 << 20))), Code::TooLarge);
    assert_eq!(code(challenger.accept(&cookie, b"{", NOW)), Code::Malformed);
}

#[test]
fn members_that_nobody_knows_are_ignored_but_hashed_where_they_are_bound() {
    let challenger = challenger();
    let (cookie, mut body) = attest(&challenger);
    let plain = challenger.accept(&cookie, body.to_string().as_bytes(), NOW).unwrap();
    body["more"] = json!(1);
    let same = challenger.accept(&cookie, body.to_string().as_bytes(), NOW).unwrap();
    assert_eq!(same.report_data, plain.report_data);
    body["runtime-data"]["tee-pubkey"]["kid"] = json!("guest");
    let other = challenger.accept(&cookie, body.to_string().as_bytes(), NOW).unwrap();
    assert_eq!(other.tee_pubkey, plain.tee_pubkey);
    assert_ne!(other.report_data, plain.report_data);
}

#[test]
fn a_replayed_auth_body_gives_another_nonce_each_time() {
    let challenger = challenger();
    let bodies: std::collections::BTreeSet<Vec<u8>> =
        (0..32).map(|_| challenger.issue(&auth(json!({})), NOW).unwrap().body).collect();
    assert_eq!(bodies.len(), 32);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn both_ends_agree_on_everything_that_is_bound(
        scalar in any::<[u8; 32]>(),
        cluster in any::<[u8; 32]>(),
        additional in any::<String>(),
        init_data in proptest::option::of(any::<String>()),
        secret in proptest::collection::vec(any::<u8>(), 0..300),
        now in 0u64..(1 << 40),
        later in 0u64..=300,
    ) {
        let Ok(key) = TeeKey::from_p256_scalar(Secret::new(scalar)) else { return Ok(()) };
        let challenger = Challenger::new(ClusterKey::new(Secret::new(cluster)), [Tee::Snp]);
        let (attester, auth) = Attester::begin(Tee::Snp, key).unwrap();
        let issued = challenger.issue(&auth, now).unwrap();
        let (challenged, without) = attester.on_challenge(&issued.body).unwrap();
        let bound = challenged.report_data_with(&additional).unwrap();
        let devices = challenged.device_report_data().unwrap();
        prop_assert_eq!(bound == without, additional.is_empty());
        prop_assert_ne!(devices, without);
        let (attesting, body) =
            challenged.evidence(json!({"q": 1}), &additional, init_data.as_deref()).unwrap();
        let submission = challenger.accept(&issued.cookie, &body, now + later).unwrap();
        prop_assert_eq!(submission.report_data, bound);
        prop_assert_eq!(submission.device_report_data, devices);
        prop_assert_eq!(&submission.init_data, &init_data);
        prop_assert_eq!(submission.id(), attesting.attempt());
        let session = attesting.on_response(br#"{"token":"t","verdict":{"status":"affirming"}}"#).unwrap();
        let tee_pubkey = submission.tee_pubkey.unwrap();
        prop_assert_eq!(session.public_key(), tee_pubkey.clone());
        let jwe = crate::jwe::seal(&tee_pubkey, &secret).unwrap();
        prop_assert!(session.open(&jwe.to_json().unwrap()).unwrap().equals(&secret));
    }

    #[test]
    fn a_changed_bound_member_changes_the_report_data(which in 0usize..3, text in "[a-z]{1,8}") {
        let challenger = challenger();
        let (cookie, good) = attest(&challenger);
        let before = challenger.accept(&cookie, good.to_string().as_bytes(), NOW).unwrap();
        let mut body = good.clone();
        let other = serde_json::to_value(TeeKey::generate().unwrap().public()).unwrap();
        let (pointer, value) = [
            ("/tee-evidence/additional_evidence", json!(text)),
            ("/runtime-data/tee-pubkey", other),
            ("/runtime-data/nonce", json!(text)),
        ][which].clone();
        *body.pointer_mut(pointer).unwrap() = value;
        match challenger.accept(&cookie, body.to_string().as_bytes(), NOW) {
            Ok(after) => prop_assert_ne!(after.report_data, before.report_data),
            Err(refusal) => {
                prop_assert_eq!(refusal.code(), Code::ChallengeNonce);
                prop_assert_eq!(which, 2);
            }
        }
    }

    #[test]
    fn no_bytes_make_either_end_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in ".{0,120}") {
        let challenger = challenger();
        let _ = challenger.issue(&bytes, NOW);
        let _ = challenger.accept(&text, &bytes, NOW);
        let (attester, _) = Attester::begin(Tee::Tpm, TeeKey::generate().unwrap()).unwrap();
        let _ = attester.on_challenge(&bytes);
        let _ = Jwe::from_json(&bytes);
        let _ = Compact::parse(&text);
        let _ = serde_json::from_slice::<AuthRequest>(&bytes);
    }
}

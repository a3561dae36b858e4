//! Requests of both forms, and their refusal twins.

use serde_json::json;

use super::*;
use crate::rest;
use crate::wire::attestation as wire;

fn good() -> wire::AttestationRequest {
    let one = wire::IndividualAttestationRequest {
        tee: "tdx".into(),
        evidence: "eyJxdW90ZSI6IkFBPT0ifQ".into(),
        runtime_data: Some(wire::RuntimeData::StructuredRuntimeData(r#"{"nonce":"n"}"#.into())),
        init_data: Some(wire::InitData::InitDataDigest("AQI".into())),
        runtime_data_hash_algorithm: String::new(),
    };
    wire::AttestationRequest { verification_requests: vec![one], policy_ids: vec!["default".into()] }
}

#[test]
fn the_two_forms_say_the_same() {
    let request = EvaluateRequest::from_wire(good()).unwrap();
    let body = json!({
        "verification_requests": [{
            "tee": "tdx", "evidence": "eyJxdW90ZSI6IkFBPT0ifQ",
            "runtime_data": { "structured": { "nonce": "n" } },
            "init_data": { "init_data_digest": "AQI" }
        }],
        "policy_ids": ["default"]
    });
    assert_eq!(rest::attestation(body.to_string().as_bytes()).unwrap(), request);
    let one = &request.requests[0];
    assert_eq!(one.evidence, json!({ "quote": "AA==" }));
    assert_eq!(one.hash, Algorithm::Sha384);
    assert_eq!(one.init_data, InitData::Digest(vec![1, 2]));
}

#[test]
fn raw_data_toml_and_other_hashes_are_read() {
    let body = json!({ "verification_requests": [{
        "tee": "x", "evidence": "e30", "runtime_data": { "raw": "AQI" }, "init_data": { "init_data_toml": "a=1" },
        "runtime_data_hash_algorithm": "sha512"
    }, { "tee": "y", "evidence": "e30" }] });
    let request = rest::attestation(body.to_string().as_bytes()).unwrap();
    assert_eq!(request.requests[0].runtime_data, RuntimeData::Raw(vec![1, 2]));
    assert_eq!(request.requests[0].init_data, InitData::Toml("a=1".into()));
    assert_eq!(request.requests[0].hash, Algorithm::Sha512);
    assert_eq!(request.requests[1].runtime_data, RuntimeData::None);
    assert_eq!(request.requests[1].init_data, InitData::None);
    assert!(request.policy_ids.is_empty());
}

#[test]
fn each_defect_is_refused_with_its_reason() {
    type Change = fn(&mut wire::AttestationRequest);
    fn one(request: &mut wire::AttestationRequest) -> &mut wire::IndividualAttestationRequest {
        &mut request.verification_requests[0]
    }
    let twins: [(Change, &str); 13] = [
        (|r| r.verification_requests.clear(), "empty"),
        (|r| r.verification_requests = vec![r.verification_requests[0].clone(); 17], "17"),
        (|r| r.policy_ids = vec!["p".into(); 17], "policy_ids has 17"),
        (|r| r.policy_ids = vec![String::new()], "policy_ids is a name"),
        (|r| one(r).tee.clear(), "tee is a name"),
        (|r| one(r).tee = "a\nb".into(), "control"),
        (|r| one(r).evidence = "eyJ9=".into(), "base64url"),
        (|r| one(r).evidence = "AAAA".into(), "no JSON"),
        (|r| one(r).runtime_data = Some(wire::RuntimeData::RawRuntimeData("+/".into())), "base64url"),
        (|r| one(r).runtime_data = Some(wire::RuntimeData::StructuredRuntimeData("[]".into())), "object"),
        (|r| one(r).runtime_data = Some(wire::RuntimeData::StructuredRuntimeData("{".into())), "no JSON"),
        (|r| one(r).init_data = Some(wire::InitData::InitDataDigest("A".repeat(88))), "64"),
        (|r| one(r).init_data = Some(wire::InitData::InitDataDigest(String::new())), "found 0"),
    ];
    for (change, reason) in twins {
        let mut request = good();
        change(&mut request);
        let error = EvaluateRequest::from_wire(request).unwrap_err();
        assert_eq!((error.code, error.kind), ("request.malformed", crate::Kind::Invalid), "{reason}");
        assert!(error.message.contains(reason), "{reason}: {error}");
    }
    for hash in ["sha1", "SHA-1", "md5"] {
        let mut request = good();
        one(&mut request).runtime_data_hash_algorithm = hash.into();
        assert_eq!(EvaluateRequest::from_wire(request).unwrap_err().code, "protocol.hash-algorithm");
    }
}

#[test]
fn evidence_nested_without_end_is_refused() {
    use base64::Engine;
    let deep = "[".repeat(100_000);
    let mut request = good();
    request.verification_requests[0].evidence = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(deep);
    assert!(EvaluateRequest::from_wire(request).unwrap_err().message.contains("recursion"));
}

#[test]
fn policies_and_challenges_are_read_or_refused() {
    let policy = rest::policy(br#"{"type":"rego","policy_id":"p","policy":"cGFja2FnZSB4"}"#).unwrap();
    assert_eq!(policy, SetPolicy { id: "p".into(), rego: "package x".into() });
    for body in [
        r#"{"policy_id":"p","policy":"package x"}"#,
        r#"{"policy_id":"p","policy":"_w"}"#,
        r#"{"policy_id":"","policy":"cA"}"#,
        r#"{"policy_id":"p"}"#,
        "",
    ] {
        assert_eq!(rest::policy(body.as_bytes()).unwrap_err().code, "request.malformed", "{body}");
    }
    let parameters = rest::challenge(br#"{"tee":"se","tee_params":"{}"}"#).unwrap();
    assert_eq!(parameters["tee"], "se");
    let many: ChallengeParameters = (0..17).map(|n| (n.to_string(), String::new())).collect();
    assert!(challenge(many).is_err());
    assert!(challenge([("k".to_owned(), "v".repeat((64 << 10) + 1))].into()).is_err());
    assert!(rest::challenge(br#"{"tee":1}"#).is_err());
    let list = [PolicyInfo { id: "p".into(), digest: "d".into() }];
    assert_eq!(rest::policy_list(&list), json!([{ "policy-id": "p", "policy-hash": "d" }]));
}

proptest::proptest! {
    #[test]
    fn any_body_is_read_or_refused(body: Vec<u8>) {
        let _ = rest::attestation(&body);
        let _ = rest::policy(&body);
        let _ = rest::challenge(&body);
    }
}

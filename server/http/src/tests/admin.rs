//! Claims about the admin's calls: who is let in, what is listed, and that upstream's client works.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use coffer_core_digest::Digest;
use coffer_core_launch::ReferenceValues;
use coffer_core_protocol::jws::SigningKey;
use reqwest::Method;
use serde_json::{Value, json};

use super::lab::{COMMAND_LINE, Lab, SECRET, admin_token, reference, refusal};

const CALLS: [(&str, &str); 42] = [
    ("GET", "/coffer/v1/attempts/x/evidence"),
    ("GET", "/coffer/v1/attestation-policies"),
    ("GET", "/coffer/v1/attestation-policies/x"),
    ("PUT", "/coffer/v1/attestation-policies/x"),
    ("DELETE", "/coffer/v1/attestation-policies/x"),
    ("GET", "/coffer/v1/named-values"),
    ("PUT", "/coffer/v1/named-values/x"),
    ("DELETE", "/coffer/v1/named-values/x"),
    ("GET", "/coffer/v1/platform-policy"),
    ("PUT", "/coffer/v1/platform-policy"),
    ("DELETE", "/coffer/v1/platform-policy"),
    ("GET", "/coffer/v1/endorsements/cca"),
    ("PUT", "/coffer/v1/endorsements/cca"),
    ("DELETE", "/coffer/v1/endorsements/cca"),
    ("GET", "/coffer/v1/collateral"),
    ("POST", "/coffer/v1/collateral"),
    ("POST", "/coffer/v1/collateral/fetch"),
    ("GET", "/coffer/v1/collateral/bundle"),
    ("DELETE", "/coffer/v1/collateral/documents/intel/root-crl"),
    ("GET", "/kbs/v0/attestation-policy"),
    ("DELETE", "/kbs/v0/reference-value/x"),
    ("GET", "/coffer/v1/info"),
    ("GET", "/coffer/v1/resources"),
    ("GET", "/coffer/v1/attempts"),
    ("GET", "/coffer/v1/attempts/x"),
    ("GET", "/coffer/v1/policies"),
    ("GET", "/coffer/v1/policies/resource"),
    ("PUT", "/coffer/v1/policies/resource"),
    ("GET", "/coffer/v1/reference-values"),
    ("POST", "/coffer/v1/reference-values"),
    ("DELETE", "/coffer/v1/reference-values/x"),
    ("GET", "/coffer/v1/trust-anchors"),
    ("PUT", "/coffer/v1/trust-anchors/x"),
    ("DELETE", "/coffer/v1/trust-anchors/x"),
    ("POST", "/kbs/v0/resource/a/b/c"),
    ("DELETE", "/kbs/v0/resource/a/b/c"),
    ("POST", "/kbs/v0/resource-policy"),
    ("GET", "/kbs/v0/resource-policy"),
    ("POST", "/kbs/v0/attestation-policy"),
    ("POST", "/kbs/v0/reference-value"),
    ("GET", "/kbs/v0/reference-value"),
    ("GET", "/kbs/v0/reference-value/x"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_admin_call_refuses_everybody_else_with_the_same_words() {
    let lab = Lab::start(true).await;
    let stranger = SigningKey::generate_ed25519().unwrap();
    let own = lab.admin_key();
    let now = jiff::Timestamp::now().as_second();
    let guest = lab.attest(COMMAND_LINE).await;
    let tokens = [
        None,
        Some("nonsense".to_string()),
        Some(guest.token().to_string()),
        Some(admin_token(&stranger, json!({}))),
        Some(admin_token(&own, json!({"iat": now - 7200, "nbf": now - 7200, "exp": now - 1}))),
        Some(admin_token(&own, json!({"exp": now + 7201}))),
        Some(admin_token(&own, json!({"iat": now + 600, "exp": now + 700}))),
        Some(admin_token(&own, json!({"nbf": now + 600}))),
        Some(admin_token(&own, json!({"aud": "another broker"}))),
        Some(admin_token(&own, json!({"exp": "never"}))),
    ];
    let mut said: Option<Value> = None;
    for token in &tokens {
        for (method, path) in CALLS {
            let mut request = lab.http.request(method.parse().unwrap(), format!("{}{path}", lab.url));
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            let (status, code, body) = refusal(request.send().await.unwrap()).await;
            assert_eq!((status, code.as_str()), (401, "admin.unauthenticated"), "{method} {path}");
            assert_eq!(said.get_or_insert_with(|| body.clone()), &body);
        }
    }
    let other_case = lab.http.get(format!("{}/coffer/v1/info", lab.url));
    let token = admin_token(&own, json!({"aud": ["coffer-broker"]}));
    let response = other_case.header("authorization", format!("bearer {token}")).send().await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_are_listed_without_their_values() {
    let lab = Lab::start(true).await;
    lab.admin_ok(Method::POST, "/kbs/v0/resource/default/key/1", "another").await;
    let list = lab.admin_json("/coffer/v1/resources").await;
    let first = &list["resources"][0];
    assert_eq!(
        (first["path"].as_str(), first["bytes"].as_u64(), first["version"].as_u64()),
        (Some("default/key/1"), Some(7), Some(2))
    );
    assert!(!list.to_string().contains("another"));
    assert_eq!(lab.admin_json("/coffer/v1/info").await["resource_policy"], "default");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_none_and_a_value_that_is_too_long_are_refused() {
    let lab = Lab::start(true).await;
    for path in ["a/b/..", "a/b/c%2Fd", "a/%2e%2e/c", "a/b/c%00"] {
        let response = lab.admin(Method::POST, &format!("/kbs/v0/resource/{path}"), "x").await;
        assert_eq!(response.status(), 404, "{path}");
    }
    let response = lab.admin(Method::POST, "/kbs/v0/resource/a/b/c", vec![0; (2 << 20) + 1]).await;
    let (status, code, _) = refusal(response).await;
    assert_eq!((status, code.as_str()), (413, "request.too-large"));
    lab.admin_ok(Method::POST, "/kbs/v0/resource/a/b/c", vec![0; 2 << 20]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_does_not_compile_changes_nothing() {
    let lab = Lab::start(true).await;
    for body in [
        json!({"rego": "package policy"}),
        json!({"preset": "lab"}),
        json!({}),
        json!({"rego": "package policy\nallow := true", "preset": "default"}),
    ] {
        let response = lab.admin(Method::PUT, "/coffer/v1/policies/resource", body.to_string()).await;
        let (status, code, _) = refusal(response).await;
        assert_eq!((status, code.as_str()), (400, "policy.invalid"), "{body}");
    }
    assert_eq!(lab.admin_json("/coffer/v1/policies/resource").await["preset"], "default");
    let session = lab.attest(COMMAND_LINE).await;
    assert_eq!(lab.resource(session.token(), "default/key/1").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_client_can_set_policy_and_reference_values() {
    let lab = Lab::start(true).await;
    let rego = "package policy\nimport rego.v1\ndefault allow := false\n\
        allow if { every name, submod in input.submods { submod[\"ear.status\"] == \"affirming\" } }";
    for policy in [URL_SAFE_NO_PAD.encode(rego), STANDARD.encode(rego)] {
        lab.admin_ok(Method::POST, "/kbs/v0/resource-policy", json!({"policy": policy}).to_string()).await;
    }
    assert_eq!(lab.admin_json("/kbs/v0/resource-policy").await, json!(["resource"]));
    let session = lab.attest(COMMAND_LINE).await;
    let response = lab.resource(session.token(), "default/key/1").await;
    assert!(session.open(&response.bytes().await.unwrap()).unwrap().equals(SECRET));

    let other = reference("quiet");
    let payload = STANDARD.encode(serde_json::to_vec(&other).unwrap());
    let message = json!({"version": "0.1.0", "type": "sample", "payload": payload});
    lab.admin_ok(Method::POST, "/kbs/v0/reference-value", message.to_string()).await;
    assert_eq!(lab.admin_json(&format!("/kbs/v0/reference-value/{}", other.id())).await["id"], other.id());
    let session = lab.attest("quiet").await;
    assert_eq!(lab.resource(session.token(), "default/key/1").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_no_known_type_are_refused_and_not_stored() {
    let lab = Lab::start(true).await;
    for message in [
        json!({"version": "0.1.0", "type": "swid", "payload": ""}),
        json!({"version": "0.1.0", "type": "sample", "payload": STANDARD.encode("[1]")}),
        json!({"version": "0.1.0", "type": "corim", "payload": STANDARD.encode("[1]")}),
    ] {
        let response = lab.admin(Method::POST, "/kbs/v0/reference-value", message.to_string()).await;
        assert_eq!(refusal(response).await.1, "reference.invalid", "{message}");
    }
    assert_eq!(lab.admin_json("/coffer/v1/named-values").await, json!({"named_values": {}}));
    let (_, code, _) = refusal(lab.admin(Method::PUT, "/coffer/v1/policies/other", "{}").await).await;
    assert_eq!(code, "policy.invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_value_that_leaves_a_register_to_the_host_is_refused_and_not_stored() {
    let lab = Lab::start(true).await;
    let before = lab.admin_json("/coffer/v1/reference-values").await;
    for left_out in [0, 4, 8, 9] {
        let partial = without(reference("quiet"), left_out);
        let text = serde_json::to_string(&partial).unwrap();
        let message = json!({"version": "0.1.0", "type": "sample", "payload": STANDARD.encode(&text)});
        for (path, body) in
            [("/coffer/v1/reference-values", text), ("/kbs/v0/reference-value", message.to_string())]
        {
            let (status, code, body) = refusal(lab.admin(Method::POST, path, body).await).await;
            assert_eq!((status, code.as_str()), (400, "reference.incomplete"), "{path}");
            assert!(body["detail"].as_str().unwrap().contains(&format!("pcr{left_out}")), "{body}");
        }
    }
    assert_eq!(lab.admin_json("/coffer/v1/reference-values").await, before);
}

/// The same values without one register.
fn without(values: ReferenceValues, register: u32) -> ReferenceValues {
    let mut json = serde_json::to_value(values).unwrap();
    json["registers"].as_object_mut().unwrap().remove(&format!("pcr{register}")).unwrap();
    let registers: BTreeMap<String, Digest> = serde_json::from_value(json["registers"].clone()).unwrap();
    let lines: String = registers.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    let id = Digest::sha256(format!("tpm\nsha256\n{lines}").as_bytes()).hex();
    json["id"] = format!("tpm-{}", &id[..24]).into();
    serde_json::from_value(json).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_can_be_distrusted_at_once() {
    let lab = Lab::start(true).await;
    lab.attest(COMMAND_LINE).await;
    lab.admin_ok(Method::DELETE, "/coffer/v1/trust-anchors/lab", "").await;
    assert_eq!(lab.admin(Method::DELETE, "/coffer/v1/trust-anchors/lab", "").await.status(), 404);
    let key = coffer_core_protocol::tee_key::TeeKey::generate().unwrap();
    let challenge = lab.challenge(coffer_core_protocol::Tee::Tpm, key).await;
    let evidence = super::lab::evidence(&lab.tpm, &challenge.report_data, COMMAND_LINE);
    let (_, body) = challenge.challenged.evidence(evidence, "", None).unwrap();
    assert_eq!(lab.send(&challenge.cookie, body).await.status(), 403);
    for certificate in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let body = json!({"certificate": certificate, "hardware": true}).to_string();
        let response = lab.admin(Method::PUT, "/coffer/v1/trust-anchors/bad", body).await;
        assert_eq!(response.status(), 400, "{certificate:?}");
    }
}

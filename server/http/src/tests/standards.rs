//! Claims about what owners judge by: appraisal policies with their versions, values by name, the platform policy.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::Method;
use serde_json::{Value, json};

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_protocol::Tee;
use coffer_core_protocol::tee_key::TeeKey;
use coffer_lab_testpki::EventLogBuilder;

use super::lab::{COMMAND_LINE, Lab, reference, refusal};

/// Affirms a guest whose PCR 9 is among the values of a name.
const POLICY: &str = r#"package policy
import rego.v1
default executables := 33
executables := 3 if input.tpm.pcr09 in query_reference_value("tpm_pcr9")
default hardware := 2
default configuration := 2
"#;

fn upstream(name: &str, rego: &str) -> String {
    json!({"type": "rego", "policy_id": name, "policy": URL_SAFE_NO_PAD.encode(rego)}).to_string()
}

async fn status(lab: &Lab, command_line: &str) -> String {
    let session = lab.attest(command_line).await;
    session.verdict().unwrap()["status"].as_str().unwrap().to_owned()
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_appraisal_policy_decides_with_the_values_of_its_names() {
    let lab = Lab::start(true).await;
    assert_eq!(status(&lab, COMMAND_LINE).await, "affirming");
    lab.admin_ok(Method::POST, "/kbs/v0/attestation-policy", upstream("default_cpu", POLICY)).await;
    // The attestation service's REST gives it back as it was sent, and tells those that there are.
    for name in ["default_cpu", "default"] {
        let text = lab.admin(Method::GET, &format!("/policy/{name}"), "").await.text().await.unwrap();
        assert_eq!(text, URL_SAFE_NO_PAD.encode(POLICY), "{name}");
    }
    let none = lab.admin(Method::GET, "/policy/other", "").await;
    assert_eq!(refusal(none).await.0, 404);
    let list = lab.admin_json("/policy").await;
    assert_eq!(list[0]["policy-id"], "default_cpu");
    assert!(list[0]["policy-hash"].is_string());
    // The policy asks for a value that is not there yet.
    let session = lab.attest(COMMAND_LINE).await;
    assert_eq!(session.verdict().unwrap()["status"], "warning");
    let cpu = claims(session.token())["submods"]["cpu0"].clone();
    assert_eq!(cpu["ear.appraisal-policy-id"], "default");
    assert_eq!(cpu["ear.trustworthiness-vector"]["executables"], 33);

    let pcr9 = reference("quiet").registers()["pcr9"].hex();
    let payload = STANDARD.encode(json!({"tpm_pcr9": [pcr9], "svn": 1}).to_string());
    let message = json!({"version": "0.1.0", "type": "sample", "payload": payload}).to_string();
    lab.admin_ok(Method::POST, "/kbs/v0/reference-value", message).await;
    assert_eq!(status(&lab, "quiet").await, "affirming");
    assert_eq!(status(&lab, COMMAND_LINE).await, "warning");
    assert_eq!(lab.admin_json("/kbs/v0/reference-value/tpm_pcr9").await, json!([pcr9]));
    assert_eq!(lab.admin_json("/coffer/v1/named-values").await["named_values"]["svn"], 1);

    lab.admin_ok(Method::DELETE, "/kbs/v0/reference-value/tpm_pcr9", "").await;
    assert_eq!(status(&lab, "quiet").await, "warning");
    lab.admin_ok(Method::PUT, "/coffer/v1/named-values/tpm_pcr9", json!([pcr9]).to_string()).await;
    assert_eq!(status(&lab, "quiet").await, "affirming");
    lab.admin_ok(Method::DELETE, "/coffer/v1/attestation-policies/default_cpu", "").await;
    assert_eq!(status(&lab, COMMAND_LINE).await, "affirming", "reference values decide again");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_versions_of_a_policy_are_kept_and_told_apart() {
    let lab = Lab::start(true).await;
    let other = POLICY.replace("33", "97");
    for rego in [POLICY, POLICY, &other] {
        let body = json!({"rego": rego}).to_string();
        lab.admin_ok(Method::PUT, "/coffer/v1/attestation-policies/default_cpu", body).await;
    }
    let list = lab.admin_json("/coffer/v1/attestation-policies").await;
    let info = &list["attestation_policies"][0];
    assert_eq!((info["name"].as_str(), info["current"].as_u64()), (Some("default_cpu"), Some(2)));
    assert_eq!(info["in_force"], true);
    let digests: Vec<&str> = info["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|version| version["digest"].as_str().unwrap())
        .collect();
    assert_eq!(digests.len(), 2, "the same text again is no new version");
    assert_ne!(digests[0], digests[1]);
    let text = |path: &'static str| async { lab.admin_json(path).await["rego"].as_str().unwrap().to_owned() };
    assert_eq!(text("/coffer/v1/attestation-policies/default_cpu").await, other);
    assert_eq!(text("/coffer/v1/attestation-policies/default_cpu?version=1").await, POLICY);
    assert_eq!(text("/coffer/v1/attestation-policies/default").await, other, "upstream's older name");
    assert_eq!(status(&lab, COMMAND_LINE).await, "contraindicated");

    lab.admin_ok(Method::DELETE, "/coffer/v1/attestation-policies/default_cpu", "").await;
    let path = "/coffer/v1/attestation-policies/default_cpu";
    assert_eq!(lab.admin(Method::DELETE, path, "").await.status(), 404);
    assert_eq!(lab.admin(Method::GET, path, "").await.status(), 404);
    assert_eq!(text("/coffer/v1/attestation-policies/default_cpu?version=2").await, other);
    assert_eq!(lab.admin_json("/kbs/v0/attestation-policy").await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_appraises_nothing_says_so_in_the_list() {
    let lab = Lab::start(true).await;
    lab.admin_ok(Method::POST, "/kbs/v0/attestation-policy", upstream("mine", POLICY)).await;
    let list = lab.admin_json("/coffer/v1/attestation-policies").await;
    assert_eq!(list["attestation_policies"][0]["in_force"], false);
    assert_eq!(status(&lab, COMMAND_LINE).await, "affirming");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_does_not_compile_is_refused_and_what_was_in_force_stays() {
    let lab = Lab::start(true).await;
    lab.admin_ok(Method::POST, "/kbs/v0/attestation-policy", upstream("default_cpu", POLICY)).await;
    for body in [
        upstream("default_cpu", "package policy\nallow if {"),
        upstream("default_cpu", "package other\nexecutables := 3"),
        upstream("default_cpu", "package policy\nx := 1"),
        upstream("../x", POLICY),
        upstream("", POLICY),
        json!({"type": "cel", "policy_id": "default_cpu", "policy": ""}).to_string(),
        json!({"type": "rego", "policy_id": "default_cpu", "policy": "?"}).to_string(),
        json!({"policy": ""}).to_string(),
    ] {
        let response = lab.admin(Method::POST, "/kbs/v0/attestation-policy", body.clone()).await;
        let (status, code, _) = refusal(response).await;
        assert_eq!((status, code.as_str()), (400, "policy.invalid"), "{body}");
    }
    let body = json!({"preset": "default"}).to_string();
    let response = lab.admin(Method::PUT, "/coffer/v1/attestation-policies/default_cpu", body).await;
    assert_eq!(refusal(response).await.1, "policy.invalid");
    assert_eq!(status(&lab, COMMAND_LINE).await, "warning");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_policy_is_put_as_json_or_toml_and_taken_back() {
    let lab = Lab::start(true).await;
    let path = "/coffer/v1/platform-policy";
    let built_in = lab.admin_json(path).await;
    lab.admin_ok(Method::PUT, path, built_in.to_string()).await;
    assert_eq!(lab.admin_json(path).await, built_in);
    for body in ["{\"no-such-rule\": true}", "no-such-rule = true", "= ="] {
        let (status, code, _) = refusal(lab.admin(Method::PUT, path, body).await).await;
        assert_eq!((status, code.as_str()), (400, "policy.invalid"), "{body}");
    }
    lab.admin_ok(Method::DELETE, path, "").await;
    assert_eq!(lab.admin(Method::DELETE, path, "").await.status(), 404);
    assert_eq!(lab.admin_json(path).await, built_in);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_owners_judge_by_survives_a_restart() {
    let mut lab = Lab::start(true).await;
    lab.admin_ok(Method::POST, "/kbs/v0/attestation-policy", upstream("default_cpu", POLICY)).await;
    lab.admin_ok(Method::PUT, "/coffer/v1/named-values/a", "[1]").await;
    lab.stop().await;
    let Lab { broker, folder, .. } = lab;
    drop(broker);
    let broker = crate::Broker::open(crate::BrokerConfig::new(folder.path())).unwrap();
    let default = broker.inner().tenant(&coffer_core_admin::TenantName::default()).unwrap().unwrap();
    let in_force = default.in_force();
    let standards = &in_force.standards;
    assert_eq!(standards.values.get("a"), Some(&json!([1])));
    let history = crate::standards::History::read(&default.rows, "default_cpu").unwrap().unwrap();
    assert!(history.info("default_cpu").in_force);
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_is_kept_where_the_configuration_says_and_no_more_of_it() {
    let lab = Lab::configured(crate::all_judges(), None, |config| config.keep_evidence = 2).await;
    let mut attempts = Vec::new();
    for _ in 0..3 {
        let challenge = lab
            .challenge(
                coffer_core_protocol::Tee::Tpm,
                coffer_core_protocol::tee_key::TeeKey::generate().unwrap(),
            )
            .await;
        attempts.push(challenge.challenged.attempt());
        let evidence = super::lab::evidence(&lab.tpm, &challenge.report_data, COMMAND_LINE);
        lab.answer(challenge, evidence, "").await;
    }
    for (attempt, status) in attempts.iter().zip([404, 200, 200]) {
        let path = format!("/coffer/v1/attempts/{attempt}/evidence");
        assert_eq!(lab.admin(Method::GET, &path, "").await.status(), status);
    }
    let evidence = lab.admin_json(&format!("/coffer/v1/attempts/{}/evidence", attempts[2])).await;
    assert_eq!(evidence["tee"], "tpm");
    assert!(evidence["tee-evidence"]["primary_evidence"]["tpm_quote"].is_object());
}

#[tokio::test(flavor = "multi_thread")]
async fn reference_values_come_as_corim_too_and_a_signed_one_is_sent_back_to_who_has_the_key() {
    let lab = Lab::start(true).await;
    assert_eq!(status(&lab, "quiet").await, "contraindicated");
    let corim = coffer_core_corim::to_corim(&reference("quiet")).unwrap();
    let message = |payload: &[u8]| {
        json!({"version": "0.1.0", "type": "corim", "payload": STANDARD.encode(payload)}).to_string()
    };
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let key = coffer_core_corim::SigningKey::from_pem(&key).unwrap();
    let signed = coffer_core_corim::sign(&corim, &key, "a test").unwrap();
    let response = lab.admin(Method::POST, "/kbs/v0/reference-value", message(&signed)).await;
    let (_, code, body) = refusal(response).await;
    assert_eq!(code, "reference.invalid");
    assert!(body["detail"].as_str().unwrap().contains("coffer ref signer add"));
    lab.admin_ok(Method::POST, "/kbs/v0/reference-value", message(&corim)).await;
    assert_eq!(status(&lab, "quiet").await, "affirming");
    // Another's document, by name, as long as it says of itself that it holds.
    let mut other = coffer_core_corim::Corim::parse(&corim).unwrap();
    other.profiles = vec!["http://example.com/other".to_owned()];
    for (not_after, accepted) in [(i64::MAX, true), (1, false)] {
        other.validity = Some(coffer_core_corim::Validity { not_before: None, not_after });
        let body = message(&other.to_bytes());
        let response = lab.admin(Method::POST, "/kbs/v0/reference-value", body).await;
        assert_eq!(response.status().is_success(), accepted, "{not_after}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_arm_platforms_are_put_and_what_is_none_is_refused() {
    let lab = Lab::start(true).await;
    let path = "/coffer/v1/endorsements/cca";
    assert_eq!(lab.admin(Method::GET, path, "").await.status(), 404);
    for bad in ["", "[1]", "{\"pkey\": 1}"] {
        let (status, code, _) = refusal(lab.admin(Method::PUT, path, bad).await).await;
        assert_eq!((status, code.as_str()), (400, "request.malformed"), "{bad}");
    }
    assert_eq!(lab.admin(Method::GET, path, "").await.status(), 404);
    lab.admin_ok(Method::PUT, path, "[]").await;
    assert_eq!(lab.admin_json(path).await, json!([]));
    lab.admin_ok(Method::DELETE, path, "").await;
    assert_eq!(lab.admin(Method::GET, path, "").await.status(), 404);
}

/// Denies by what is in the log, and else allows.
const ABOUT_LOGS: &str = r#"package policy
import rego.v1
deny contains "an event that is not wanted" if {
    some event in input.submods.cpu0["ear.veraison.annotated-evidence"].tpm.event_log
    event.register == 7
}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_on_a_claim_is_not_escaped_by_making_the_claim_long() {
    let lab = Lab::start(true).await;
    let rego = json!({"rego": ABOUT_LOGS}).to_string();
    lab.admin_ok(Method::PUT, "/coffer/v1/policies/resource", rego).await;
    let mut codes = Vec::new();
    for events in [2_u8, 200] {
        let challenge = lab.challenge(Tee::Tpm, TeeKey::generate().unwrap()).await;
        let log = (0..events).fold(EventLogBuilder::new(Algorithm::Sha256), |log, number| {
            log.event_with(8, super::lab::EVENT_TAG, &Digest::sha256(&[number]), b"an event")
        });
        let (log, registers) = log.finish();
        let evidence = lab.tpm.evidence(&challenge.report_data.field(), registers, &log);
        let (attesting, body) = challenge.challenged.evidence(evidence, "", None).unwrap();
        let session = super::lab::finish(attesting, lab.send(&challenge.cookie, body).await).await;
        let about = claims(session.token())["submods"]["cpu0"]["ear.veraison.annotated-evidence"].clone();
        let response = lab.resource(session.token(), "default/key/1").await;
        match response.status().as_u16() {
            200 => assert!(about["tpm"]["event_log"].is_array() && about["coffer"]["omitted"].is_null()),
            _ => {
                assert_eq!(about["coffer"]["omitted"], json!(["tpm.event_log"]));
                let (_, _, body) = refusal(response).await;
                codes = body["causes"].as_array().unwrap().clone();
            }
        }
    }
    assert!(codes.iter().any(|cause| cause["code"] == "policy.claim-left-out"), "{codes:?}");
}

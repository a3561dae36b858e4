//! Refusal twins: the exchange that works, with one defect each, refused with that reason.

use std::sync::atomic::Ordering;

use coffer_core_protocol::Tee;
use coffer_core_protocol::handshake::attester::Session;
use coffer_core_protocol::tee_key::TeeKey;
use coffer_lab_testpki::TpmFixture;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::lab::{COMMAND_LINE, Challenge, Lab, evidence, finish, refusal};

async fn challenge(lab: &Lab) -> Challenge {
    lab.challenge(Tee::Tpm, TeeKey::generate().unwrap()).await
}

async fn submit(lab: &Lab, challenge: Challenge, evidence: Value) -> Response {
    let (_, body) = challenge.challenged.evidence(evidence, "", None).unwrap();
    lab.send(&challenge.cookie, body).await
}

/// The codes of the causes.
fn causes(body: &Value) -> Vec<&str> {
    body["causes"]
        .as_array()
        .map_or(Vec::new(), |list| list.iter().filter_map(|cause| cause["code"].as_str()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_command_line_gets_a_token_but_no_secret_and_is_named() {
    let lab = Lab::start(true).await;
    let session = lab.attest("console=ttyS0 quiet init=/bin/sh").await;
    assert_eq!(session.verdict().unwrap()["status"], "contraindicated");
    let (status, code, body) = refusal(lab.resource(session.token(), "default/key/1").await).await;
    assert_eq!((status, code.as_str()), (403, "measurement.command-line"));
    assert!(body["type"].as_str().unwrap().ends_with("/PolicyDeny"));
    assert_eq!(body["attempt"], session.attempt());
    let cause = &body["causes"][0];
    assert!(cause["expected"].as_str().unwrap().contains(COMMAND_LINE), "{cause}");
    assert!(cause["found"].as_str().unwrap().contains("init=/bin/sh"), "{cause}");

    let attempt = lab.admin_json(&format!("/coffer/v1/attempts/{}", session.attempt())).await;
    assert_eq!(attempt["code"], "measurement.command-line");
    assert_eq!(attempt["decisions"][0]["outcome"], "refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn software_evidence_is_refused_by_default_and_taken_only_by_the_policy_that_names_it() {
    let lab = Lab::start(false).await;
    let session = lab.attest(COMMAND_LINE).await;
    assert_eq!(session.verdict().unwrap()["hardware"], false);
    let (status, code, body) = refusal(lab.resource(session.token(), "default/key/1").await).await;
    assert_eq!((status, code.as_str()), (403, "policy.software-evidence"));
    assert_eq!(causes(&body), ["policy.software-evidence"]);
    assert!(body["remedy"].as_str().unwrap().contains("insecure-lab"));
    lab.use_preset("insecure-lab").await;
    assert_eq!(lab.resource(session.token(), "default/key/1").await.status(), 200);
    let changed = lab.attest("quiet").await;
    let (_, code, _) = refusal(lab.resource(changed.token(), "default/key/1").await).await;
    assert_eq!(code, "measurement.command-line");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owners_policy_releases_nothing_to_software_that_it_does_not_name() {
    // Upstream's usual resource policy, unchanged.
    let rego = "package policy\nimport rego.v1\ndefault allow := false\n\
        allow if input.submods.cpu0[\"ear.status\"] == \"affirming\"\n";
    let named = format!("{rego}insecure_software_evidence := true\n");
    let put = async |lab: &Lab, rego: &str| {
        lab.admin_ok(Method::PUT, "/coffer/v1/policies/resource", json!({"rego": rego}).to_string()).await;
    };
    let lab = Lab::start(false).await;
    let session = lab.attest(COMMAND_LINE).await;
    assert_eq!(session.verdict().unwrap()["status"], "affirming");
    // In the same words as `default`, once.
    let (_, _, default) = refusal(lab.resource(session.token(), "default/key/1").await).await;
    for refuses in [rego, "package policy\nallow := true", "package policy\ndeny := false"] {
        put(&lab, refuses).await;
        let (status, code, body) = refusal(lab.resource(session.token(), "default/key/1").await).await;
        assert_eq!((status, code.as_str()), (403, "policy.software-evidence"), "{refuses}");
        assert_eq!(body["causes"], default["causes"], "{refuses}");
    }
    put(&lab, &named).await;
    assert_eq!(lab.resource(session.token(), "default/key/1").await.status(), 200);
    // It names software; it does not accept what else it refuses.
    let changed = lab.attest("quiet").await;
    assert_eq!(refusal(lab.resource(changed.token(), "default/key/1").await).await.0, 403);

    let hardware = Lab::start(true).await;
    put(&hardware, rego).await;
    let session = hardware.attest(COMMAND_LINE).await;
    assert_eq!(hardware.resource(session.token(), "default/key/1").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_for_another_nonce_or_key_is_refused_and_written_down() {
    let lab = Lab::start(true).await;
    let (first, second) = (challenge(&lab).await, challenge(&lab).await);
    let foreign = evidence(&lab.tpm, &first.report_data, COMMAND_LINE);
    let attempt = second.challenged.attempt();
    let (status, code, body) = refusal(submit(&lab, second, foreign).await).await;
    assert_eq!((status, body["attempt"].as_str()), (403, Some(attempt.as_str())));
    assert!(
        causes(&body).iter().any(|code| code.contains("freshness") || code.contains("binding")),
        "{code} {body}"
    );
    let kept = lab.admin_json(&format!("/coffer/v1/attempts/{attempt}")).await;
    assert_eq!((kept["genuine"].as_bool(), kept["code"].as_str()), (Some(false), Some(code.as_str())));
    let got = lab.http.get(format!("{}/kbs/v0/resource/default/key/1", lab.url));
    assert_eq!(refusal(got.send().await.unwrap()).await.1, "token.missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_register_breaks_the_quote() {
    let lab = Lab::start(true).await;
    let challenge = challenge(&lab).await;
    let mut evidence = evidence(&lab.tpm, &challenge.report_data, COMMAND_LINE);
    evidence["tpm_quote"]["pcrs"][9] = "11".repeat(32).into();
    let (status, _, body) = refusal(submit(&lab, challenge, evidence).await).await;
    assert_eq!(status, 403);
    assert!(causes(&body).iter().all(|code| code.starts_with("tpm.")), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tpm_under_a_root_that_nobody_trusts_is_refused() {
    let lab = Lab::start(true).await;
    let challenge = challenge(&lab).await;
    let evidence = evidence(&TpmFixture::default(), &challenge.report_data, COMMAND_LINE);
    let (status, code, _) = refusal(submit(&lab, challenge, evidence).await).await;
    assert_eq!(status, 403);
    assert!(code.contains("chain"), "{code}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_root_is_trusted_before_an_owner_says_so() {
    let lab = Lab::bare(crate::all_judges(), None).await;
    let challenge = challenge(&lab).await;
    let evidence = evidence(&lab.tpm, &challenge.report_data, COMMAND_LINE);
    assert_eq!(submit(&lab, challenge, evidence).await.status(), 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_reference_values_nothing_is_affirmed() {
    let lab = Lab::start(true).await;
    let id = super::lab::reference(COMMAND_LINE).id().to_string();
    lab.admin_ok(Method::DELETE, &format!("/coffer/v1/reference-values/{id}"), "").await;
    let session = lab.attest(COMMAND_LINE).await;
    let (_, code, _) = refusal(lab.resource(session.token(), "default/key/1").await).await;
    assert_eq!(code, "reference.none");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_that_was_changed_left_out_or_is_old_is_refused_by_its_own_code() {
    let lab = Lab::start(true).await;
    let attest = async |cookie: &str, body: Vec<u8>| refusal(lab.send(cookie, body).await).await;
    let challenge = challenge(&lab).await;
    let evidence = evidence(&lab.tpm, &challenge.report_data, COMMAND_LINE);
    let (_, body) = challenge.challenged.evidence(evidence, "", None).unwrap();
    let cookie = challenge.cookie.clone();

    let mut changed = cookie.clone();
    let last = changed.pop().unwrap();
    changed.push(if last == 'A' { 'Q' } else { 'A' });
    let (status, code, _) = attest(&changed, body.clone()).await;
    assert_eq!(status, 401);
    assert!(["challenge.tampered", "challenge.malformed"].contains(&code.as_str()), "{code}");
    assert_eq!(attest("kbs-session-id=0123456789abcdef", body.clone()).await.1, "challenge.malformed");
    assert_eq!(attest("other=1", body.clone()).await.1, "challenge.missing");
    lab.ahead.store(301, Ordering::SeqCst);
    assert_eq!(attest(&cookie, body.clone()).await.1, "challenge.expired");
    lab.ahead.store(0, Ordering::SeqCst);
    assert_eq!(lab.send(&cookie, body).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_a_foreign_and_a_changed_token_are_refused() {
    let lab = Lab::start(true).await;
    let session = lab.attest(COMMAND_LINE).await;
    let get = async |token: &str| refusal(lab.resource(token, "default/key/1").await).await;
    let foreign = Lab::start(true).await.attest(COMMAND_LINE).await;
    assert_eq!(get(foreign.token()).await.1, "token.invalid");
    let (head, signature) = session.token().rsplit_once('.').unwrap();
    assert_eq!(get(&format!("{head}.{}", signature.replace(|c: char| c.is_ascii_digit(), "A"))).await.0, 401);
    assert_eq!(get("x.y.z").await.1, "token.invalid");
    lab.ahead.store(301, Ordering::SeqCst);
    let (status, code, _) = get(session.token()).await;
    assert_eq!((status, code.as_str()), (401, "token.expired"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_token_gives_only_what_its_own_key_opens() {
    let lab = Lab::start(true).await;
    let (victim, thief): (Session, Session) =
        (lab.attest(COMMAND_LINE).await, lab.attest(COMMAND_LINE).await);
    let sealed = lab.resource(victim.token(), "default/key/1").await.bytes().await.unwrap();
    assert!(thief.open(&sealed).is_err());
    assert!(victim.open(&sealed).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_attest_gives_the_same_token_and_nothing_else() {
    let lab = Lab::start(true).await;
    let challenge = challenge(&lab).await;
    let evidence = evidence(&lab.tpm, &challenge.report_data, COMMAND_LINE);
    let (attesting, body) = challenge.challenged.evidence(evidence, "", None).unwrap();
    let session = finish(attesting, lab.send(&challenge.cookie, body.clone()).await).await;
    let again: Value =
        serde_json::from_slice(&lab.send(&challenge.cookie, body.clone()).await.bytes().await.unwrap())
            .unwrap();
    assert_eq!(again["token"], session.token());
    // The same session with another key: still the first one's token.
    let mut other: Value = serde_json::from_slice(&body).unwrap();
    other["runtime-data"]["tee-pubkey"] = serde_json::to_value(TeeKey::generate().unwrap().public()).unwrap();
    let answer = lab.send(&challenge.cookie, other.to_string().into_bytes()).await;
    let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!(answer["token"], session.token());
    assert_eq!(lab.admin_json("/coffer/v1/attempts").await["attempts"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sample_evidence_has_no_judge_in_shipped_programs() {
    let lab = Lab::start(true).await;
    for tee in ["sample", "se", "nvidia", "no-such-tee"] {
        let body = json!({"version": "0.4.0", "tee": tee, "extra-params": ""}).to_string();
        let response = lab.http.post(format!("{}/kbs/v0/auth", lab.url)).body(body).send().await.unwrap();
        let (status, code, body) = refusal(response).await;
        assert_eq!((status, code.as_str()), (400, "protocol.tee"), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owners_own_policy_decides_by_path_and_explains_itself() {
    let lab = Lab::start(true).await;
    let rego = r#"package policy
        deny contains {"code": "policy.night", "message": "Not for you."} if data["resource-path"] == "default/key/1""#;
    lab.admin_ok(Method::PUT, "/coffer/v1/policies/resource", json!({"rego": rego}).to_string()).await;
    lab.admin_ok(Method::POST, "/kbs/v0/resource/default/key/2", "x").await;
    let session = lab.attest(COMMAND_LINE).await;
    let (status, code, body) = refusal(lab.resource(session.token(), "default/key/1").await).await;
    assert_eq!((status, code.as_str(), body["detail"].as_str()), (403, "policy.night", Some("Not for you.")));
    assert_eq!(lab.resource(session.token(), "default/key/2").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn device_evidence_that_nobody_judges_is_refused() {
    let lab = Lab::start(true).await;
    let challenge = challenge(&lab).await;
    let devices = r#"{"hygondcu":{"attestation_reports":[]}}"#;
    let report_data = challenge.challenged.report_data_with(devices).unwrap();
    let evidence = evidence(&lab.tpm, &report_data, COMMAND_LINE);
    let (_, response) = lab.answer(challenge, evidence, devices).await;
    let (status, code, body) = refusal(response).await;
    assert_eq!((status, code.as_str()), (400, "protocol.device"));
    assert!(body["detail"].as_str().unwrap().contains("\"hygondcu\" is not judged here; judged are: nvidia"));
}

#[tokio::test(flavor = "multi_thread")]
async fn device_evidence_that_is_no_map_is_refused() {
    let lab = Lab::start(true).await;
    for devices in ["[]", "nvidia", "{\"nvidia\":", "null"] {
        let challenge = challenge(&lab).await;
        let report_data = challenge.challenged.report_data_with(devices).unwrap();
        let evidence = evidence(&lab.tpm, &report_data, COMMAND_LINE);
        let (_, response) = lab.answer(challenge, evidence, devices).await;
        let (status, code, _) = refusal(response).await;
        assert_eq!((status, code.as_str()), (400, "protocol.additional-evidence"), "{devices}");
    }
}

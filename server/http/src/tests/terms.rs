//! Claims about the terms of a release: versions, counts, ends, revocations, and what changes while somebody asks.

use coffer_core_protocol::ear::Ear;
use reqwest::Method;
use serde_json::{Value, json};

use super::lab::{COMMAND_LINE, Lab, Person, SECRET, refusal};

const PLACE: &str = "/coffer/v1/resources/default/key/1";

async fn code(lab: &Lab, token: &str, path: &str) -> String {
    let response = lab.resource(token, path).await;
    match response.status().as_u16() {
        200 => "200".to_owned(),
        _ => refusal(response).await.1,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_one_time_secret_goes_to_one_attestation_and_to_that_as_often_as_it_asks() {
    let lab = Lab::start(true).await;
    lab.admin_ok(Method::PUT, &format!("{PLACE}?release_limit=1"), "once").await;
    let first = lab.attest(COMMAND_LINE).await;
    for _ in 0..3 {
        let response = lab.resource(first.token(), "default/key/1").await;
        assert!(first.open(&response.bytes().await.unwrap()).unwrap().equals(b"once"));
    }
    let second = lab.attest(COMMAND_LINE).await;
    assert_eq!(code(&lab, second.token(), "default/key/1").await, "resource.spent");
    let attempt = lab.admin_json(&format!("/coffer/v1/attempts/{}", second.attempt())).await;
    assert_eq!(attempt["decisions"][0]["outcome"], "refused");
    assert_eq!(attempt["decisions"][0]["causes"][0]["code"], "resource.spent");
    // A new version has a count of its own.
    lab.admin_ok(Method::PUT, &format!("{PLACE}?release_limit=2"), "twice").await;
    assert_eq!(code(&lab, second.token(), "default/key/1").await, "200");
    let list = lab.admin_json("/coffer/v1/resources").await;
    assert_eq!(
        (&list["resources"][0]["released"], &list["resources"][0]["release_limit"]),
        (&json!(1), &json!(2))
    );
    let none = lab.admin(Method::PUT, &format!("{PLACE}?release_limit=0"), "x").await;
    assert_eq!(refusal(none).await.1, "request.malformed");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_ask_at_once_get_a_counted_secret_as_often_as_its_count() {
    let lab = std::sync::Arc::new(Lab::start(true).await);
    lab.admin_ok(Method::PUT, &format!("{PLACE}?release_limit=5"), "five").await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let lab = lab.clone();
        asking.spawn(async move {
            let session = lab.attest(COMMAND_LINE).await;
            code(&lab, session.token(), "default/key/1").await
        });
    }
    let codes = asking.join_all().await;
    assert_eq!(codes.iter().filter(|code| *code == "200").count(), 5, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| *code == "resource.spent").count(), 11, "{codes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_past_its_end_goes_to_nobody() {
    let lab = Lab::start(true).await;
    let end = jiff::Timestamp::now().checked_add(jiff::SignedDuration::from_secs(100)).unwrap();
    let end = end.strftime("%Y-%m-%dT%H:%M:%SZ");
    lab.admin_ok(Method::PUT, &format!("{PLACE}?expires_at={end}"), "short").await;
    let session = lab.attest(COMMAND_LINE).await;
    assert_eq!(code(&lab, session.token(), "default/key/1").await, "200");
    lab.ahead.store(120, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(code(&lab, session.token(), "default/key/1").await, "resource.expired");
    let past = lab.admin(Method::PUT, &format!("{PLACE}?expires_at={end}"), "x").await;
    assert_eq!(refusal(past).await.1, "request.malformed");
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_asked_for_by_number_and_conflicts_are_told() {
    let lab = Lab::start(true).await;
    lab.admin_ok(Method::PUT, &format!("{PLACE}?if_version=1"), "two").await;
    let conflict = lab.admin(Method::PUT, &format!("{PLACE}?if_version=1"), "three").await;
    assert_eq!(refusal(conflict).await.1, "resource.conflict");
    let session = lab.attest(COMMAND_LINE).await;
    for (path, value) in [
        ("default/key/1", &b"two"[..]),
        ("default/key/1?version=1", SECRET),
        ("default/key/1?version=2", b"two"),
    ] {
        let response = lab.resource(session.token(), path).await;
        assert!(session.open(&response.bytes().await.unwrap()).unwrap().equals(value), "{path}");
    }
    assert_eq!(code(&lab, session.token(), "default/key/1?version=9").await, "resource.missing");
    let versions = lab.admin_json(PLACE).await;
    assert_eq!(versions["versions"].as_array().unwrap().len(), 2);
    assert!(!versions.to_string().contains("two"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_secret_goes_to_nobody_from_the_moment_the_owner_was_answered() {
    let lab = Lab::start(true).await;
    let session = lab.attest(COMMAND_LINE).await;
    assert_eq!(code(&lab, session.token(), "default/key/1").await, "200");
    let revoke = json!({"state": "revoked", "reason": "leaked"}).to_string();
    lab.admin_ok(Method::PUT, &format!("{PLACE}/state"), revoke).await;
    assert_eq!(code(&lab, session.token(), "default/key/1").await, "resource.revoked");
    let versions = lab.admin_json(PLACE).await;
    assert_eq!(versions["versions"][0]["reason"], "leaked");
    lab.admin_ok(Method::PUT, &format!("{PLACE}/state"), json!({"state": "active"}).to_string()).await;
    assert_eq!(code(&lab, session.token(), "default/key/1").await, "200");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_to_a_revoked_measurement_init_data_or_attempt_under_any_policy() {
    let lab = Lab::start(true).await;
    let open = "package policy\nimport rego.v1\ndefault allow := true\ninsecure_software_evidence := true\n";
    lab.admin_ok(Method::PUT, "/coffer/v1/policies/resource", json!({"rego": open}).to_string()).await;
    let session = lab.attest(COMMAND_LINE).await;
    assert_eq!(code(&lab, session.token(), "default/key/1").await, "200");
    let attempt = lab.admin_json(&format!("/coffer/v1/attempts/{}", session.attempt())).await;
    let register =
        attempt["claims"]["submods"]["cpu0"]["ear.veraison.annotated-evidence"]["tpm"]["pcr04"].as_str();
    let register = register.expect("a register in the claims").to_ascii_uppercase();
    for (kind, value) in [("measurement", register.as_str()), ("attempt", session.attempt())] {
        let body = json!({"kind": kind, "value": value, "reason": "leaked"}).to_string();
        let response = lab.admin(Method::POST, "/coffer/v1/revocations", body).await;
        let revocation: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        let refused = lab.resource(session.token(), "default/key/1").await;
        let (status, found, body) = refusal(refused).await;
        assert_eq!((status, found), (403, format!("revoked.{kind}")), "{body}");
        lab.admin_ok(
            Method::DELETE,
            &format!("/coffer/v1/revocations/{}", revocation["id"].as_str().unwrap()),
            "",
        )
        .await;
        assert_eq!(code(&lab, session.token(), "default/key/1").await, "200");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generated_key_is_never_shown_and_goes_to_guests_only() {
    let lab = Lab::start(true).await;
    let place = "/coffer/v1/resources/default/key/made";
    let response =
        lab.admin(Method::POST, &format!("{place}/generate"), json!({"bytes": 48}).to_string()).await;
    assert_eq!(response.text().await.unwrap(), r#"{"path":"default/key/made","version":1}"#);
    assert_eq!(lab.admin_json(place).await["versions"][0]["origin"], "generated");
    let session = lab.attest(COMMAND_LINE).await;
    let response = lab.resource(session.token(), "default/key/made").await;
    assert_eq!(session.open(&response.bytes().await.unwrap()).unwrap().expose().len(), 48);
    for bytes in [0, 15, 4097] {
        let body = json!({"bytes": bytes}).to_string();
        let refused = lab.admin(Method::POST, &format!("{place}/generate"), body).await;
        assert_eq!(refusal(refused).await.1, "request.malformed", "{bytes}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_decide_about_the_paths_that_they_name() {
    let lab = Lab::start(false).await;
    lab.admin_ok(Method::PUT, "/coffer/v1/resources/lab/key/1", "for the lab").await;
    let body = json!({"preset": "insecure-lab", "paths": ["lab/**"]}).to_string();
    lab.admin_ok(Method::PUT, "/coffer/v1/policies/lab", body).await;
    let session = lab.attest(COMMAND_LINE).await;
    assert_eq!(code(&lab, session.token(), "lab/key/1").await, "200");
    assert_eq!(code(&lab, session.token(), "default/key/1").await, "policy.software-evidence");
    let for_another = json!({"preset": "insecure-lab", "paths": ["default/**"], "tees": ["snp"]}).to_string();
    lab.admin_ok(Method::PUT, "/coffer/v1/policies/other", for_another).await;
    assert_eq!(code(&lab, session.token(), "default/key/1").await, "policy.software-evidence");
    assert_eq!(lab.admin_json("/coffer/v1/policies").await["policies"], json!(["lab", "other", "resource"]));
    lab.admin_ok(Method::DELETE, "/coffer/v1/policies/lab", "").await;
    assert_eq!(code(&lab, session.token(), "lab/key/1").await, "policy.software-evidence");
}

#[tokio::test(flavor = "multi_thread")]
async fn reference_values_end_are_revoked_and_do_not_come_back_by_an_import() {
    let lab = Lab::start(true).await;
    let reference = super::lab::reference(COMMAND_LINE);
    let listed = lab.admin_json("/coffer/v1/reference-values").await;
    let about = &listed["reference_values"][0];
    assert_eq!(
        (&about["provenance"]["by"], &about["provenance"]["source"]),
        (&json!("first-admin"), &json!("json"))
    );
    let state = format!("/coffer/v1/reference-values/{}/state", reference.id());
    lab.admin_ok(Method::PUT, &state, json!({"revoked": true, "reason": "old"}).to_string()).await;
    let session = lab.attest(COMMAND_LINE).await;
    assert_ne!(code(&lab, session.token(), "default/key/1").await, "200");
    let again = serde_json::to_string(&reference).unwrap();
    let refused = lab.admin(Method::POST, "/coffer/v1/reference-values", again).await;
    assert_eq!(refusal(refused).await.1, "resource.conflict");
    lab.admin_ok(Method::PUT, &state, json!({"revoked": false}).to_string()).await;
    let session = lab.attest(COMMAND_LINE).await;
    assert_eq!(code(&lab, session.token(), "default/key/1").await, "200");
    lab.admin_ok(Method::PUT, &state, json!({"expires_at": "2001-01-01T00:00:00Z"}).to_string()).await;
    let session = lab.attest(COMMAND_LINE).await;
    assert_ne!(code(&lab, session.token(), "default/key/1").await, "200");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_signatures_are_required_only_signed_reference_values_are_taken() {
    let lab = Lab::start(true).await;
    let pair = rcgen::KeyPair::generate().unwrap();
    let key = coffer_core_corim::SigningKey::from_pem(&pair.serialize_pem()).unwrap();
    let corim = coffer_core_corim::to_corim(&super::lab::reference("quiet")).unwrap();
    let signed = coffer_core_corim::sign(&corim, &key, "a build machine").unwrap();
    let add = |body: Vec<u8>| lab.admin(Method::POST, "/coffer/v1/reference-values", body);
    let (_, code, body) = refusal(add(signed.clone()).await).await;
    assert_eq!(code, "reference.invalid", "{body}");
    let signers = json!({"required": true, "keys": {"build": pair.public_key_pem()}}).to_string();
    lab.admin_ok(Method::PUT, "/coffer/v1/reference-signers", signers).await;
    assert_eq!(refusal(add(corim).await).await.1, "reference.invalid");
    let mut changed = signed.clone();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    assert_eq!(refusal(add(changed).await).await.1, "reference.invalid");
    assert!(add(signed).await.status().is_success());
    let listed = lab.admin_json("/coffer/v1/reference-values").await;
    let by = listed["reference_values"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|v| v["provenance"]["signed_by"].as_str());
    assert_eq!(by.collect::<Vec<_>>(), ["build"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_name_their_key_and_live_through_its_rotation() {
    let lab = Lab::start(true).await;
    let session = lab.attest(COMMAND_LINE).await;
    let keys = |lab: &Lab| {
        let request = lab.http.get(format!("{}/.well-known/jwks.json", lab.url)).send();
        async { serde_json::from_str::<Value>(&request.await.unwrap().text().await.unwrap()).unwrap() }
    };
    let before = keys(&lab).await;
    lab.admin_ok(Method::POST, "/coffer/v1/token-keys", "").await;
    assert_eq!(code(&lab, session.token(), "default/key/1").await, "200");
    let after = keys(&lab).await;
    assert_eq!((before["keys"].as_array().unwrap().len(), after["keys"].as_array().unwrap().len()), (1, 2));
    let next = lab.attest(COMMAND_LINE).await;
    let kid =
        |token: &str| coffer_core_protocol::jws::Compact::parse(token).unwrap().key_id().map(str::to_owned);
    assert!(kid(next.token()).is_some() && kid(next.token()) != kid(session.token()));
    assert!(
        after["keys"]
            .as_array()
            .unwrap()
            .iter()
            .any(|key| key["kid"].as_str() == kid(next.token()).as_deref())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_key_is_rotated_while_the_broker_serves() {
    let lab = Lab::start(true).await;
    let response = lab.admin(Method::POST, "/coffer/v1/data-keys", "").await;
    assert_eq!(response.status(), 202);
    let session = lab.attest(COMMAND_LINE).await;
    assert_eq!(code(&lab, session.token(), "default/key/1").await, "200");
}

#[tokio::test(flavor = "multi_thread")]
async fn how_many_rows_are_left_to_seal_anew_is_told_to_the_owner_and_the_operator() {
    let lab = Lab::start(true).await;
    let none = json!({"rows_left": 0, "counted": true, "unfinished": []});
    assert_eq!(lab.admin_json("/coffer/v1/cluster/data-keys").await, none);
    // As a rotation leaves it whose sealing was cut off.
    let store = lab.broker.inner().store();
    let default = coffer_core_admin::TenantName::default();
    let epoch = store.rotate_tenant_key(&default).unwrap();
    let own = lab.admin_json("/coffer/v1/data-keys").await;
    let rows = own["rows_left"].as_u64().unwrap();
    assert!(rows > 3, "{own}");
    assert_eq!(own, json!({"epoch": epoch, "older_keys": 1, "rows_left": rows, "counted": true}));
    let one =
        json!({"tenant": "default", "epoch": epoch, "older_keys": 1, "rows_left": rows, "counted": true});
    let all = json!({"rows_left": rows, "counted": true, "unfinished": [one]});
    assert_eq!(lab.admin_json("/coffer/v1/cluster/data-keys").await, all);
    assert_eq!(store.reseal(&default, 3).unwrap().moved, 3);
    assert_eq!(lab.admin_json("/coffer/v1/data-keys").await["rows_left"], rows - 3);
    let cluster = store.cluster().rotate_key().unwrap();
    let all = lab.admin_json("/coffer/v1/cluster/data-keys").await;
    assert_eq!(
        (&all["unfinished"][0]["tenant"], &all["unfinished"][0]["epoch"]),
        (&Value::Null, &json!(cluster))
    );
    while !store.reseal(&default, 100).unwrap().done {}
    while !store.cluster().reseal(100).unwrap().done {}
    assert_eq!(lab.admin_json("/coffer/v1/cluster/data-keys").await, none);
    let own = lab.admin_json("/coffer/v1/data-keys").await;
    assert_eq!(own, json!({"epoch": epoch, "older_keys": 0, "rows_left": 0, "counted": true}));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_authority_s_result_opens_what_policy_allows_and_no_more() {
    let lab = Lab::start(true).await;
    let other = Lab::start(true).await;
    let session = other.attest(COMMAND_LINE).await;
    assert_eq!(code(&lab, session.token(), "default/key/1").await, "token.invalid");
    let keys = other
        .http
        .get(format!("{}/.well-known/jwks.json", other.url))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let issuer = |hardware: bool| {
        json!({"issuers": [{"name": "other", "keys": {"inline": keys}, "issuer": "coffer-broker", "hardware": hardware}]}).to_string()
    };
    lab.admin_ok(Method::PUT, "/coffer/v1/token-issuers", issuer(false)).await;
    assert_eq!(code(&lab, session.token(), "default/key/1").await, "policy.software-evidence");
    lab.admin_ok(Method::PUT, "/coffer/v1/token-issuers", issuer(true)).await;
    let response = lab.resource(session.token(), "default/key/1").await;
    assert!(session.open(&response.bytes().await.unwrap()).unwrap().equals(SECRET));
    let attempts = lab.admin_json("/coffer/v1/attempts").await;
    assert_eq!(attempts["attempts"].as_array().unwrap().len(), 1);
    // Twins: another issuer's name, a foreign key, a changed byte.
    let wrong = json!({"issuers": [{"name": "other", "keys": {"inline": keys}, "issuer": "somebody", "hardware": true}]});
    lab.admin_ok(Method::PUT, "/coffer/v1/token-issuers", wrong.to_string()).await;
    assert_eq!(code(&lab, session.token(), "default/key/1").await, "token.invalid");
    lab.admin_ok(Method::PUT, "/coffer/v1/token-issuers", issuer(true)).await;
    let stranger = Lab::start(true).await.attest(COMMAND_LINE).await;
    assert_eq!(code(&lab, stranger.token(), "default/key/1").await, "token.invalid");
    let mut changed = session.token().to_owned().into_bytes();
    let at = changed.len() - 20;
    changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
    assert_eq!(code(&lab, std::str::from_utf8(&changed).unwrap(), "default/key/1").await, "token.invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_attestation_service_gives_results_that_open_nothing_here() {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let lab = Lab::start(true).await;
    let key = coffer_core_protocol::tee_key::TeeKey::generate().unwrap();
    let runtime = json!({"nonce": "AAAA", "tee-pubkey": serde_json::to_value(key.public()).unwrap(), "additional-evidence": ""});
    let digest =
        coffer_core_protocol::jcs::digest(coffer_core_protocol::Algorithm::Sha384, &runtime).unwrap();
    let report_data = coffer_core_protocol::ReportData::from_runtime_hash(digest);
    let evidence = super::lab::evidence(&lab.tpm, &report_data, COMMAND_LINE);
    let body = |runtime: &Value| {
        json!({"verification_requests": [{
            "tee": "tpm", "evidence": URL_SAFE_NO_PAD.encode(evidence.to_string()),
            "runtime_data": {"structured": runtime}, "runtime_data_hash_algorithm": "sha384",
        }], "policy_ids": ["default"]})
        .to_string()
    };
    let stranger =
        lab.http.post(format!("{}/attestation", lab.url)).body(body(&runtime)).send().await.unwrap();
    assert_eq!(refusal(stranger).await.1, "admin.unauthenticated");
    let response = lab.admin(Method::POST, "/attestation", body(&runtime)).await;
    let status = response.status();
    let token = response.text().await.unwrap();
    assert!(status.is_success(), "{token}");
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let ear: Ear = serde_json::from_slice(&payload).unwrap();
    assert_eq!(
        (ear.iss.as_str(), ear.cpu().unwrap().status.name()),
        ("coffer-attestation-service", "affirming")
    );
    assert_eq!(code(&lab, &token, "default/key/1").await, "token.invalid");
    let other = json!({"nonce": "BBBB"});
    assert_eq!(
        refusal(lab.admin(Method::POST, "/attestation", body(&other)).await).await.1,
        "tpm.quote.freshness"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn data_keys_are_unwrapped_for_attested_guests_and_each_use_is_written_down() {
    use base64::Engine;
    let lab = Lab::start(true).await;
    let create = json!({"insecure_plaintext_over_tls": true}).to_string();
    lab.admin_ok(Method::POST, "/v1/transit/keys/table", create).await;
    let plaintext = base64::engine::general_purpose::STANDARD.encode("a data key of 32 bytes, just as is");
    let session = lab.attest(COMMAND_LINE).await;
    let call = |path: &str, token: Option<&str>, body: Value| {
        let mut request = lab.http.post(format!("{}/v1/transit/{path}", lab.url)).body(body.to_string());
        if let Some(token) = token {
            request = request.header("x-vault-token", token);
        }
        async { request.send().await.unwrap() }
    };
    let wrapped = call("encrypt/table", Some(session.token()), json!({"plaintext": plaintext})).await;
    let status = wrapped.status();
    let wrapped: Value = serde_json::from_str(&wrapped.text().await.unwrap()).unwrap();
    assert!(status.is_success(), "{wrapped}");
    let ciphertext = wrapped["data"]["ciphertext"].clone();
    let opened = call("decrypt/table", Some(session.token()), json!({"ciphertext": ciphertext})).await;
    let opened: Value = serde_json::from_str(&opened.text().await.unwrap()).unwrap();
    assert_eq!(opened["data"]["plaintext"], plaintext);
    let attempt = lab.admin_json(&format!("/coffer/v1/attempts/{}", session.attempt())).await;
    let uses: Vec<&str> =
        attempt["decisions"].as_array().unwrap().iter().filter_map(|d| d["resource"].as_str()).collect();
    assert_eq!(uses, ["wrapping/table", "wrapping/table"]);
    // Nobody, a guest that is not affirmed, and a guest that would manage.
    assert!(call("decrypt/table", None, json!({"ciphertext": ciphertext})).await.status().is_client_error());
    let other = lab.attest("another line").await;
    assert_eq!(
        call("decrypt/table", Some(other.token()), json!({"ciphertext": ciphertext})).await.status(),
        403
    );
    assert_eq!(call("keys/table/rotate", Some(session.token()), json!({})).await.status(), 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_metrics_say_what_they_should_to_whom_they_should() {
    let lab = Lab::start(true).await;
    let get = |path: &str| lab.http.get(format!("{}{path}", lab.url)).send();
    assert_eq!(get("/healthz").await.unwrap().status(), 200);
    assert_eq!(get("/readyz").await.unwrap().text().await.unwrap(), "ready\n");
    assert_eq!(get("/metrics").await.unwrap().status(), 401);
    let session = lab.attest(COMMAND_LINE).await;
    assert_eq!(code(&lab, session.token(), "default/key/1").await, "200");
    let text = lab.admin(Method::GET, "/metrics", "").await.text().await.unwrap();
    assert!(text.contains("coffer_decisions_total{outcome=\"released\",written=\"true\"} 1"), "{text}");
    assert!(text.contains("route=\"/kbs/v0/resource/{repository}/{kind}/{tag}\""), "{text}");
    assert!(!text.contains("default/key/1"));
    lab.broker.inner().drain();
    assert_eq!(get("/readyz").await.unwrap().status(), 503);
    assert_eq!(get("/healthz").await.unwrap().status(), 200);
    let stranger = Person::new();
    assert_eq!(lab.as_person(&stranger, Method::GET, "/metrics", "").await.status(), 401);
}

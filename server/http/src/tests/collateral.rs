//! Claims about evidence that needs documents: fetched or imported, missing or expired, each said by name.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_core_protocol::tee_key::TeeKey;
use coffer_core_protocol::{ReportData, Tee};
use coffer_lab_testpki::dcap::{DcapFixture, TrustDomain, list, rfc3339};
use coffer_server_collateral::{CollateralService, Settings};
use coffer_verify_api::{Collateral, CollateralKey, PckCa, Shelf};
use coffer_verify_dcap::Dcap;
use coffer_verify_tdx::TdxJudge;
use reqwest::Method;
use serde_json::{Value, json};

use super::lab::{Lab, finish, refusal};
use crate::{JudgeSet, Judges};

fn judges(fixture: &DcapFixture) -> Judges {
    let root = fixture.root.der().to_vec();
    Arc::new(move |_| {
        let dcap = Arc::new(Dcap::new(vec![root.clone()]).unwrap());
        Ok(JudgeSet { machines: vec![Arc::new(TdxJudge::new(dcap))], devices: Vec::new() })
    })
}

fn quote(fixture: &DcapFixture, report_data: &ReportData) -> Value {
    let domain = TrustDomain { report_data: report_data.field(), ..TrustDomain::default() };
    json!({"quote": STANDARD.encode(fixture.quote(4, &domain.body(2))), "cc_eventlog": null})
}

async fn attest(lab: &Lab, fixture: &DcapFixture) -> reqwest::Response {
    let challenge = lab.challenge(Tee::Tdx, TeeKey::generate().unwrap()).await;
    let evidence = quote(fixture, &challenge.report_data);
    lab.answer(challenge, evidence, "").await.1
}

/// The fixture's collateral, issued yesterday and good for a month from now.
fn shelf(fixture: &DcapFixture) -> Shelf {
    let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap();
    let (issued, next) = (now - 24 * 3600, now + 30 * 24 * 3600);
    let dated = |mut content: Value| {
        content["issueDate"] = rfc3339(issued).into();
        content["nextUpdate"] = rfc3339(next).into();
        content
    };
    let mut shelf = Shelf::default();
    let mut put = |key, document| shelf.put(key, Arc::new(document));
    put(fixture.tcb_info_key(), fixture.document("tcbInfo", &dated(fixture.tcb_info())));
    put(fixture.identity_key(), fixture.document("enclaveIdentity", &dated(fixture.identity())));
    put(CollateralKey::IntelRootCrl, list(fixture.root.crl(&[], issued, next)));
    put(CollateralKey::PckCrl(PckCa::Platform), list(fixture.ca.crl(&[], issued, next)));
    shelf
}

/// The fixture's collateral as a bundle.
fn bundle(fixture: &DcapFixture) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { offline: true, ..Settings::default() };
    let service = CollateralService::open(folder.path(), settings).unwrap();
    for (key, document) in shelf(fixture).iter() {
        service.put(key.clone(), document.as_ref().clone(), "a test", None).unwrap().unwrap();
    }
    service.export_tar(None).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_told_by_key_and_imported_evidence_is_judged() {
    let fixture = DcapFixture::tdx();
    let lab = Lab::bare(judges(&fixture), None).await;
    let response = attest(&lab, &fixture).await;
    assert_eq!(response.headers()["retry-after"], "5");
    let (status, code, body) = refusal(response).await;
    assert_eq!((status, code.as_str()), (503, "attestation.unavailable"), "{body}");
    let mut missing: Vec<String> = body["causes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cause| cause["expected"].as_str().unwrap().to_owned())
        .collect();
    missing.sort();
    let mut expected: Vec<String> = shelf(&fixture).iter().map(|(key, _)| key.to_string()).collect();
    expected.sort();
    assert_eq!(missing, expected);
    assert!(body["causes"][0]["found"].as_str().unwrap().contains("offline"));
    assert!(body["remedy"].as_str().unwrap().contains("coffer collateral"));
    let attempts = lab.admin_json("/coffer/v1/attempts").await;
    assert_eq!(attempts["attempts"][0]["code"], "attestation.unavailable");
    assert_eq!(attempts["attempts"][0]["status"], "none");

    let response = lab.admin(Method::POST, "/coffer/v1/collateral", bundle(&fixture)).await;
    assert_eq!(response.status(), 200);
    let listed = lab.admin_json("/coffer/v1/collateral").await;
    assert_eq!(listed["offline"], true);
    assert_eq!(listed["documents"].as_array().unwrap().len(), 4);
    assert_eq!(attest(&lab, &fixture).await.status(), 200);

    // Long after their end the judge refuses them by its own code: offline nothing newer can come.
    lab.ahead.store(50 * 365 * 24 * 3600, Ordering::SeqCst);
    let (status, code, body) = refusal(attest(&lab, &fixture).await).await;
    assert_eq!(status, 403, "{body}");
    assert!(code.starts_with("tdx."), "{code}");
    lab.ahead.store(0, Ordering::SeqCst);

    let key = "/coffer/v1/collateral/documents/intel/root-crl";
    lab.admin_ok(Method::DELETE, key, "").await;
    assert_eq!(lab.admin(Method::DELETE, key, "").await.status(), 404);
    assert_eq!(lab.admin_json("/coffer/v1/collateral").await["documents"].as_array().unwrap().len(), 3);
    let bundle = lab.admin(Method::GET, "/coffer/v1/collateral/bundle", "").await;
    assert!(bundle.bytes().await.unwrap().len() > 1024);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_signature_is_told_though_documents_are_missing() {
    let fixture = DcapFixture::tdx();
    let lab = Lab::bare(judges(&fixture), None).await;
    let challenge = lab.challenge(Tee::Tdx, TeeKey::generate().unwrap()).await;
    let mut evidence = quote(&fixture, &challenge.report_data);
    let mut bytes = STANDARD.decode(evidence["quote"].as_str().unwrap()).unwrap();
    bytes[48 + 200] ^= 1;
    evidence["quote"] = STANDARD.encode(bytes).into();
    let (status, code, _) = refusal(lab.answer(challenge, evidence, "").await.1).await;
    assert_eq!(status, 403);
    assert!(code.ends_with(".signature"), "{code}");
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_fetched_once_for_all_guests_that_wait() {
    let fixture = DcapFixture::tdx();
    let asked = Arc::new(AtomicUsize::new(0));
    let url = source(&fixture, asked.clone()).await;
    let lab = Lab::configured(judges(&fixture), None, |config| {
        config.collateral.offline = false;
        config.collateral.intel.pcs.clone_from(&url);
        config.collateral.intel.root_crl = format!("{url}/root");
    })
    .await;
    let guests = futures_of(&lab, &fixture, 16).await;
    assert!(guests.into_iter().all(|status| status == 200));
    assert_eq!(asked.load(Ordering::SeqCst), 4);
    let fetched = json!({"keys": ["intel/root-crl", "intel/tdx/tcb-info/000000000001"]});
    let response = lab.admin(Method::POST, "/coffer/v1/collateral/fetch", fetched.to_string()).await;
    let fetched: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert_eq!(fetched["results"][0]["document"]["state"], "fresh");
    assert!(fetched["results"][1]["error"].as_str().unwrap().contains("404"));
}

async fn futures_of(lab: &Lab, fixture: &DcapFixture, count: usize) -> Vec<u16> {
    let mut bodies = Vec::new();
    for _ in 0..count {
        let challenge = lab.challenge(Tee::Tdx, TeeKey::generate().unwrap()).await;
        let evidence = quote(fixture, &challenge.report_data);
        let (_, body) = challenge.challenged.evidence(evidence, "", None).unwrap();
        bodies.push((challenge.cookie, body));
    }
    let mut running = tokio::task::JoinSet::new();
    for (cookie, body) in bodies {
        let request = lab.http.post(format!("{}/kbs/v0/attest", lab.url)).header("cookie", cookie).body(body);
        running.spawn(async move { request.send().await.unwrap().status().as_u16() });
    }
    running.join_all().await
}

/// A certification service that has the fixture's documents, and takes its time.
async fn source(fixture: &DcapFixture, asked: Arc<AtomicUsize>) -> String {
    let all = shelf(fixture);
    let find = |key: CollateralKey| all.find(&key).unwrap();
    let ca_chain = [fixture.ca.pem(), fixture.root.pem()].concat();
    let documents = [
        ("/tdx/certification/v4/tcb", "tcb-info-issuer-chain", find(fixture.tcb_info_key()), None),
        (
            "/tdx/certification/v4/qe/identity",
            "sgx-enclave-identity-issuer-chain",
            find(fixture.identity_key()),
            None,
        ),
        (
            "/sgx/certification/v4/pckcrl",
            "sgx-pck-crl-issuer-chain",
            find(CollateralKey::PckCrl(PckCa::Platform)),
            Some(ca_chain),
        ),
        ("/root", "x-none", find(CollateralKey::IntelRootCrl), None),
    ];
    let fmspc = hex::encode(fixture.platform.fmspc);
    let answer = move |request: Request| {
        let (asked, documents, fmspc) = (asked.clone(), documents.clone(), fmspc.clone());
        async move {
            let other = request
                .uri()
                .query()
                .is_some_and(|query| query.contains("fmspc=") && !query.contains(&fmspc));
            let found = documents.iter().find(|(path, ..)| *path == request.uri().path() && !other);
            let Some((_, header, document, chain)) = found else {
                return (StatusCode::NOT_FOUND, HeaderMap::new(), Vec::new());
            };
            asked.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(std::time::Duration::from_millis(150)).await;
            let chain =
                chain.clone().unwrap_or_else(|| String::from_utf8(document.issuer_chain().to_vec()).unwrap());
            let mut headers = HeaderMap::new();
            headers.insert(*header, chain.replace('\n', "%0A").parse().unwrap());
            (StatusCode::OK, headers, document.body().to_vec())
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await.unwrap() });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_has_no_answer_is_named_in_the_refusal() {
    let fixture = DcapFixture::tdx();
    let lab = Lab::configured(judges(&fixture), None, |config| {
        config.collateral.offline = false;
        config.collateral.attempts = 1;
        // Nobody listens there.
        config.collateral.intel.pcs = "http://127.0.0.1:1".into();
        config.collateral.intel.root_crl = "http://127.0.0.1:1/root".into();
    })
    .await;
    let (status, code, body) = refusal(attest(&lab, &fixture).await).await;
    assert_eq!((status, code.as_str()), (503, "attestation.unavailable"));
    assert!(body["causes"][0]["found"].as_str().unwrap().contains("http://127.0.0.1:1/"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_of_nothing_known_and_a_key_of_nothing_are_refused() {
    let lab = Lab::start(true).await;
    for (body, code) in [(b"notes".to_vec(), "collateral.invalid"), (Vec::new(), "collateral.invalid")] {
        let response = lab.admin(Method::POST, "/coffer/v1/collateral", body).await;
        assert_eq!(refusal(response).await.1, code);
    }
    let body = json!({"keys": ["intel/../x"]}).to_string();
    let response = lab.admin(Method::POST, "/coffer/v1/collateral/fetch", body).await;
    assert_eq!(refusal(response).await.1, "collateral.key");
}

/// A session of a guest whose evidence needs collateral is as good as any other.
#[tokio::test(flavor = "multi_thread")]
async fn a_tdx_guest_whose_reference_value_is_there_gets_its_secret() {
    let fixture = DcapFixture::tdx();
    let lab = Lab::bare(judges(&fixture), None).await;
    lab.admin_ok(Method::POST, "/coffer/v1/collateral", bundle(&fixture)).await;
    lab.admin_ok(Method::POST, "/kbs/v0/resource/default/key/1", super::lab::SECRET.to_vec()).await;
    let domain = TrustDomain::default();
    let zero = "00".repeat(48);
    let register = |bytes: &[u8]| format!("sha384:{}", hex::encode(bytes));
    let values = json!({
        "mrtd": register(&domain.mr_td), "mrconfigid": format!("sha384:{zero}"),
        "rtmr0": format!("sha384:{zero}"), "rtmr1": format!("sha384:{zero}"), "rtmr2": format!("sha384:{zero}"),
    });
    let registers = serde_json::from_value(values).unwrap();
    let reference = coffer_core_launch::ReferenceValues::from_registers(
        Tee::Tdx,
        coffer_core_digest::Algorithm::Sha384,
        registers,
        std::collections::BTreeMap::new(),
        None,
    )
    .unwrap();
    let body = serde_json::to_vec(&reference).unwrap();
    lab.admin_ok(Method::POST, "/coffer/v1/reference-values", body).await;
    let challenge = lab.challenge(Tee::Tdx, TeeKey::generate().unwrap()).await;
    let evidence = quote(&fixture, &challenge.report_data);
    let (attesting, response) = lab.answer(challenge, evidence, "").await;
    let session = finish(attesting, response).await;
    assert_eq!(session.verdict().unwrap()["status"], "affirming", "{}", session.verdict().unwrap());
    let response = lab.resource(session.token(), "default/key/1").await;
    assert!(session.open(&response.bytes().await.unwrap()).unwrap().equals(super::lab::SECRET));
}

/// The judges of shipped programs, with the fixture's root for Intel's and the allowance of the settings.
fn allowing(fixture: &DcapFixture) -> Judges {
    let root = fixture.root.der().to_vec();
    Arc::new(move |trust| {
        let stale = u32::try_from(trust.stale_for.as_secs()).unwrap();
        let dcap = Dcap::new(vec![root.clone()]).unwrap().insecure_accept_stale_collateral(stale);
        Ok(JudgeSet { machines: vec![Arc::new(TdxJudge::new(Arc::new(dcap)))], devices: Vec::new() })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn past_its_end_collateral_is_used_only_for_as_long_as_the_configuration_says() {
    for (allowed, after_days, expected) in [(0, 31, 503), (7, 31, 200), (7, 38, 503)] {
        let fixture = DcapFixture::tdx();
        let lab = Lab::configured(allowing(&fixture), None, |config| {
            config.collateral.offline = false;
            config.collateral.attempts = 1;
            config.collateral.intel.pcs = "http://127.0.0.1:1".into();
            config.collateral.intel.root_crl = "http://127.0.0.1:1/root".into();
            config.collateral.stale_for = coffer_server_collateral::Period::seconds(allowed * 24 * 3600);
        })
        .await;
        lab.admin_ok(Method::POST, "/coffer/v1/collateral", bundle(&fixture)).await;
        assert_eq!(attest(&lab, &fixture).await.status(), 200);
        lab.ahead.store(after_days * 24 * 3600, Ordering::SeqCst);
        let response = attest(&lab, &fixture).await;
        assert_eq!(response.status(), expected, "{allowed} {after_days}");
        if expected == 503 {
            let (_, code, body) = refusal(response).await;
            assert_eq!(code, "attestation.unavailable");
            assert!(
                body["causes"][0]["found"].as_str().unwrap().contains("the cached document ended at"),
                "{body}"
            );
        }
    }
}

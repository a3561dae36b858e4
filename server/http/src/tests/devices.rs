//! Claims about devices beside the machine: each is judged, each has its place in the token, and a token of eight GPUs
//! is as good as a short one on every way in.

use std::sync::Arc;

use coffer_core_protocol::tee_key::TeeKey;
use coffer_core_protocol::{ReportData, Tee};
use coffer_lab_testpki::{NvidiaCertificate, NvidiaDevice, NvidiaKey, NvidiaReport, NvidiaRim};
use coffer_server_collateral::{CollateralService, Settings};
use coffer_verify_api::{CollateralKey, Document};
use coffer_verify_nvidia::NvidiaJudge;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::lab::{COMMAND_LINE, Challenge, Lab, SECRET, evidence, finish, pem, refusal};
use crate::{JudgeSet, Judges, Trust, all_judges};

/// GPUs, and who vouches for their manifests.
struct Rack {
    gpus: Vec<NvidiaDevice>,
    manifests: [NvidiaKey; 2],
}

impl Rack {
    fn new(count: usize) -> Self {
        let root = Arc::new(NvidiaKey::root(&NvidiaCertificate::new("A test's root", true)));
        let gpus =
            (0..count).map(|number| NvidiaDevice::new(&root, "GH100", &format!("{number:016x}"))).collect();
        let authority = NvidiaKey::root(&NvidiaCertificate::new("A test's root of manifests", true));
        let signer = authority.issue(&NvidiaCertificate::new("A test's manifests", false));
        Self { gpus, manifests: [signer, authority] }
    }

    /// The judges of shipped programs, with the rack's roots for devices.
    fn judges(&self) -> Judges {
        let devices: Vec<Vec<u8>> = self.gpus.iter().map(NvidiaDevice::root).collect();
        let nvidia = Arc::new(NvidiaJudge::with_roots(devices, vec![self.manifests[1].der().to_vec()]));
        let all = all_judges();
        Arc::new(move |trust: &Trust| {
            Ok(JudgeSet { machines: all(trust)?.machines, devices: vec![nvidia.clone()] })
        })
    }

    /// The reports of all of them on one challenge.
    fn evidence(&self, report_data: &ReportData) -> String {
        let one =
            |gpu: &NvidiaDevice| gpu.entry("HOPPER", &NvidiaReport::hopper(report_data.field(), &gpu.fwid));
        let list: Vec<Value> = self.gpus.iter().map(one).collect();
        json!({"nvidia": {"device_evidence_list": list}}).to_string()
    }

    /// The manifests with these ids, as a bundle: the driver's for the first half of the measurements.
    fn bundle(&self, ids: &[String]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { offline: true, ..Settings::default() };
        let service = CollateralService::open(folder.path(), settings).unwrap();
        let report = NvidiaReport::hopper([0; 32], &[0x77; 48]);
        for id in ids {
            let (version, indexes) = match id.contains("DRIVER") {
                true => ("550.90.07", 0..32),
                false => ("96.00.9F.00.0A", 32..64),
            };
            let indexes: Vec<u32> = indexes.collect();
            let version = id.strip_prefix("NV_GPU_DRIVER_GH100_").unwrap_or(version);
            let chain: Vec<&NvidiaKey> = self.manifests.iter().collect();
            let xml = NvidiaRim::of("GH100", version, &report, &indexes).sign(&chain);
            let key = CollateralKey::NvidiaRim(id.clone());
            service.put(key, Document::new(xml, Vec::new()), "a test", None).unwrap().unwrap();
        }
        service.export_tar(None).unwrap()
    }

    /// A broker that trusts the rack and the lab's TPM, and has the manifests.
    async fn lab(&self, verbose: bool) -> Lab {
        let lab = Lab::configured(self.judges(), None, |config| config.verbose_token = verbose).await;
        let anchor = json!({"certificate": pem(&lab.tpm.root_der()), "hardware": true});
        lab.admin_ok(Method::PUT, "/coffer/v1/trust-anchors/lab", anchor.to_string()).await;
        lab.admin_ok(Method::POST, "/kbs/v0/resource/default/key/1", SECRET.to_vec()).await;
        let reference = serde_json::to_string(&super::lab::reference(COMMAND_LINE)).unwrap();
        lab.admin_ok(Method::POST, "/coffer/v1/reference-values", reference).await;
        let (status, code, body) = refusal(self.attest(&lab).await.1).await;
        assert_eq!((status, code.as_str()), (503, "attestation.unavailable"), "{body}");
        let keys = body["causes"].as_array().unwrap().iter().map(|cause| cause["expected"].as_str().unwrap());
        let ids: Vec<String> = keys.map(|key| key.strip_prefix("nvidia/rim/").unwrap().to_owned()).collect();
        lab.admin_ok(Method::POST, "/coffer/v1/collateral", self.bundle(&ids)).await;
        lab
    }

    async fn challenge(&self, lab: &Lab) -> (Challenge, String, Value) {
        let challenge = lab.challenge(Tee::Tpm, TeeKey::generate().unwrap()).await;
        let devices = self.evidence(&challenge.challenged.device_report_data().unwrap());
        let report_data = challenge.challenged.report_data_with(&devices).unwrap();
        let machine = evidence(&lab.tpm, &report_data, COMMAND_LINE);
        (challenge, devices, machine)
    }

    async fn attest(&self, lab: &Lab) -> (coffer_core_protocol::handshake::attester::Attesting, Response) {
        let (challenge, devices, machine) = self.challenge(lab).await;
        lab.answer(challenge, machine, &devices).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_device_has_its_verdict_and_the_token_says_it() {
    let rack = Rack::new(2);
    let lab = rack.lab(false).await;
    let (attesting, response) = rack.attest(&lab).await;
    let session = finish(attesting, response).await;
    let attempt = lab.admin_json(&format!("/coffer/v1/attempts/{}", session.attempt())).await;
    assert_eq!(attempt["status"], "affirming", "{}", attempt["causes"]);
    let submods = attempt["claims"]["submods"].as_object().unwrap();
    assert_eq!(submods.keys().map(String::as_str).collect::<Vec<_>>(), ["cpu0", "gpu0", "gpu1"]);
    for gpu in ["gpu0", "gpu1"] {
        assert_eq!(submods[gpu]["ear.status"], "affirming", "{gpu}");
        assert!(submods[gpu]["ear.veraison.annotated-evidence"]["nvidia"].is_object());
        assert_eq!(attempt["devices"][gpu]["status"], "affirming");
        let group = format!("device.{gpu}");
        assert!(
            attempt["verdict"]["checks"]
                .as_array()
                .unwrap()
                .iter()
                .any(|check| check["code"] == group.as_str())
        );
    }
    let runtime = &submods["cpu0"]["ear.veraison.annotated-evidence"]["runtime_data_claims"];
    assert!(runtime["additional-evidence"].is_null() && runtime["tee-pubkey"].is_object());
    let response = lab.resource(session.token(), "default/key/1").await;
    assert!(session.open(&response.bytes().await.unwrap()).unwrap().equals(SECRET));
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_that_the_machine_does_not_bind_are_refused() {
    let rack = Rack::new(1);
    let lab = rack.lab(false).await;
    // Made for this challenge, and left out of what the machine's quote is over.
    let (challenge, devices, _) = rack.challenge(&lab).await;
    let unbound = evidence(&lab.tpm, &challenge.report_data, COMMAND_LINE);
    let (status, code, _) = refusal(lab.answer(challenge, unbound, &devices).await.1).await;
    assert_eq!((status, code.as_str()), (403, "tpm.quote.freshness"));
    // Bound, and made for another challenge.
    let (_, stale, _) = rack.challenge(&lab).await;
    let (challenge, _, _) = rack.challenge(&lab).await;
    let report_data = challenge.challenged.report_data_with(&stale).unwrap();
    let machine = evidence(&lab.tpm, &report_data, COMMAND_LINE);
    let (status, code, _) = refusal(lab.answer(challenge, machine, &stale).await.1).await;
    assert_eq!(status, 403);
    assert!(code.starts_with("nvidia."), "{code}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_device_that_is_not_genuine_refuses_all() {
    let rack = Rack::new(2);
    let lab = rack.lab(false).await;
    let foreign = Rack::new(1);
    let challenge = lab.challenge(Tee::Tpm, TeeKey::generate().unwrap()).await;
    let report_data = challenge.challenged.device_report_data().unwrap();
    let mut own: Value = serde_json::from_str(&rack.evidence(&report_data)).unwrap();
    let other: Value = serde_json::from_str(&foreign.evidence(&report_data)).unwrap();
    own["nvidia"]["device_evidence_list"][1] = other["nvidia"]["device_evidence_list"][0].clone();
    let devices = own.to_string();
    let report_data = challenge.challenged.report_data_with(&devices).unwrap();
    let machine = evidence(&lab.tpm, &report_data, COMMAND_LINE);
    let (status, code, body) = refusal(lab.answer(challenge, machine, &devices).await.1).await;
    assert_eq!(status, 403);
    assert!(code.starts_with("nvidia."), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_more_than_128_kib_opens_resources_on_every_way_in() {
    let rack = Rack::new(8);
    let mut lab = rack.lab(true).await;
    let (challenge, devices, machine) = rack.challenge(&lab).await;
    let cookie = challenge.cookie.clone();
    let (attesting, response) = lab.answer(challenge, machine, &devices).await;
    let session = finish(attesting, response).await;
    assert!(session.token().len() > 128 << 10, "{} bytes", session.token().len());

    // HTTP/1: as a bearer, and by the cookie.
    let response = lab.resource(session.token(), "default/key/1").await;
    assert_eq!(response.version(), reqwest::Version::HTTP_11);
    assert!(session.open(&response.bytes().await.unwrap()).unwrap().equals(SECRET));
    let request =
        lab.http.get(format!("{}/kbs/v0/resource/default/key/1", lab.url)).header("cookie", &cookie);
    let response = request.send().await.unwrap();
    assert!(session.open(&response.bytes().await.unwrap()).unwrap().equals(SECRET));
    // HTTP/2.
    for header in [("authorization", format!("Bearer {}", session.token())), ("cookie", cookie)] {
        let (status, body) = over_http2(&lab, "/kbs/v0/resource/default/key/1", header).await;
        assert_eq!(status, 200);
        assert!(session.open(&body).unwrap().equals(SECRET));
    }
    // Written down, and after a restart known by its signature alone.
    let attempt = lab.admin_json(&format!("/coffer/v1/attempts/{}", session.attempt())).await;
    assert_eq!(attempt["decisions"].as_array().unwrap().len(), 4);
    assert_eq!(attempt["claims"]["submods"].as_object().unwrap().len(), 9);
    lab.stop().await;
    let ca = lab.broker.ca_pem().to_string();
    let Lab { broker, folder, .. } = lab;
    drop(broker);
    let mut config = crate::BrokerConfig::new(folder.path());
    config.collateral.offline = true;
    let broker = crate::Broker::open(config).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = broker.url(&listener);
    let serving = broker.clone();
    let served = tokio::spawn(async move { serving.serve(listener, std::future::pending()).await });
    let request = super::lab::client(&ca).get(format!("{url}/kbs/v0/resource/default/key/1"));
    let response = request.bearer_auth(session.token()).send().await.unwrap();
    assert!(session.open(&response.bytes().await.unwrap()).unwrap().equals(SECRET));
    served.abort();
}

/// One call over HTTP/2, negotiated by ALPN.
async fn over_http2(lab: &Lab, path: &str, header: (&str, String)) -> (u16, Vec<u8>) {
    use http_body_util::{BodyExt, Empty};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use rustls_pki_types::pem::PemObject;

    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(rustls_pki_types::CertificateDer::from_pem_slice(lab.broker.ca_pem().as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let stream = tokio::net::TcpStream::connect(lab.url.strip_prefix("https://").unwrap()).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut calls, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = hyper::Request::get(format!("{}{path}", lab.url)).header(header.0, header.1);
    let response =
        calls.send_request(request.body(Empty::<axum::body::Bytes>::new()).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    (status, response.into_body().collect().await.unwrap().to_bytes().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_its_policy_does_not_affirm_gets_no_secret_and_is_named() {
    let rack = Rack::new(1);
    let lab = rack.lab(false).await;
    let rego = "package policy\nimport rego.v1\nexecutables := 33\nhardware := 2\n";
    let body = json!({"rego": rego}).to_string();
    lab.admin_ok(Method::PUT, "/coffer/v1/attestation-policies/default_gpu", body).await;
    let (attesting, response) = rack.attest(&lab).await;
    let session = finish(attesting, response).await;
    let attempt = lab.admin_json(&format!("/coffer/v1/attempts/{}", session.attempt())).await;
    let submods = &attempt["claims"]["submods"];
    assert_eq!(submods["cpu0"]["ear.status"], "affirming");
    assert_eq!(submods["cpu0"]["ear.appraisal-policy-id"], "coffer");
    assert_eq!(submods["gpu0"]["ear.status"], "warning");
    assert_eq!(submods["gpu0"]["ear.appraisal-policy-id"], "default");
    assert_eq!(attempt["status"], "warning", "no better than the worst of its parts");
    let (status, _, body) = refusal(lab.resource(session.token(), "default/key/1").await).await;
    assert_eq!(status, 403);
    let codes: Vec<&str> =
        body["causes"].as_array().unwrap().iter().map(|cause| cause["code"].as_str().unwrap()).collect();
    assert!(codes.contains(&"policy.device-not-affirming"), "{codes:?}");
}

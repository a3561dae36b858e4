//! The path that must work: attest, get the token, get the secret; and what is written down of it.

use coffer_core_protocol::Tee;
use coffer_core_protocol::tee_key::TeeKey;
use reqwest::Method;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;

use super::lab::{COMMAND_LINE, Lab, SECRET, evidence, refusal};
use crate::{Broker, BrokerConfig};

#[tokio::test(flavor = "multi_thread")]
async fn an_affirmed_guest_on_trusted_hardware_gets_its_secret() {
    let lab = Lab::start(true).await;
    let session = lab.attest(COMMAND_LINE).await;
    let verdict = session.verdict().unwrap();
    assert_eq!((verdict["status"].as_str(), verdict["hardware"].as_bool()), (Some("affirming"), Some(true)));
    let response = lab.resource(session.token(), "default/key/1").await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert!(session.open(&response.bytes().await.unwrap()).unwrap().equals(SECRET));

    let attempt: Value = lab.admin_json(&format!("/coffer/v1/attempts/{}", session.attempt())).await;
    assert_eq!(attempt["decisions"][0]["outcome"], "released");
    assert_eq!(attempt["decisions"][0]["resource"], "default/key/1");
    assert_eq!(attempt["genuine"], true);
    assert!(attempt["verdict"]["checks"].as_array().unwrap().len() > 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cookie_of_the_session_serves_as_well_as_the_token() {
    let lab = Lab::start(true).await;
    let challenge = lab.challenge(Tee::Tpm, TeeKey::generate().unwrap()).await;
    let get = || {
        let request = lab.http.get(format!("{}/kbs/v0/resource/default/key/1", lab.url));
        request.header("cookie", &challenge.cookie).send()
    };
    // Before there is evidence the cookie is worth nothing.
    assert_eq!(refusal(get().await.unwrap()).await.1, "token.missing");
    let evidence = evidence(&lab.tpm, &challenge.report_data, COMMAND_LINE);
    let (attesting, body) = challenge.challenged.evidence(evidence, "", None).unwrap();
    let session = super::lab::finish(attesting, lab.send(&challenge.cookie, body).await).await;
    let response = get().await.unwrap();
    assert!(session.open(&response.bytes().await.unwrap()).unwrap().equals(SECRET));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_holds_survives_a_restart_and_tokens_of_before_are_still_good() {
    let mut lab = Lab::start(true).await;
    let session = lab.attest(COMMAND_LINE).await;
    lab.stop().await;
    assert!(!lab.folder.path().join("url").exists(), "the address of a broker that is gone");
    let ca = lab.broker.ca_pem().to_string();
    let Lab { broker, folder, .. } = lab;
    drop(broker);

    let broker = Broker::open(BrokerConfig::new(folder.path())).unwrap();
    assert!(broker.first_start().is_none());
    assert_eq!(broker.ca_pem(), ca, "the pinned authority changed");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = broker.url(&listener);
    let serving = broker.clone();
    let served = tokio::spawn(async move { serving.serve(listener, std::future::pending()).await });
    let http = super::lab::client(&ca);
    let request = http.get(format!("{url}/kbs/v0/resource/default/key/1")).bearer_auth(session.token());
    let response = request.send().await.unwrap();
    assert!(session.open(&response.bytes().await.unwrap()).unwrap().equals(SECRET));
    served.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_tells_what_it_made_and_all_of_it_is_private() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::open(BrokerConfig::new(folder.path())).unwrap();
    let made = broker.first_start().unwrap().clone();
    for path in [made.admin_key, made.master_key, folder.path().join("tls/ca.key")] {
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600, "{}", path.display());
    }
    assert!(made.ca_certificate.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connection_is_tls_1_3_and_post_quantum() {
    let lab = Lab::bare(crate::all_judges(), None).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(lab.broker.ca_pem().as_bytes()).unwrap()).unwrap();
    let connect = |version: &'static rustls::SupportedProtocolVersion| {
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let address = lab.url.trim_start_matches("https://").to_string();
        async move {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            // The name that guests in QEMU's user network use.
            let name = rustls_pki_types::ServerName::try_from("10.0.2.2").unwrap();
            tokio_rustls::TlsConnector::from(std::sync::Arc::new(config)).connect(name, stream).await
        }
    };
    let stream = connect(&rustls::version::TLS13).await.unwrap();
    let group = stream.get_ref().1.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
    assert!(connect(&rustls::version::TLS12).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_resource_is_told_only_to_whom_the_policy_allows() {
    let lab = Lab::start(true).await;
    let good = lab.attest(COMMAND_LINE).await;
    let bad = lab.attest("console=ttyS0 quiet debug").await;
    let (status, code, _) = refusal(lab.resource(good.token(), "default/key/none").await).await;
    assert_eq!((status, code.as_str()), (404, "resource.missing"));
    let (status, code, _) = refusal(lab.resource(bad.token(), "default/key/none").await).await;
    assert_eq!((status, code.as_str()), (403, "measurement.command-line"));
    lab.admin_ok(Method::DELETE, "/kbs/v0/resource/default/key/1", "").await;
    assert_eq!(lab.resource(good.token(), "default/key/1").await.status(), 404);
}

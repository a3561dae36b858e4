//! Admins by client certificates, over real TLS: whose count, where, and for how long.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use reqwest::{Method, Response};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use super::lab::{Lab, Person, admin_token, refusal};
use crate::{Broker, BrokerConfig, OpenError, all_judges};

/// An authority of clients.
struct Authority(Issuer<'static, KeyPair>, String);

/// A client's certificate with its key.
#[derive(Clone)]
struct Own(CertificateDer<'static>, Vec<u8>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self(Issuer::new(params, key), pem)
    }

    /// A certificate with this URI, for clients, until this year.
    fn issue(&self, uri: &str, until: i32) -> Own {
        self.issue_for(uri, until, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue_for(&self, uri: &str, until: i32, purpose: ExtendedKeyUsagePurpose) -> Own {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "Ann");
        params.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().unwrap())];
        params.extended_key_usages = vec![purpose];
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Own(certificate.der().clone(), key.serialize_der())
    }
}

const ANN: &str = "spiffe://example.org/ann";
const FAR: i32 = 2100;

/// A broker that asks for certificates of this authority.
async fn lab(authority: &Authority) -> Lab {
    Lab::configured(all_judges(), None, |config| {
        config.tls.client_ca = config.data_dir.join("clients.pem");
        std::fs::write(&config.tls.client_ca, &authority.1).unwrap();
    })
    .await
}

/// A client with this certificate; the protocol is negotiated.
fn client(lab: &Lab, own: Option<&Own>, protocol: &str) -> reqwest::Client {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(lab.broker.ca_pem().as_bytes()).unwrap()).unwrap();
    let tls =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
    let mut tls = match own {
        None => tls.with_no_client_auth(),
        Some(Own(certificate, key)) => {
            let key = PrivateKeyDer::try_from(key.clone()).unwrap();
            tls.with_client_auth_cert(vec![certificate.clone()], key).unwrap()
        }
    };
    tls.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap()
}

async fn get(http: &reqwest::Client, lab: &Lab, path: &str) -> Response {
    http.get(format!("{}{path}", lab.url)).send().await.unwrap()
}

fn rule(roles: &[&str]) -> String {
    json!({"certificate": {"uri": ANN}, "roles": roles}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_by_certificate_may_what_the_roles_allow_and_is_known_as_the_rule_says() {
    let authority = Authority::new();
    let lab = lab(&authority).await;
    lab.admin_ok(Method::PUT, "/coffer/v1/admins/ann", rule(&["auditor"])).await;
    let http = client(&lab, Some(&authority.issue(ANN, FAR)), "http/1.1");
    let who: Value =
        serde_json::from_str(&get(&http, &lab, "/coffer/v1/whoami").await.text().await.unwrap()).unwrap();
    assert_eq!((who["subject"].as_str(), &who["roles"]), (Some("ann"), &json!(["auditor"])));
    assert_eq!(get(&http, &lab, "/coffer/v1/attempts").await.status(), 200);
    let put = http.put(format!("{}/coffer/v1/resources/a/b/c", lab.url)).body("x").send().await.unwrap();
    assert_eq!(refusal(put).await.1, "admin.forbidden");
    // The list tells keys and certificates apart; the row outlives a reload.
    let list = lab.admin_json("/coffer/v1/admins").await;
    let ann = list["admins"].as_array().unwrap().iter().find(|one| one["name"] == "ann").unwrap();
    assert_eq!(*ann, json!({"name": "ann", "certificate": {"uri": ANN}, "roles": ["auditor"]}));
    // Without the rule there is nobody, on the connection that is open too.
    lab.admin_ok(Method::DELETE, "/coffer/v1/admins/ann", "").await;
    assert_eq!(refusal(get(&http, &lab, "/coffer/v1/attempts").await).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_counts_over_http_2_as_over_http_1() {
    use http_body_util::Empty;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let authority = Authority::new();
    let lab = lab(&authority).await;
    lab.admin_ok(Method::PUT, "/coffer/v1/operators/ann", rule(&["operator"])).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(lab.broker.ca_pem().as_bytes()).unwrap()).unwrap();
    let Own(certificate, key) = authority.issue(ANN, FAR);
    let mut tls =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], PrivateKeyDer::try_from(key).unwrap())
            .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let stream = tokio::net::TcpStream::connect(lab.url.strip_prefix("https://").unwrap()).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap();
    let (mut calls, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    // The cluster's rule is for the cluster: it reads no tenant's attempts.
    for (path, expected) in [("/coffer/v1/tenants", 200), ("/coffer/v1/attempts", 401)] {
        let request = hyper::Request::get(format!("{}{path}", lab.url));
        let request = request.body(Empty::<axum::body::Bytes>::new()).unwrap();
        assert_eq!(calls.send_request(request).await.unwrap().status().as_u16(), expected, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_without_a_rule_is_nobody_s_and_one_of_another_authority_does_not_connect() {
    let (authority, other) = (Authority::new(), Authority::new());
    let lab = lab(&authority).await;
    lab.admin_ok(Method::PUT, "/coffer/v1/admins/ann", rule(&["auditor"])).await;
    let stranger = client(&lab, Some(&authority.issue("spiffe://example.org/eve", FAR)), "http/1.1");
    let refused = refusal(get(&stranger, &lab, "/coffer/v1/attempts").await).await;
    assert_eq!((refused.0, refused.1.as_str()), (401, "admin.unauthenticated"));
    assert_eq!(get(&stranger, &lab, "/healthz").await.status(), 200);
    let server = ExtendedKeyUsagePurpose::ServerAuth;
    for (why, own) in [
        ("another authority", other.issue(ANN, FAR)),
        ("expired", authority.issue(ANN, 2021)),
        ("another purpose", authority.issue_for(ANN, FAR, server)),
    ] {
        let http = client(&lab, Some(&own), "http/1.1");
        let sent = http.get(format!("{}/healthz", lab.url)).send().await;
        assert!(sent.is_err(), "{why}: {:?}", sent.map(|answer| answer.status()));
    }
    // The broker's own authority, which everybody can read, makes no clients.
    let own = client(&lab, None, "http/1.1");
    assert_eq!(refusal(get(&own, &lab, "/coffer/v1/attempts").await).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_outlives_no_certificate() {
    let authority = Authority::new();
    let lab = lab(&authority).await;
    lab.admin_ok(Method::PUT, "/coffer/v1/admins/ann", rule(&["auditor"])).await;
    let http = client(&lab, Some(&authority.issue(ANN, FAR)), "http/1.1");
    assert_eq!(get(&http, &lab, "/coffer/v1/attempts").await.status(), 200);
    lab.ahead.store(100 * 366 * 86400, Ordering::SeqCst);
    assert_eq!(refusal(get(&http, &lab, "/coffer/v1/attempts").await).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_serves_without_a_certificate_and_goes_before_one() {
    let authority = Authority::new();
    let lab = lab(&authority).await;
    lab.admin_ok(Method::PUT, "/coffer/v1/admins/ann", rule(&["auditor"])).await;
    let list = lab.admin(Method::GET, "/coffer/v1/resources", "").await;
    assert_eq!(list.status(), 200);
    let http = client(&lab, Some(&authority.issue(ANN, FAR)), "http/1.1");
    let whoami = |token: String| {
        let request = http.get(format!("{}/coffer/v1/whoami", lab.url)).bearer_auth(token);
        async { request.send().await.unwrap() }
    };
    let who = whoami(lab.admin_token()).await.text().await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&who).unwrap()["subject"], "first-admin");
    assert_eq!(refusal(whoami("x.y.z".into()).await).await.0, 401);
    // A token that is bound to a certificate (RFC 8705) is good with it, and with no other.
    let own = authority.issue(ANN, FAR);
    let digest = coffer_core_digest::Digest::sha256(&own.0);
    let digest = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, digest.as_bytes());
    let bound = admin_token(&lab.admin_key(), json!({"cnf": {"x5t#S256": digest}}));
    assert_eq!(refusal(whoami(bound.clone()).await).await.0, 401);
    let bearer = client(&lab, Some(&own), "http/1.1");
    let sent = bearer.get(format!("{}/coffer/v1/resources", lab.url)).bearer_auth(&bound).send().await;
    assert_eq!(sent.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_a_page_makes_call_shows_its_certificate_in_vain() {
    let authority = Authority::new();
    let lab = lab(&authority).await;
    lab.admin_ok(Method::PUT, "/coffer/v1/admins/ann", rule(&["security"])).await;
    let http = client(&lab, Some(&authority.issue(ANN, FAR)), "http/1.1");
    let revoke = |origin: Option<&'static str>| {
        let mut request = http.post(format!("{}/coffer/v1/revocations", lab.url));
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let request = request.body(json!({"kind": "chip", "value": "00ff"}).to_string());
        async { request.send().await.unwrap() }
    };
    for origin in ["https://evil.example", "null"] {
        assert_eq!(refusal(revoke(Some(origin)).await).await.0, 401);
    }
    assert!(revoke(None).await.status().is_success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_of_one_tenant_is_nothing_in_another_nor_in_the_cluster() {
    let authority = Authority::new();
    let lab = lab(&authority).await;
    let (a, b) = (Person::new(), Person::new());
    lab.make_tenant("a", &a).await;
    lab.make_tenant("b", &b).await;
    let put = lab.as_person(&a, Method::PUT, "/t/a/coffer/v1/admins/ann", rule(&["owner"])).await;
    assert!(put.status().is_success());
    let http = client(&lab, Some(&authority.issue(ANN, FAR)), "http/1.1");
    assert_eq!(get(&http, &lab, "/t/a/coffer/v1/resources").await.status(), 200);
    for path in
        ["/t/b/coffer/v1/resources", "/t/b/coffer/v1/whoami", "/coffer/v1/resources", "/coffer/v1/tenants"]
    {
        assert_eq!(refusal(get(&http, &lab, path).await).await.0, 401, "{path}");
    }
    // Nor may a tenant's owner say who is the cluster's.
    let put = lab.as_person(&a, Method::PUT, "/t/a/coffer/v1/admins/eve", rule(&["operator"])).await;
    assert_eq!(refusal(put).await.1, "admin.forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_is_none_is_refused_and_the_last_owner_keeps_a_key() {
    let authority = Authority::new();
    let lab = lab(&authority).await;
    let key = Person::new().jwk();
    let uri = json!({"uri": ANN});
    for wrong in [
        json!({"roles": ["auditor"]}),
        json!({"public_key": key, "certificate": uri, "roles": ["auditor"]}),
        json!({"certificate": uri, "roles": ["auditor"], "expires_at": "2030-01-01T00:00:00Z"}),
        json!({"certificate": {"uri": ""}, "roles": ["auditor"]}),
        json!({"certificate": {"sha256": "00"}, "roles": ["auditor"]}),
        json!({"certificate": {"serial": "1"}, "roles": ["auditor"]}),
    ] {
        let answer = lab.admin(Method::PUT, "/coffer/v1/admins/ann", wrong.to_string()).await;
        assert_eq!(refusal(answer).await.1, "request.malformed", "{wrong}");
    }
    lab.admin_ok(Method::PUT, "/coffer/v1/admins/ann", rule(&["owner"])).await;
    let twice = lab.admin(Method::PUT, "/coffer/v1/admins/bea", rule(&["auditor"])).await;
    assert_eq!(refusal(twice).await.1, "request.malformed");
    let last = lab.admin(Method::DELETE, "/coffer/v1/admins/first-admin", "").await;
    assert_eq!(refusal(last).await.1, "resource.conflict");
    let owner = json!({"owner": {"certificate": uri, "roles": ["owner"]}}).to_string();
    let tenant = lab.admin(Method::PUT, "/coffer/v1/tenants/c", owner).await;
    assert_eq!(refusal(tenant).await.1, "request.malformed");
}

#[test]
fn a_broker_with_a_file_that_holds_no_authority_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = BrokerConfig::new(folder.path());
    config.tls.client_ca = folder.path().join("clients.pem");
    for text in [None, Some(""), Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")] {
        if let Some(text) = text {
            std::fs::write(&config.tls.client_ca, text).unwrap();
        }
        let error = Broker::open(config.clone()).err();
        let Some(OpenError::Tls(why)) = error else { panic!("{text:?}") };
        assert!(why.contains("client_ca") && why.contains("clients.pem"), "{why}");
    }
}

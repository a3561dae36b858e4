//! A broker on a free port, an admin, and a guest with a TPM of the test's own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::eventlog::{LINUX_LOAD_OPTIONS_TAG, command_line_bytes, command_line_note};
use coffer_core_launch::ReferenceValues;
use coffer_core_protocol::handshake::attester::{Attester, Attesting, Session};
use coffer_core_protocol::jws::SigningKey;
use coffer_core_protocol::tee_key::TeeKey;
use coffer_core_protocol::{ReportData, Tee};
use coffer_lab_testpki::{EventLogBuilder, TpmFixture};
use reqwest::{Method, Response};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use crate::judges::{Judges, all_judges};
use crate::{Broker, BrokerConfig};

/// `EV_EVENT_TAG`, as the kernel's EFI stub measures its command line with.
pub(super) const EVENT_TAG: u32 = 6;
/// `EV_NO_ACTION`: noted and not measured.
const NO_ACTION: u32 = 3;
pub(super) const COMMAND_LINE: &str = "console=ttyS0 quiet";
pub(super) const SECRET: &[u8] = b"a secret of thirty-two bytes, or so";

pub(super) struct Lab {
    pub(super) url: String,
    pub(super) http: reqwest::Client,
    pub(super) broker: Broker,
    pub(super) tpm: TpmFixture,
    pub(super) folder: tempfile::TempDir,
    /// Seconds that the broker's clock is ahead of ours.
    pub(super) ahead: Arc<AtomicI64>,
    stop: Option<oneshot::Sender<()>>,
    served: tokio::task::JoinHandle<()>,
}

impl Lab {
    /// With the judges of shipped programs, the TPM's root trusted as `hardware` says, and one resource.
    pub(super) async fn start(hardware: bool) -> Self {
        let lab = Self::bare(all_judges(), None).await;
        let certificate = pem(&lab.tpm.root_der());
        let anchor = json!({"certificate": certificate, "hardware": hardware});
        lab.admin_ok(Method::PUT, "/coffer/v1/trust-anchors/lab", anchor.to_string()).await;
        lab.admin_ok(Method::POST, "/kbs/v0/resource/default/key/1", SECRET.to_vec()).await;
        let reference = serde_json::to_string(&reference(COMMAND_LINE)).unwrap();
        lab.admin_ok(Method::POST, "/coffer/v1/reference-values", reference).await;
        lab
    }

    /// With nothing in it.
    pub(super) async fn bare(judges: Judges, nonce: Option<[u8; 32]>) -> Self {
        Self::configured(judges, nonce, |_| ()).await
    }

    /// With another configuration. No test asks a vendor's service for anything.
    pub(super) async fn configured(
        judges: Judges,
        nonce: Option<[u8; 32]>,
        change: impl FnOnce(&mut BrokerConfig),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ahead = Arc::new(AtomicI64::new(0));
        let shift = ahead.clone();
        let clock = Arc::new(move || {
            let shift = jiff::SignedDuration::from_secs(shift.load(Ordering::SeqCst));
            jiff::Timestamp::now().checked_add(shift).unwrap()
        });
        let mut config = BrokerConfig::new(folder.path());
        config.collateral.offline = true;
        config.collateral.proxy = coffer_server_collateral::Proxy::None;
        change(&mut config);
        let broker = Broker::assemble(config, judges, clock, nonce).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = broker.url(&listener);
        let (stop, stopped) = oneshot::channel();
        let served = {
            let broker = broker.clone();
            tokio::spawn(async move { broker.serve(listener, async { drop(stopped.await) }).await.unwrap() })
        };
        let http = client(broker.ca_pem());
        let tpm = TpmFixture::default();
        Self { url, http, broker, tpm, folder, ahead, stop: Some(stop), served }
    }

    pub(super) async fn stop(&mut self) {
        drop(self.stop.take());
        (&mut self.served).await.unwrap();
    }

    /// A bearer token as upstream's `kbs-client` makes it.
    pub(super) fn admin_token(&self) -> String {
        admin_token(&self.admin_key(), json!({}))
    }

    pub(super) fn admin_key(&self) -> SigningKey {
        let pem = std::fs::read(self.folder.path().join("admin.key")).unwrap();
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).unwrap();
        let document = coffer_core_secret::SecretBytes::copy_of(der.secret_pkcs8_der());
        SigningKey::from_pkcs8(&document).unwrap()
    }

    pub(super) async fn admin(&self, method: Method, path: &str, body: impl Into<reqwest::Body>) -> Response {
        let request =
            self.http.request(method, format!("{}{path}", self.url)).bearer_auth(self.admin_token());
        request.body(body).send().await.unwrap()
    }

    pub(super) async fn admin_ok(&self, method: Method, path: &str, body: impl Into<reqwest::Body>) {
        let response = self.admin(method, path, body).await;
        let status = response.status();
        assert!(status.is_success(), "{path}: {status} {}", response.text().await.unwrap());
    }

    pub(super) async fn admin_json(&self, path: &str) -> Value {
        let response = self.admin(Method::GET, path, "").await;
        assert!(response.status().is_success(), "{path}: {}", response.status());
        serde_json::from_str(&response.text().await.unwrap()).unwrap()
    }

    pub(super) async fn use_preset(&self, preset: &str) {
        let body = json!({"preset": preset}).to_string();
        self.admin_ok(Method::PUT, "/coffer/v1/policies/resource", body).await;
    }

    /// Auth; gives the cookie and what the evidence must be bound to.
    pub(super) async fn challenge(&self, tee: Tee, key: TeeKey) -> Challenge {
        let (attester, body) = Attester::begin(tee, key).unwrap();
        let response = self.http.post(format!("{}/kbs/v0/auth", self.url)).body(body).send().await.unwrap();
        let cookie =
            response.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_string();
        let body = response.bytes().await.unwrap();
        let (challenged, report_data) = attester.on_challenge(&body).unwrap();
        Challenge { cookie, challenged, report_data }
    }

    pub(super) async fn send(&self, cookie: &str, body: Vec<u8>) -> Response {
        let request = self.http.post(format!("{}/kbs/v0/attest", self.url)).header("cookie", cookie);
        request.body(body).send().await.unwrap()
    }

    /// Answers a challenge with this evidence.
    pub(super) async fn answer(
        &self,
        challenge: Challenge,
        evidence: Value,
        devices: &str,
    ) -> (Attesting, Response) {
        let (attesting, body) = challenge.challenged.evidence(evidence, devices, None).unwrap();
        let response = self.send(&challenge.cookie, body).await;
        (attesting, response)
    }

    /// The whole handshake with the lab's TPM and this command line.
    pub(super) async fn attest(&self, command_line: &str) -> Session {
        let challenge = self.challenge(Tee::Tpm, TeeKey::generate().unwrap()).await;
        let evidence = evidence(&self.tpm, &challenge.report_data, command_line);
        let (attesting, body) = challenge.challenged.evidence(evidence, "", None).unwrap();
        let response = self.send(&challenge.cookie, body).await;
        finish(attesting, response).await
    }

    pub(super) async fn resource(&self, token: &str, path: &str) -> Response {
        let request = self.http.get(format!("{}/kbs/v0/resource/{path}", self.url));
        request.bearer_auth(token).send().await.unwrap()
    }
}

/// Somebody with a key of their own.
pub(super) struct Person(SigningKey);

impl Person {
    pub(super) fn new() -> Self {
        Self(SigningKey::generate_ed25519().unwrap())
    }

    pub(super) fn of(key: SigningKey) -> Self {
        Self(key)
    }

    /// The public key, as a JWK in a text.
    pub(super) fn jwk(&self) -> String {
        serde_json::to_string(self.0.verifying_key()).unwrap()
    }

    /// A token of theirs.
    pub(super) fn token(&self) -> String {
        admin_token(&self.0, json!({}))
    }
}

impl Lab {
    /// Makes a tenant with this owner, which trusts the lab's TPM as hardware.
    pub(super) async fn make_tenant(&self, name: &str, owner: &Person) {
        let body = json!({"owner": {"public_key": owner.jwk(), "roles": ["owner"]}}).to_string();
        self.admin_ok(Method::PUT, &format!("/coffer/v1/tenants/{name}"), body).await;
        let anchor = json!({"certificate": pem(&self.tpm.root_der()), "hardware": true}).to_string();
        let reference = serde_json::to_string(&reference(COMMAND_LINE)).unwrap();
        for (method, path, body) in
            [(Method::PUT, "trust-anchors/lab", anchor), (Method::POST, "reference-values", reference)]
        {
            let response = self.as_person(owner, method, &format!("/t/{name}/coffer/v1/{path}"), body).await;
            let status = response.status();
            assert!(status.is_success(), "{path}: {status} {}", response.text().await.unwrap());
        }
    }

    /// A call with this person's token.
    pub(super) async fn as_person(
        &self,
        person: &Person,
        method: Method,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> Response {
        let request = self.http.request(method, format!("{}{path}", self.url));
        request.bearer_auth(person.token()).body(body).send().await.unwrap()
    }

    /// The whole handshake at a tenant; gives the session's cookie and the token.
    pub(super) async fn token_of(&self, tenant: Option<&str>, command_line: &str) -> (String, String) {
        let base = tenant.map_or(self.url.clone(), |tenant| format!("{}/t/{tenant}", self.url));
        let (attester, body) = Attester::begin(Tee::Tpm, TeeKey::generate().unwrap()).unwrap();
        let response = self.http.post(format!("{base}/kbs/v0/auth")).body(body).send().await.unwrap();
        let cookie =
            response.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_string();
        let body = response.bytes().await.unwrap();
        let (challenged, report_data) = attester.on_challenge(&body).unwrap();
        let evidence = evidence(&self.tpm, &report_data, command_line);
        let (attesting, body) = challenged.evidence(evidence, "", None).unwrap();
        let request = self.http.post(format!("{base}/kbs/v0/attest")).header("cookie", &cookie);
        let session = finish(attesting, request.body(body).send().await.unwrap()).await;
        (cookie, session.token().to_owned())
    }
}

pub(super) struct Challenge {
    pub(super) cookie: String,
    pub(super) challenged: coffer_core_protocol::handshake::attester::Challenged,
    pub(super) report_data: ReportData,
}

pub(super) async fn finish(attesting: Attesting, response: Response) -> Session {
    let status = response.status();
    let body = response.bytes().await.unwrap();
    assert!(status.is_success(), "{status} {}", String::from_utf8_lossy(&body));
    attesting.on_response(&body).unwrap()
}

/// Status, code and the whole body of a refusal.
pub(super) async fn refusal(response: Response) -> (u16, String, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    let body: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status}: {text}"));
    assert!(
        body["type"].as_str().unwrap().starts_with("https://github.com/confidential-containers/kbs/errors/")
    );
    (status, body["code"].as_str().unwrap().to_string(), body)
}

pub(super) fn client(ca_pem: &str) -> reqwest::Client {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .timeout(Duration::from_secs(60))
        .build()
        .unwrap()
}

pub(super) fn admin_token(key: &SigningKey, claims: Value) -> String {
    let now = jiff::Timestamp::now().as_second();
    let mut all = json!({"iat": now, "nbf": now, "exp": now + 7200});
    for (name, value) in claims.as_object().unwrap() {
        all[name] = value.clone();
    }
    let header: Map<String, Value> = json!({"typ": "JWT"}).as_object().unwrap().clone();
    key.sign_compact(&header, all.to_string().as_bytes()).unwrap()
}

pub(super) fn pem(der: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der))
}

/// What a guest that was started with this command line sends: measured as Linux does it, and noted as our agent does.
pub(super) fn evidence(tpm: &TpmFixture, report_data: &ReportData, command_line: &str) -> Value {
    let label = b"LOADED_IMAGE::LoadOptions\0";
    let size = u32::try_from(label.len()).unwrap();
    let tagged = [&LINUX_LOAD_OPTIONS_TAG.to_le_bytes()[..], &size.to_le_bytes(), label].concat();
    let digest = Digest::sha256(&command_line_bytes(command_line));
    let note = command_line_note(command_line);
    let log = EventLogBuilder::new(Algorithm::Sha256).event_with(9, EVENT_TAG, &digest, &tagged).event_with(
        9,
        NO_ACTION,
        &Digest::zero(Algorithm::Sha256),
        &note.data,
    );
    let (log, registers) = log.finish();
    tpm.evidence(&report_data.field(), registers, &log)
}

/// The reference values of a guest with this command line.
pub(super) fn reference(command_line: &str) -> ReferenceValues {
    let digest = Digest::sha256(&command_line_bytes(command_line));
    let zero = Digest::zero(Algorithm::Sha256);
    let register = zero.extend(digest.as_bytes());
    let registers: BTreeMap<String, Digest> =
        (0..10).map(|number| (format!("pcr{number}"), if number == 9 { register } else { zero })).collect();
    let lines: String = registers.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    let id = Digest::sha256(format!("tpm\nsha256\n{lines}").as_bytes()).hex();
    let none = Digest::sha256(b"");
    let json = json!({
        "version": 1,
        "id": format!("tpm-{}", &id[..24]),
        "platform": "tpm",
        "origin": "a test",
        "bank": "sha256",
        "registers": registers,
        "artifacts": {
            "firmware": none, "kernel": none, "initrd": none, "command_line": command_line,
            "memory_mib": 512, "vcpus": 1, "address_width": serde_json::to_value(coffer_core_launch::AddressWidth::default()).unwrap(),
        },
        "events": [{
            "register": 9, "kind": "EV_EVENT_TAG", "component": "command-line", "digest": digest,
            "detail": command_line,
        }],
    });
    serde_json::from_value(json).unwrap()
}

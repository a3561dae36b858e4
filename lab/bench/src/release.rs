//! One key release: auth, attest, get. CPU of the broker alone; the attester's work is left out of the clock.
//!
//! The unit is an ECDSA P-256 signature of the same library on the same core in the same run, because that is how
//! the figure of Trustee 0.21 is known: 1.41 ms + 0.64 ms on a core that makes 42,700 such signatures a second.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use base64::Engine;
use coffer_core_digest::Algorithm;
use coffer_core_evidence::Tee;
use coffer_core_protocol::handshake::attester::Attester;
use coffer_core_protocol::tee_key::TeeKey;
use coffer_core_secret::SecretBytes;
use coffer_lab_testpki::{EventLogBuilder, KeyKind, TpmFixture};
use coffer_server_http::{Broker, BrokerConfig, TrustAnchorFile};
use coffer_tools_client::AdminClient;
use tower::ServiceExt;

use crate::clock::{cpu, us};

/// Trustee's CPU for one release, in P-256 signatures of its core: 2.05 ms × 42,700 / s.
const TRUSTEE_SIGNATURES: f64 = 2.05e-3 * 42_700.0;
const POLICY: &str =
    "package policy\nimport rego.v1\ndefault allow := false\nallow if data[\"resource-path\"]\n";

/// Measures and prints.
pub(crate) fn measure(rounds: u32) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let fixture = TpmFixture::new(KeyKind::EccP256);
    let root = folder.path().join("root.pem");
    std::fs::write(&root, pem(&fixture.root_der()))?;
    let mut config = BrokerConfig::new(&folder.path().join("broker"));
    config.trust_anchors = vec![TrustAnchorFile { name: "bench".into(), certificate: root, hardware: false }];
    let broker = Broker::open(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let signature = signature_time()?;
    let [auth, attest, resource] = runtime.block_on(releases(&broker, &fixture, rounds))?;
    let sum = auth + attest + resource;
    println!("key release (software evidence, {rounds} rounds, CPU of the broker for one)");
    let line = |name: &str, time: Duration| {
        println!(
            "  {name:<10} {:>8.1} µs  {:>6.1} signatures  {:>7.0}/s on one core",
            us(time),
            time.as_secs_f64() / signature.as_secs_f64(),
            1.0 / time.as_secs_f64()
        );
    };
    line("auth", auth);
    line("attest", attest);
    line("resource", resource);
    line("all three", sum);
    println!("  one ECDSA P-256 signature here: {:.1} µs", us(signature));
    let own = sum.as_secs_f64() / signature.as_secs_f64();
    println!(
        "  against Trustee 0.21 ({TRUSTEE_SIGNATURES:.1} signatures): {:.1}x (promise: 10x)",
        TRUSTEE_SIGNATURES / own
    );
    Ok(())
}

fn pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn signature_time() -> Result<Duration> {
    const MANY: u32 = 5000;
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok().context("no key")?;
    let begun = cpu();
    for _ in 0..MANY {
        key.sign(&random, b"a message of some length").ok().context("no signature")?;
    }
    Ok((cpu() - begun) / MANY)
}

async fn releases(broker: &Broker, fixture: &TpmFixture, rounds: u32) -> Result<[Duration; 3]> {
    let router = broker.router();
    prepare(broker).await?;
    let mut log = EventLogBuilder::new(Algorithm::Sha256);
    for number in 0..30_u8 {
        log = log.event(number % 10, 0x8000_0007, &[number; 100]);
    }
    let (log, registers) = log.finish();
    let mut spent = [Duration::ZERO; 3];
    for _ in 0..rounds {
        let key = TeeKey::generate().context("a key")?;
        let (attester, body) = Attester::begin(Tee::Tpm, key)?;
        let auth = post("/kbs/v0/auth", None, body);
        let begun = cpu();
        let (cookie, body) = answer(&router, auth).await?;
        spent[0] += cpu() - begun;

        let (challenged, report_data) = attester.on_challenge(&body)?;
        let evidence = fixture.evidence(&report_data.field(), registers, &log);
        let (attesting, body) = challenged.evidence(evidence, "", None)?;
        let attest = post("/kbs/v0/attest", cookie.as_deref(), body);
        let begun = cpu();
        let (_, body) = answer(&router, attest).await?;
        spent[1] += cpu() - begun;

        let session = attesting.on_response(&body)?;
        let get = Request::get("/kbs/v0/resource/bench/key/one")
            .header(header::AUTHORIZATION, format!("Bearer {}", session.token()))
            .body(Body::empty())?;
        let begun = cpu();
        let (_, body) = answer(&router, get).await?;
        spent[2] += cpu() - begun;
        ensure!(session.open(&body)?.equals(&[7; 32]), "another secret came");
    }
    Ok(spent.map(|time| time / rounds))
}

/// As an admin would: over TLS, with the key of the first start.
async fn prepare(broker: &Broker) -> Result<()> {
    let first = broker.first_start().context("the broker was there before")?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = broker.url(&listener);
    let key = std::fs::read_to_string(&first.admin_key)?;
    let admin = AdminClient::new(&url, broker.ca_pem(), &key)?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = broker.clone();
    let serving = tokio::spawn(async move {
        let stopped = async { drop(stopped.await) };
        server.serve(listener, stopped).await
    });
    admin.put_resource("bench/key/one", SecretBytes::copy_of(&[7; 32])).await?;
    admin.put_policy("resource", POLICY).await?;
    drop((admin, stop));
    Ok(serving.await??)
}

fn post(path: &str, cookie: Option<&str>, body: Vec<u8>) -> Request<Body> {
    let mut request = Request::new(Body::from(body));
    *request.method_mut() = axum::http::Method::POST;
    *request.uri_mut() = path.parse().unwrap_or_default();
    if let Some(cookie) = cookie.and_then(|cookie| cookie.parse().ok()) {
        request.headers_mut().insert(header::COOKIE, cookie);
    }
    let json = header::HeaderValue::from_static("application/json");
    request.headers_mut().insert(header::CONTENT_TYPE, json);
    request
}

async fn answer(router: &Router, request: Request<Body>) -> Result<(Option<String>, Vec<u8>)> {
    let response = router.clone().oneshot(request).await?;
    let status = response.status();
    let cookie = response.headers().get(header::SET_COOKIE).and_then(|value| value.to_str().ok());
    let cookie = cookie.and_then(|value| value.split(';').next()).map(str::to_string);
    let body = axum::body::to_bytes(response.into_body(), 4 << 20).await?.to_vec();
    ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
    Ok((cookie, body))
}

//! Key releases: auth, attest, get. CPU of the broker alone; the attester's work is left out of the clock.
//!
//! Guests come one at a time, and many at once, when they share the syncs of the journal. Each release has a session
//! key of its own; guests attest again with the TPM that they had before, or come for the first time. They affirm,
//! and the policy `insecure-lab` lets them.
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
use coffer_core_evidence::{ReportData, Tee};
use coffer_core_protocol::handshake::attester::Attester;
use coffer_core_protocol::tee_key::TeeKey;
use coffer_core_secret::SecretBytes;
use coffer_lab_testpki::TpmFixture;
use coffer_server_http::{Broker, BrokerConfig, TrustAnchorFile};
use coffer_tools_client::AdminClient;
use coffer_verify_tpm::{TpmJudge, TrustAnchor};
use futures::future::join_all;
use serde_json::Value;
use tower::ServiceExt;

use crate::clock::{cpu, us};

/// Trustee's CPU for one release, in P-256 signatures of its core: 2.05 ms × 42,700 / s.
pub(crate) const TRUSTEE_SIGNATURES: f64 = 2.05e-3 * 42_700.0;
/// So many guests ask at once, where many do.
const AT_ONCE: usize = 64;

/// Measures and prints.
pub(crate) fn measure(rounds: u32) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let guests = Guests::new();
    let root = folder.path().join("root.pem");
    std::fs::write(&root, guests.all.root_pem())?;
    let mut config = BrokerConfig::new(&folder.path().join("broker"));
    config.trust_anchors = vec![TrustAnchorFile { name: "bench".into(), certificate: root, hardware: false }];
    let broker = Broker::open(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(prepare(&broker, &guests))?;
    let rounds = usize::try_from(rounds)?;
    for (what, at_once, comes) in [
        ("one guest at a time, which attests again".to_string(), 1, Comes::Again),
        (format!("{AT_ONCE} guests at once, which attest again"), AT_ONCE, Comes::Again),
        (format!("{AT_ONCE} guests at once, for the first time"), AT_ONCE, Comes::First),
    ] {
        let spent = runtime.block_on(releases(&broker, &guests, rounds, at_once, comes))?;
        print(&what, &spent);
    }
    Ok(())
}

/// CPU for one call of each kind, and for one signature in between.
struct Spent {
    calls: [Duration; 3],
    signature: Duration,
}

/// Whether the broker has seen the guest's TPM.
#[derive(Clone, Copy)]
enum Comes {
    First,
    Again,
}

fn print(what: &str, Spent { calls: [auth, attest, resource], signature }: &Spent) {
    println!("\nkey release, software evidence, {what}: CPU of the broker for one");
    let line = |name: &str, time: &Duration| {
        println!(
            "  {name:<10} {:>8.1} µs  {:>6.1} signatures  {:>7.0}/s on one core",
            us(*time),
            time.as_secs_f64() / signature.as_secs_f64(),
            1.0 / time.as_secs_f64()
        );
    };
    line("auth", auth);
    line("attest", attest);
    line("resource", resource);
    let sum = *auth + *attest + *resource;
    line("all three", &sum);
    println!("  one ECDSA P-256 signature: {:.1} µs", us(*signature));
    let own = sum.as_secs_f64() / signature.as_secs_f64();
    println!(
        "  against Trustee 0.21 ({TRUSTEE_SIGNATURES:.1} signatures): {:.1}x (promise: 10x)",
        TRUSTEE_SIGNATURES / own
    );
}

/// The guests of the load generator, and one of them that came before.
pub(crate) struct Guests {
    all: coffer_lab_load::Guests,
    known: TpmFixture,
}

impl Guests {
    pub(crate) fn new() -> Self {
        let all = coffer_lab_load::Guests::new();
        Self { known: all.certified(), all }
    }

    fn evidence(&self, comes: Comes, report_data: &ReportData) -> Value {
        match comes {
            Comes::Again => self.evidence_of(report_data),
            Comes::First => self.all.evidence(&self.all.certified(), report_data),
        }
    }

    /// Evidence of one that came before.
    pub(crate) fn evidence_of(&self, report_data: &ReportData) -> Value {
        self.all.evidence(&self.known, report_data)
    }

    /// A judge that believes them to be hardware.
    pub(crate) fn judge(&self) -> TpmJudge {
        TpmJudge::new(vec![TrustAnchor { certificate: self.all.root_der(), hardware: true }])
    }

    /// Reference values of a guest that measured one thing otherwise.
    pub(crate) fn other_reference(&self) -> Value {
        self.all.other_reference()
    }

    /// The reference values that affirm them.
    pub(crate) fn reference(&self) -> Value {
        self.all.reference()
    }
}

/// Releases in groups of so many at once. What the guests do is between the broker's calls and not in their time.
///
/// A few signatures are made in each group, so that what else the machine does weighs on both.
async fn releases(
    broker: &Broker,
    guests: &Guests,
    rounds: usize,
    at_once: usize,
    comes: Comes,
) -> Result<Spent> {
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok().context("no key")?;
    let mut signing = Duration::ZERO;
    let signatures = at_once.max(16);
    let router = broker.router();
    let groups = rounds.div_ceil(at_once);
    let mut spent = [Duration::ZERO; 3];
    for _ in 0..groups {
        let (mut attesters, mut requests) = (Vec::new(), Vec::new());
        for _ in 0..at_once {
            let (attester, body) = Attester::begin(Tee::Tpm, TeeKey::generate().context("a key")?)?;
            attesters.push(attester);
            requests.push(post("/kbs/v0/auth", None, body));
        }
        let answers = timed(&router, requests, &mut spent[0]).await?;

        let (mut attestings, mut requests) = (Vec::new(), Vec::new());
        for (attester, (cookie, body)) in attesters.into_iter().zip(answers) {
            let (challenged, report_data) = attester.on_challenge(&body)?;
            let evidence = guests.evidence(comes, &report_data);
            let (attesting, body) = challenged.evidence(evidence, "", None)?;
            attestings.push(attesting);
            requests.push(post("/kbs/v0/attest", cookie.as_deref(), body));
        }
        let answers = timed(&router, requests, &mut spent[1]).await?;

        let (mut sessions, mut requests) = (Vec::new(), Vec::new());
        for (attesting, (_, body)) in attestings.into_iter().zip(answers) {
            let session = attesting.on_response(&body)?;
            let get = Request::get("/kbs/v0/resource/bench/key/one")
                .header(header::AUTHORIZATION, format!("Bearer {}", session.token()))
                .body(Body::empty())?;
            sessions.push(session);
            requests.push(get);
        }
        let answers = timed(&router, requests, &mut spent[2]).await?;
        for (session, (_, body)) in sessions.into_iter().zip(answers) {
            ensure!(session.open(&body)?.equals(&[7; 32]), "another secret came");
        }
        let begun = cpu();
        for _ in 0..signatures {
            key.sign(&random, b"a message of some length").ok().context("no signature")?;
        }
        signing += cpu() - begun;
    }
    let count = u32::try_from(groups * at_once)?;
    Ok(Spent {
        calls: spent.map(|time| time / count),
        signature: signing / u32::try_from(groups * signatures)?,
    })
}

async fn timed(
    router: &Router,
    requests: Vec<Request<Body>>,
    spent: &mut Duration,
) -> Result<Vec<(Option<String>, Vec<u8>)>> {
    let begun = cpu();
    let answers = join_all(requests.into_iter().map(|request| answer(router, request))).await;
    *spent += cpu() - begun;
    answers.into_iter().collect()
}

/// As an admin would: over TLS, with the key of the first start.
async fn prepare(broker: &Broker, guests: &Guests) -> Result<()> {
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
    admin.use_preset("resource", "insecure-lab").await?;
    admin.add_reference(&guests.reference()).await?;
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

//! Claim I-10: no bytes from outside make the broker panic, hang or grow without bound.

use axum::body::Body;
use axum::http::Request;
use coffer_core_protocol::Tee;
use coffer_core_protocol::tee_key::TeeKey;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::ServiceExt;

use super::lab::{COMMAND_LINE, Lab, evidence, refusal};

/// A small generator, so that a failure can be repeated (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides
    }
}

/// Changes one thing somewhere in a JSON value.
fn mutate(value: &mut Value, dice: &mut Dice) {
    let odd = [
        json!(null),
        json!(-1),
        json!(1e300),
        json!(""),
        json!("\u{0}"),
        json!([]),
        json!({}),
        json!(true),
        json!("A".repeat(5000)),
        json!([[[[[]]]]]),
    ];
    match value {
        Value::Object(map) if !map.is_empty() && dice.roll(6) > 0 => {
            let name = map.keys().nth(dice.roll(map.len())).unwrap().clone();
            match dice.roll(8) {
                0 => drop(map.remove(&name)),
                _ => mutate(map.get_mut(&name).unwrap(), dice),
            }
        }
        Value::Array(list) if !list.is_empty() && dice.roll(6) > 0 => {
            let index = dice.roll(list.len());
            mutate(&mut list[index], dice);
        }
        Value::String(text) if !text.is_empty() && dice.roll(3) > 0 => {
            let mut bytes = std::mem::take(text).into_bytes();
            let index = dice.roll(bytes.len());
            bytes[index] = b"A0/=_-zf"[dice.roll(8)];
            if dice.roll(3) == 0 {
                bytes.truncate(index);
            }
            *text = String::from_utf8_lossy(&bytes).into_owned();
        }
        other => *other = odd[dice.roll(odd.len())].clone(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_bodies_are_answered_and_never_with_a_fault_of_ours() {
    let lab = Lab::start(true).await;
    let router = lab.broker.router();
    let challenge = lab.challenge(Tee::Tpm, TeeKey::generate().unwrap()).await;
    let cookie = challenge.cookie.clone();
    let good = evidence(&lab.tpm, &challenge.report_data, COMMAND_LINE);
    let (_, body) = challenge
        .challenged
        .evidence(good, "", Some("version = \"0.1.0\"\nalgorithm = \"sha256\"\n"))
        .unwrap();
    let attest: Value = serde_json::from_slice(&body).unwrap();
    let auth =
        json!({"version": "0.4.0", "tee": "tpm", "extra-params": {"supported-hash-algorithms": ["sha384"]}});
    let reference = serde_json::to_value(super::lab::reference(COMMAND_LINE)).unwrap();
    let policy = json!({"rego": "package policy\ndefault allow := true"});
    let seeds = [
        ("POST", "/kbs/v0/auth", auth),
        ("POST", "/kbs/v0/attest", attest),
        ("POST", "/coffer/v1/reference-values", reference.clone()),
        ("POST", "/kbs/v0/reference-value", reference),
        ("PUT", "/coffer/v1/policies/resource", policy),
        (
            "PUT",
            "/coffer/v1/trust-anchors/x",
            json!({"certificate": super::lab::pem(&lab.tpm.root_der()), "hardware": true}),
        ),
    ];
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let token = lab.admin_token();
    for round in 0..1_500 {
        let (method, path, seed) = &seeds[dice.roll(seeds.len())];
        let mut value = seed.clone();
        for _ in 0..=dice.roll(3) {
            mutate(&mut value, &mut dice);
        }
        let mut text = value.to_string().into_bytes();
        if dice.roll(10) == 0 {
            text.truncate(dice.roll(text.len() + 1));
        }
        let request = Request::builder()
            .method(*method)
            .uri(*path)
            .header("cookie", &cookie)
            .header("authorization", format!("Bearer {token}"))
            .body(Body::from(text))
            .unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        assert!(status < 500, "round {round}: {status} for {method} {path} {value}");
    }
    assert_eq!(lab.http.get(format!("{}/healthz", lab.url)).send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_over_the_limit_are_refused_unread() {
    let lab = Lab::start(true).await;
    let cookie = lab.challenge(Tee::Tpm, TeeKey::generate().unwrap()).await.cookie;
    for (path, length) in [("auth", (64 << 10) + 1), ("attest", (4 << 20) + 1)] {
        let request = lab.http.post(format!("{}/kbs/v0/{path}", lab.url)).header("cookie", &cookie);
        let (status, code, _) = refusal(request.body(vec![b' '; length]).send().await.unwrap()).await;
        assert_eq!((status, code.as_str()), (413, "request.too-large"), "{path}");
    }
}

/// A body of which nothing ever comes.
struct Never;

impl axum::body::HttpBody for Never {
    type Data = axum::body::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        std::task::Poll::Pending
    }
}

async fn oneshot(lab: &Lab, cookie: &str, body: Body) -> (u16, Value, axum::http::HeaderMap) {
    let request = Request::post("/kbs/v0/attest").header("cookie", cookie).body(body).unwrap();
    let response = lab.broker.router().oneshot(request).await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap(), headers)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_a_challenge_is_neither_read_nor_given_room() {
    let lab = Lab::start(true).await;
    let cookie = lab.challenge(Tee::Tpm, TeeKey::generate().unwrap()).await.cookie;
    let _all = lab.broker.inner().intake.fill().await;
    for (cookie, code) in [
        ("", "challenge.missing"),
        ("kbs-session-id=0123", "challenge.malformed"),
        ("other=1", "challenge.missing"),
    ] {
        let (status, body, _) = oneshot(&lab, cookie, Body::new(Never)).await;
        assert_eq!((status, body["code"].as_str()), (401, Some(code)));
    }
    lab.ahead.store(301, std::sync::atomic::Ordering::SeqCst);
    let (status, body, _) = oneshot(&lab, &cookie, Body::new(Never)).await;
    assert_eq!((status, body["code"].as_str()), (401, Some("challenge.expired")));
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_that_finds_no_room_is_told_when_to_come_again() {
    let lab = Lab::start(true).await;
    let challenge = lab.challenge(Tee::Tpm, TeeKey::generate().unwrap()).await;
    let good = evidence(&lab.tpm, &challenge.report_data, COMMAND_LINE);
    let (_, sent) = challenge.challenged.evidence(good, "", None).unwrap();
    let all = lab.broker.inner().intake.fill().await;
    let (status, body, headers) = oneshot(&lab, &challenge.cookie, Body::from(sent.clone())).await;
    assert_eq!((status, body["code"].as_str()), (429, Some("request.rate-limited")));
    assert_eq!(headers["retry-after"], "5");
    drop(all);
    assert_eq!(oneshot(&lab, &challenge.cookie, Body::from(sent)).await.0, 200);
    // What was judged gave its room back.
    drop(lab.broker.inner().intake.fill().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn unauthenticated_requests_leave_nothing_behind() {
    let lab = Lab::start(true).await;
    let counts = || {
        lab.broker.inner().store().tenant(&coffer_core_admin::TenantName::default()).attempt_counts().unwrap()
    };
    for _ in 0..200 {
        lab.challenge(Tee::Tpm, TeeKey::generate().unwrap()).await;
    }
    assert_eq!(counts(), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_do_not_exist_are_told_in_the_protocols_form() {
    let lab = Lab::start(true).await;
    for (path, status, code) in [
        ("/", 404, "request.route"),
        ("/kbs/v0/nothing", 404, "request.route"),
        ("/kbs/v0/pkcs11/a/b", 404, "resource.plugin"),
        ("/kbs/v0/resource/only/two", 404, "resource.plugin"),
        ("/kbs/v0/auth", 404, "request.route"),
        ("/coffer/v2/info", 404, "request.route"),
    ] {
        let found = refusal(lab.http.get(format!("{}{path}", lab.url)).send().await.unwrap()).await;
        assert_eq!((found.0, found.1.as_str()), (status, code), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_instead_of_tls_ends_the_connection_and_not_the_broker() {
    let lab = Lab::start(true).await;
    let address = lab.url.trim_start_matches("https://");
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"));
    assert_eq!(lab.http.get(format!("{}/healthz", lab.url)).send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_and_the_log_lines_of_a_run_do_not_hold_the_secret() {
    let lab = Lab::start(true).await;
    let session = lab.attest(COMMAND_LINE).await;
    lab.resource(session.token(), "default/key/1").await;
    for file in std::fs::read_dir(lab.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
    {
        let bytes = std::fs::read(&file).unwrap();
        assert!(
            !bytes.windows(super::lab::SECRET.len()).any(|window| window == super::lab::SECRET),
            "{}",
            file.display()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_json_is_judged_or_refused_by_its_depth_and_never_followed_to_the_end_of_the_stack() {
    let lab = Lab::start(true).await;
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    for (depth, status, code) in [
        (100, 403, "tpm.evidence.format"),
        (200, 400, "request.malformed"),
        (100_000, 400, "request.malformed"),
    ] {
        let challenge = lab.challenge(Tee::Tpm, TeeKey::generate().unwrap()).await;
        let cookie = challenge.cookie.clone();
        let (_, body) = challenge.challenged.evidence(json!("here"), "", None).unwrap();
        let body = String::from_utf8(body).unwrap().replace("\"here\"", &nested(depth));
        let (found, named, _) = refusal(lab.send(&cookie, body.into_bytes()).await).await;
        assert_eq!((found, named.as_str()), (status, code), "{depth}");
    }
    // The same in a text of its own.
    for (depth, code) in [(100, "protocol.device"), (200, "protocol.additional-evidence")] {
        let challenge = lab.challenge(Tee::Tpm, TeeKey::generate().unwrap()).await;
        let devices = format!("{{\"x\":{}}}", nested(depth));
        let (_, response) = lab.answer(challenge, json!({}), &devices).await;
        assert_eq!(refusal(response).await.1, code, "{depth}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_log_of_ten_megabytes_is_refused_by_its_length_and_one_that_fits_is_read() {
    use base64::Engine;
    let lab = Lab::start(true).await;
    for (length, status, code) in [(10 << 20, 413, "request.too-large"), (2 << 20, 403, "")] {
        let challenge = lab.challenge(Tee::Tpm, TeeKey::generate().unwrap()).await;
        let mut own = evidence(&lab.tpm, &challenge.report_data, COMMAND_LINE);
        let log = vec![0xff_u8; length];
        own["event_log"] = base64::engine::general_purpose::STANDARD.encode(log).into();
        let (_, response) = lab.answer(challenge, own, "").await;
        let (found, named, body) = refusal(response).await;
        assert_eq!(found, status, "{body}");
        assert!(code.is_empty() || named == code, "{named}");
    }
}

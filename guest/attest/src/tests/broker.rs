//! A broker on loopback: the protocol's own relying party, and switches for what can go wrong.

use std::sync::{Arc, Mutex};

use coffer_core_evidence::Tee;
use coffer_core_protocol::error::{Cause, Code, ErrorBody};
use coffer_core_protocol::handshake::relying_party::{Challenger, ClusterKey};
use coffer_core_protocol::jwe;
use coffer_core_protocol::jwk::PublicKey;
use coffer_core_protocol::jws::SigningKey;
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// How the broker is reached.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Plain,
    Tls,
}

/// What the broker did and shall do.
#[derive(Default)]
struct State {
    attestations: u32,
    init_data: Option<String>,
    additional: String,
    key_exchange: Option<String>,
    forget: u32,
    refuse: Option<(Code, String)>,
    failed_check: Option<String>,
    undecided: bool,
    redirect: bool,
    no_hybrid: bool,
    lifetime_s: Option<u64>,
    tee_pubkey: Option<PublicKey>,
}

pub(super) struct FakeBroker {
    pub(super) url: String,
    pub(super) certificate: String,
    state: Arc<Mutex<State>>,
}

struct Parts {
    challenger: Challenger,
    signer: SigningKey,
    state: Arc<Mutex<State>>,
}

impl FakeBroker {
    pub(super) async fn start(transport: Transport) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("address");
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("certificate");
        let acceptor = acceptor(&made);
        let state = Arc::new(Mutex::new(State::default()));
        let parts = Arc::new(Parts {
            challenger: Challenger::new(ClusterKey::generate().expect("key"), [Tee::Tpm]),
            signer: SigningKey::generate().expect("key"),
            state: Arc::clone(&state),
        });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, parts) = (acceptor.clone(), Arc::clone(&parts));
                tokio::spawn(async move {
                    if transport == Transport::Plain {
                        return talk(stream, &parts).await;
                    }
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let group = stream.get_ref().1.negotiated_key_exchange_group();
                    parts.state.lock().expect("state").key_exchange =
                        group.map(|group| format!("{:?}", group.name()));
                    talk(stream, &parts).await;
                });
            }
        });
        let scheme = if transport == Transport::Tls { "https" } else { "http" };
        Self { url: format!("{scheme}://{address}"), certificate: made.cert.pem(), state }
    }

    pub(super) fn attestations(&self) -> u32 {
        self.state.lock().expect("state").attestations
    }

    pub(super) fn init_data(&self) -> Option<String> {
        self.state.lock().expect("state").init_data.clone()
    }

    pub(super) fn additional(&self) -> String {
        self.state.lock().expect("state").additional.clone()
    }

    pub(super) fn key_exchange(&self) -> Option<String> {
        self.state.lock().expect("state").key_exchange.clone()
    }

    /// Answers the next resource requests as if their tokens were too old.
    pub(super) fn forget_tokens(&self, times: u32) {
        self.state.lock().expect("state").forget = times;
    }

    pub(super) fn refuse_resources(&self, code: Code, cause: &str) {
        self.state.lock().expect("state").refuse = Some((code, cause.to_owned()));
    }

    /// Judges all evidence contraindicated for this reason.
    pub(super) fn judge(&self, failed_check: &str) {
        self.state.lock().expect("state").failed_check = Some(failed_check.to_owned());
    }

    /// Judges nothing.
    pub(super) fn leave_undecided(&self) {
        self.state.lock().expect("state").undecided = true;
    }

    /// Answers as a broker that does not know our addition to the challenge.
    pub(super) fn know_no_hybrid(&self) {
        self.state.lock().expect("state").no_hybrid = true;
    }

    /// Signs tokens that live so long.
    pub(super) fn live_for(&self, seconds: u64) {
        self.state.lock().expect("state").lifetime_s = Some(seconds);
    }

    /// What the last attested key is used with.
    pub(super) fn key_algorithm(&self) -> Option<String> {
        let state = self.state.lock().expect("state");
        state.tee_pubkey.as_ref().map(|key| key.algorithm().to_owned())
    }

    pub(super) fn redirect(&self) {
        self.state.lock().expect("state").redirect = true;
    }
}

fn acceptor(made: &rcgen::CertifiedKey<rcgen::KeyPair>) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).expect("key");
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("certificate");
    TlsAcceptor::from(Arc::new(config))
}

/// One request for each connection.
async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, parts: &Parts) {
    let mut bytes = Vec::new();
    let (head, length) = loop {
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(count) if count > 0 => bytes.extend_from_slice(&piece[..count]),
            _ => return,
        }
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(bytes.drain(..end + 4).collect()).expect("head");
            let length = header(&head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
            break (head, length);
        }
    };
    while bytes.len() < length {
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).await.expect("body");
        bytes.extend_from_slice(&piece[..count]);
    }
    let (status, extra, body) = answer(&head, &bytes, parts);
    let head =
        format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{extra}Connection: close\r\n\r\n", body.len());
    let _client_gone = stream.write_all(&[head.as_bytes(), &body].concat()).await;
    let _client_gone = stream.shutdown().await;
}

fn header(head: &str, name: &str) -> Option<String> {
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn answer(head: &str, body: &[u8], parts: &Parts) -> (u16, String, Vec<u8>) {
    let mut state = parts.state.lock().expect("state");
    let path = head.split(' ').nth(1).expect("path");
    let refused = |code: Code, causes: Vec<Cause>| {
        let body = ErrorBody::new(code, code.title()).with_causes(causes);
        (code.status(), String::new(), serde_json::to_vec(&body).expect("JSON"))
    };
    if state.redirect {
        return (307, "Location: http://127.0.0.1:1/\r\n".into(), Vec::new());
    }
    match path {
        "/kbs/v0/auth" => {
            let mut issued = parts.challenger.issue(body, 1000).expect("issued");
            if state.no_hybrid {
                let mut reply: serde_json::Value = serde_json::from_slice(&issued.body).expect("JSON");
                reply["extra-params"] = json!("");
                issued.body = reply.to_string().into_bytes();
            }
            (200, format!("Set-Cookie: kbs-session-id={}; Path=/\r\n", issued.cookie), issued.body)
        }
        "/kbs/v0/attest" => {
            let cookie = header(head, "cookie").expect("cookie");
            let cookie = cookie.strip_prefix("kbs-session-id=").expect("its name");
            let submission = parts.challenger.accept(cookie, body, 1000).expect("accepted");
            assert_eq!(submission.primary["bound-to"], submission.report_data.digest().hex());
            state.attestations += 1;
            if !submission.additional.is_empty() {
                let devices: serde_json::Value = serde_json::from_str(&submission.additional).expect("a map");
                let bound = &devices["nvidia"]["bound-to"];
                assert_eq!(*bound, submission.device_report_data.digest().hex());
            }
            state.additional = submission.additional;
            state.init_data = submission.init_data;
            state.tee_pubkey = submission.tee_pubkey;
            let (status, verdict) = match &state.failed_check {
                None if state.undecided => ("none", json!({"checks": []})),
                None => ("affirming", json!({"checks": []})),
                Some(code) => (
                    "contraindicated",
                    json!({"checks": [{"code": code, "title": "it differs", "outcome": "failed",
                        "expected": "quiet", "found": "debug"}]}),
                ),
            };
            let now = std::time::UNIX_EPOCH.elapsed().expect("a clock").as_secs();
            let exp = now + state.lifetime_s.unwrap_or(300);
            let claims = json!({"submods": {"cpu0": {"ear.status": status}}, "exp": exp});
            let token = parts.signer.sign_jwt(&claims).expect("signed");
            (200, String::new(), json!({"token": token, "verdict": verdict}).to_string().into_bytes())
        }
        "/kbs/v0/resource/default/key/1" => {
            assert!(header(head, "authorization").is_some_and(|text| text.starts_with("Bearer ")));
            if state.forget > 0 {
                state.forget -= 1;
                return refused(Code::TokenExpired, Vec::new());
            }
            if let Some((code, cause)) = &state.refuse {
                let cause = Cause {
                    code: cause.clone(),
                    title: "the reason".into(),
                    expected: None,
                    found: None,
                    remedy: None,
                };
                return refused(*code, vec![cause]);
            }
            let key = state.tee_pubkey.as_ref().expect("attested");
            let sealed = jwe::seal(key, b"the key").expect("sealed");
            (200, String::new(), sealed.to_json().expect("JSON"))
        }
        _ => refused(Code::RouteUnknown, Vec::new()),
    }
}

//! The API over a real loopback connection, with keys that a test holds.

use std::sync::Arc;

use coffer_core_evidence::Tee;
use coffer_core_initdata::Permission;
use coffer_core_protocol::uri::ResourcePath;
use coffer_core_secret::SecretBytes;
use coffer_guest_attest::{AttestError, Binding, Keys, Pending, RecordError, Recorded, RuntimeEvent};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::{Hub, refuse_sealed, serve};

/// Has one secret and echoes runtime data.
pub(crate) struct OneSecret;

impl Keys for OneSecret {
    fn resource<'a>(&'a self, path: &'a ResourcePath) -> Pending<'a, SecretBytes> {
        Box::pin(async move {
            match path.to_string().as_str() {
                "default/config/greeting" => Ok(SecretBytes::copy_of(b"hello")),
                "default/sealing-key/1" => Ok(SecretBytes::new(vector("key").to_string().into_bytes())),
                "default/sealing-kek/1" => {
                    Ok(SecretBytes::new(unhex(vector("kek").as_str().unwrap_or_default())))
                }
                "default/database/password" => Ok(SecretBytes::copy_of(b"hunter2\0")),
                _ => Err(AttestError::Unreachable {
                    url: "https://x".into(),
                    attempts: 1,
                    why: "nobody answers".into(),
                }),
            }
        })
    }

    fn token(&self) -> Pending<'_, SecretBytes> {
        Box::pin(async { Ok(SecretBytes::copy_of(b"{\"token\":\"a.b.c\"}")) })
    }

    fn evidence<'a>(&'a self, runtime_data: &'a [u8], binding: Binding) -> Pending<'a, Vec<u8>> {
        let kind: &[u8] = if binding == Binding::Raw { b"raw " } else { b"workload " };
        Box::pin(async move { Ok([kind, runtime_data].concat()) })
    }

    fn additional_evidence<'a>(&'a self, runtime_data: &'a [u8], _: Binding) -> Pending<'a, Vec<u8>> {
        Box::pin(async move { Ok([b"devices ", runtime_data].concat()) })
    }

    fn record(&self, event: RuntimeEvent) -> Recorded<'_> {
        Box::pin(async move {
            match event.operation() {
                "start" => Ok(()),
                "full" => Err(RecordError::Full),
                _ => Err(RecordError::NotSupported("no register".into())),
            }
        })
    }

    fn tee(&self) -> Tee {
        Tee::Tpm
    }
}

/// A member of the vectors of sealed secrets.
fn vector(member: &str) -> serde_json::Value {
    let text = include_str!("../../../core/sealed-secret/testdata/sealed.json");
    let vectors: serde_json::Value = serde_json::from_str(text).expect("vectors");
    vectors[member].clone()
}

pub(crate) fn sealed(member: &str) -> String {
    vector(member).as_str().expect("a text").to_owned()
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
    (0..text.len()).step_by(2).map(byte).collect()
}

/// What init-data allows: these resources, and evidence or not.
type Allowed = (&'static [&'static str], Permission);

const NOTHING: Allowed = (&[], Permission::Denied);
const RESOURCES: Allowed = (&["default/config/greeting", "default/config/absent"], Permission::Denied);
const EVIDENCE: Allowed = (&[], Permission::Allowed);
const SEALED: Allowed =
    (&["default/sealing-key/1", "default/sealing-kek/1", "default/database/password"], Permission::Denied);

async fn ask((resources, evidence): Allowed, request: &str) -> (u16, String) {
    let resources = resources.iter().map(|path| path.parse().expect("a path")).collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("an address");
    let server = tokio::spawn(serve(listener, Arc::new(Hub::new(Arc::new(OneSecret), resources, evidence))));
    let mut stream = TcpStream::connect(address).await.expect("the hub listens");
    let (request, body) = request.split_once('\n').unwrap_or((request, ""));
    let head = format!("Host: x\r\nConnection: close\r\nContent-Length: {}", body.len());
    stream.write_all(format!("{request} HTTP/1.1\r\n{head}\r\n\r\n{body}").as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    server.abort();
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, answer.split("\r\n\r\n").nth(1).unwrap_or_default().to_string())
}

#[tokio::test]
async fn a_resource_comes_byte_for_byte() {
    assert_eq!(ask(RESOURCES, "GET /cdh/resource/default/config/greeting").await, (200, "hello".into()));
}

#[tokio::test]
async fn a_resource_that_init_data_does_not_name_is_denied() {
    const OTHER: Allowed = (&["default/config/other"], Permission::Allowed);
    // Neither another resource, nor none, nor evidence opens the image's key or any other.
    for allowed in [OTHER, NOTHING, EVIDENCE] {
        for path in ["default/config/greeting", "default/image-key/web"] {
            let (status, body) = ask(allowed, &format!("GET /cdh/resource/{path}")).await;
            assert_eq!(status, 403);
            assert!(body.contains("hub.resource.denied"), "{body}");
        }
    }
}

#[tokio::test]
async fn a_workload_attests_as_its_guest_only_where_init_data_allows_it() {
    for request in [
        "GET /aa/evidence?runtime_data=x",
        "GET /aa/additional-evidence?runtime_data=x",
        "GET /aa/token?token_type=kbs",
        "GET /aa/token",
    ] {
        for allowed in [NOTHING, RESOURCES] {
            let (status, body) = ask(allowed, request).await;
            assert_eq!(status, 403, "{request}");
            assert!(body.contains("hub.evidence.denied"), "{body}");
        }
    }
    assert_eq!(ask(EVIDENCE, "GET /aa/evidence?runtime_data=x").await, (200, "raw x".into()));
    let devices = ask(EVIDENCE, "GET /aa/additional-evidence?runtime_data=x").await;
    assert_eq!(devices, (200, "devices x".into()));
    // Evidence of the workload's own kind needs no permission, and is never the raw kind.
    for allowed in [NOTHING, EVIDENCE] {
        let answer = ask(allowed, "GET /coffer/evidence?runtime_data=x").await;
        assert_eq!(answer, (200, "workload x".into()));
    }
}

#[tokio::test]
async fn the_brokers_absence_is_said_with_its_code() {
    let (status, body) = ask(RESOURCES, "GET /cdh/resource/default/config/absent").await;
    assert_eq!(status, 502);
    assert!(body.contains("broker.unreachable"), "{body}");
}

#[tokio::test]
async fn runtime_data_is_text_or_base64() {
    for (path, kind) in [("/aa/evidence", "raw"), ("/coffer/evidence", "workload")] {
        let text = ask(EVIDENCE, &format!("GET {path}?runtime_data=a%20b")).await;
        assert_eq!(text, (200, format!("{kind} a b")));
        let encoded = ask(EVIDENCE, &format!("GET {path}?runtime_data=YWJj&encoding=base64")).await;
        assert_eq!(encoded, (200, format!("{kind} abc")));
        assert_eq!(ask(EVIDENCE, &format!("GET {path}?runtime_data=%21&encoding=base64")).await.0, 400);
        assert_eq!(ask(EVIDENCE, &format!("GET {path}")).await.0, 400);
    }
}

#[tokio::test]
async fn what_is_not_served_is_refused_with_a_code() {
    for (request, status, code) in [
        ("POST /cdh/resource/default/config/greeting", 405, "hub.method"),
        ("GET /cdh/resource/../../etc", 400, "hub.resource"),
        ("GET /aa/token?token_type=coco_as", 400, "hub.token-type"),
        ("GET /", 404, "hub.path"),
        ("GET /aa/aael", 405, "hub.method"),
        ("POST /aa/evidence", 405, "hub.method"),
    ] {
        let (found, body) = ask(EVIDENCE, request).await;
        assert_eq!(found, status, "{request}");
        assert!(body.contains(code), "{request}: {body}");
    }
}

#[tokio::test]
async fn a_workload_measures_its_own_events_and_none_in_the_guest_s_name() {
    let post = |domain: &str, operation: &str, content: &str| {
        let event = serde_json::json!({"domain": domain, "operation": operation, "content": content});
        format!("POST /aa/aael\n{event}")
    };
    for (request, status, code) in [
        (post("lab.example", "start", "one event"), 200, "{}"),
        (post("lab.example", "other", ""), 501, "runtime-event.not-supported"),
        (post("lab.example", "full", ""), 507, "runtime-event.full"),
        (post("two words", "start", ""), 400, "runtime-event.malformed"),
        (post("lab.example", "start", "two\nlines"), 400, "runtime-event.malformed"),
        (post("github.com/confidential-containers", "PullImage", "{}"), 403, "hub.aael.reserved"),
        ("POST /aa/aael\n{}".into(), 400, "hub.aael"),
        ("POST /aa/aael\nnothing".into(), 400, "hub.aael"),
        (post("lab.example", "start", &"x".repeat(20_000)), 400, "hub.aael"),
    ] {
        let (found, body) = ask(NOTHING, &request).await;
        assert_eq!(found, status, "{request}: {body}");
        assert!(body.contains(code), "{request}: {body}");
    }
}

#[tokio::test]
async fn a_token_and_the_tee_are_told() {
    assert!(ask(EVIDENCE, "GET /aa/token?token_type=kbs").await.1.contains("a.b.c"));
    assert!(ask(NOTHING, "GET /info").await.1.contains("\"tee\":\"tpm\""));
}

#[tokio::test]
async fn a_sealed_secret_is_opened_byte_for_byte() {
    let secret = sealed("plaintext");
    for form in ["envelope", "envelope_ctr"] {
        assert_eq!(ask(SEALED, &format!("POST /cdh/unseal\n{}", sealed(form))).await, (200, secret.clone()));
    }
    let vault = ask(SEALED, &format!("POST /cdh/unseal\n{}\n", sealed("vault"))).await;
    assert_eq!(vault, (200, "hunter2\0".into()));
}

#[tokio::test]
async fn each_defect_of_a_sealed_secret_is_refused_with_its_code() {
    const NO_KEY: Allowed = (&["default/sealing-kek/1", "default/database/password"], Permission::Allowed);
    const NO_VALUE: Allowed = (&["default/sealing-key/1"], Permission::Allowed);
    let post = |text: &str| format!("POST /cdh/unseal\n{text}");
    let (envelope, vault) = (sealed("envelope"), sealed("vault"));
    let mut changed = envelope.clone().into_bytes();
    changed[200] = if changed[200] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(changed).expect("text");
    let fake = "sealed.fakejwsheader.e30.fakesignature".to_owned();
    for (allowed, text, status, code) in [
        (NO_KEY, &envelope, 403, "sealed-secret.denied"),
        (NO_VALUE, &envelope, 403, "sealed-secret.denied"),
        (NO_VALUE, &vault, 403, "sealed-secret.denied"),
        (NOTHING, &vault, 403, "sealed-secret.denied"),
        (SEALED, &changed, 400, "sealed-secret.signature"),
        (SEALED, &fake, 400, "sealed-secret.unsigned"),
        (SEALED, &sealed("file_key"), 403, "sealed-secret.key-file"),
        (SEALED, &"hello".to_owned(), 400, "sealed-secret.form"),
        (SEALED, &"x".repeat((1 << 20) + 1), 400, "sealed-secret.form"),
    ] {
        let (found, body) = ask(allowed, &post(text)).await;
        assert_eq!(found, status, "{code}: {body}");
        assert!(body.contains(code), "{body}");
        assert!(!body.contains("hunter2") && !body.contains(&sealed("plaintext")), "{body}");
    }
    assert_eq!(ask(SEALED, "GET /cdh/unseal").await.0, 405);
}

fn hub(allowed: Allowed) -> Hub {
    let resources = allowed.0.iter().map(|path| path.parse().expect("a path")).collect();
    Hub::new(Arc::new(OneSecret), resources, allowed.1)
}

#[tokio::test]
async fn an_environment_s_sealed_values_are_opened_and_its_others_left_alone() {
    let entries =
        vec!["A=1".to_owned(), format!("PASSWORD={}", sealed("envelope")), "SEALED=xsealed.".into()];
    let opened = hub(SEALED).unseal_environment(entries).await.expect("opened");
    assert_eq!(opened, ["A=1", &format!("PASSWORD={}", sealed("plaintext")), "SEALED=xsealed."]);
}

#[tokio::test]
async fn an_environment_with_a_value_that_is_not_opened_is_refused_and_the_variable_named() {
    for (allowed, value, code) in [
        (NOTHING, sealed("envelope"), "sealed-secret.denied"),
        (SEALED, "sealed.fakejwsheader.e30.x".to_owned(), "sealed-secret.unsigned"),
        (SEALED, sealed("vault"), "sealed-secret.not-text"),
    ] {
        let entries = vec!["A=1".to_owned(), format!("PASSWORD={value}")];
        let refusal = hub(allowed).unseal_environment(entries).await.expect_err("refused").refusal();
        assert_eq!(refusal.code, code);
        assert!(
            refusal.message.contains("\"PASSWORD\"") && !refusal.message.contains("hunter2"),
            "{refusal:?}"
        );
    }
}

#[test]
fn a_guest_without_keys_starts_nothing_that_has_sealed_values() {
    assert!(refuse_sealed(&["A=1".to_owned(), "B".to_owned()]).is_ok());
    let refusal = refuse_sealed(&["A=1".to_owned(), "B=sealed.x".to_owned()]).expect_err("refused").refusal();
    assert_eq!(refusal.code, "sealed-secret.no-broker");
}

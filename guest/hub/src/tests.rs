//! The API over a real loopback connection, with keys that a test holds.

use std::sync::Arc;

use coffer_core_evidence::Tee;
use coffer_core_protocol::uri::ResourcePath;
use coffer_core_secret::SecretBytes;
use coffer_guest_attest::{AttestError, Keys, Pending};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::{Hub, serve};

/// Has one secret and echoes runtime data.
struct OneSecret;

impl Keys for OneSecret {
    fn resource<'a>(&'a self, path: &'a ResourcePath) -> Pending<'a, SecretBytes> {
        Box::pin(async move {
            match path.to_string().as_str() {
                "default/config/greeting" => Ok(SecretBytes::copy_of(b"hello")),
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

    fn evidence<'a>(&'a self, runtime_data: &'a [u8]) -> Pending<'a, Vec<u8>> {
        Box::pin(async move { Ok(runtime_data.to_vec()) })
    }

    fn tee(&self) -> Tee {
        Tee::Tpm
    }
}

async fn ask(only: Option<&str>, request: &str) -> (u16, String) {
    let only = only.map(|path| path.parse().expect("a path"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("an address");
    let server = tokio::spawn(serve(listener, Arc::new(Hub::new(Arc::new(OneSecret), only))));
    let mut stream = TcpStream::connect(address).await.expect("the hub listens");
    stream
        .write_all(format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
        .await
        .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    server.abort();
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, answer.split("\r\n\r\n").nth(1).unwrap_or_default().to_string())
}

#[tokio::test]
async fn a_resource_comes_byte_for_byte() {
    assert_eq!(ask(None, "GET /cdh/resource/default/config/greeting").await, (200, "hello".into()));
}

#[tokio::test]
async fn a_resource_that_init_data_does_not_name_is_denied() {
    let (status, body) = ask(Some("default/config/other"), "GET /cdh/resource/default/config/greeting").await;
    assert_eq!(status, 403);
    assert!(body.contains("hub.resource.denied"), "{body}");
}

#[tokio::test]
async fn the_brokers_absence_is_said_with_its_code() {
    let (status, body) = ask(None, "GET /cdh/resource/default/config/absent").await;
    assert_eq!(status, 502);
    assert!(body.contains("broker.unreachable"), "{body}");
}

#[tokio::test]
async fn runtime_data_is_text_or_base64() {
    assert_eq!(ask(None, "GET /aa/evidence?runtime_data=a%20b").await, (200, "a b".into()));
    assert_eq!(ask(None, "GET /aa/evidence?runtime_data=YWJj&encoding=base64").await, (200, "abc".into()));
    assert_eq!(ask(None, "GET /aa/evidence?runtime_data=%21&encoding=base64").await.0, 400);
    assert_eq!(ask(None, "GET /aa/evidence").await.0, 400);
}

#[tokio::test]
async fn what_is_not_served_is_refused_with_a_code() {
    for (request, status, code) in [
        ("POST /cdh/resource/default/config/greeting", 405, "hub.method"),
        ("GET /cdh/resource/../../etc", 400, "hub.resource"),
        ("GET /aa/token?token_type=coco_as", 400, "hub.token-type"),
        ("GET /", 404, "hub.path"),
    ] {
        let (found, body) = ask(None, request).await;
        assert_eq!(found, status, "{request}");
        assert!(body.contains(code), "{request}: {body}");
    }
}

#[tokio::test]
async fn a_token_and_the_tee_are_told() {
    assert!(ask(None, "GET /aa/token?token_type=kbs").await.1.contains("a.b.c"));
    assert!(ask(None, "GET /info").await.1.contains("\"tee\":\"tpm\""));
}

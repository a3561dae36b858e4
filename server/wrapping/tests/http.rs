//! Both dialects over loopback HTTP: with a plain client always, and with the clients of others where they are at hand.
//!
//! `COFFER_TEST_PYTHON` names an interpreter that has hvac and pyarrow; `COFFER_TEST_HADOOP_JARS` a folder with Hadoop's
//! client jars, as Spark ships them, for which `java` (a JDK) must be in the path.

#![allow(clippy::unwrap_used, reason = "a test")]

mod served;

use std::net::SocketAddr;
use std::process::Stdio;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

struct Reply {
    status: u16,
    location: Option<String>,
    body: Value,
}

async fn send(to: SocketAddr, token: &str, method: &str, target: &str, body: Value) -> Reply {
    let stream = tokio::net::TcpStream::connect(to).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = Request::builder().method(method).uri(target).header("host", to.to_string());
    let request = request.header("x-vault-token", token).body(Body::from(bytes)).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let location = response.headers().get("location").map(|value| value.to_str().unwrap().to_string());
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    Reply { status, location, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) }
}

#[tokio::test]
async fn each_token_does_what_it_may_and_no_more() {
    let broker = served::serve().await;
    let key = json!({"insecure_plaintext_over_tls": true});
    for token in ["", "reader", "writer", "auditor"] {
        let reply = send(broker, token, "POST", "/v1/transit/keys/lake", key.clone()).await;
        assert_eq!(reply.status, 403, "{token}");
        let reply = send(broker, token, "POST", "/kms/v1/keys", json!({"name": "lake"})).await;
        assert_eq!(reply.status, 403, "{token}");
        assert_eq!(reply.body["RemoteException"]["exception"], "AuthorizationException");
    }
    assert_eq!(send(broker, "owner", "PUT", "/v1/transit/keys/lake", key).await.status, 200);
    let wrapped = send(broker, "writer", "POST", "/v1/transit/datakey/wrapped/lake", Value::Null).await;
    assert_eq!(wrapped.status, 200);
    let body = json!({"ciphertext": wrapped.body["data"]["ciphertext"]});
    for (token, status) in [("writer", 403), ("auditor", 403), ("reader", 200)] {
        let reply = send(broker, token, "POST", "/v1/transit/decrypt/lake", body.clone()).await;
        assert_eq!(reply.status, status, "{token}");
        assert_eq!(reply.body["data"]["plaintext"].is_string(), status == 200, "{token}");
    }
    assert_eq!(send(broker, "auditor", "LIST", "/v1/transit/keys", Value::Null).await.status, 200);
    assert_eq!(send(broker, "reader", "LIST", "/v1/transit/keys", Value::Null).await.status, 403);
}

#[tokio::test]
async fn hadoop_and_vault_clients_share_a_key() {
    let broker = served::serve().await;
    let attributes = json!({"insecure_plaintext_over_tls": "true"});
    let form = json!({"name": "lake", "length": 256, "attributes": attributes});
    let made = send(broker, "owner", "POST", "/kms/v1/keys", form).await;
    assert_eq!((made.status, made.location.as_deref()), (201, Some("key/lake")));
    let target = "/kms/v1/key/lake/_eek?eek_op=generate&num_keys=2";
    let keys = send(broker, "writer", "GET", target, Value::Null).await;
    let key = &keys.body[0];
    let body = json!({"name": "lake", "iv": key["iv"], "material": key["encryptedKeyVersion"]["material"]});
    let target = "/kms/v1/keyversion/lake%400/_eek?eek_op=decrypt";
    let plain = send(broker, "reader", "POST", target, body).await;
    assert_eq!((plain.status, &plain.body["versionName"]), (200, &json!("EK")));
    // The same key by the other dialect: an encrypted key's IV is its associated data.
    let material = key["encryptedKeyVersion"]["material"].as_str().unwrap();
    let body = json!({"ciphertext": format!("vault:v1:{material}"), "associated_data": key["iv"]});
    let again = send(broker, "reader", "POST", "/v1/transit/decrypt/lake", body).await;
    let bare = |text: &Value| text.as_str().unwrap().replace('+', "-").replace('/', "_").replace('=', "");
    assert_eq!(bare(&again.body["data"]["plaintext"]), bare(&plain.body["material"]));
}

#[tokio::test]
async fn python_clients_work_unmodified() {
    let Some(python) = std::env::var_os("COFFER_TEST_PYTHON") else {
        println!("skipped: COFFER_TEST_PYTHON names no interpreter with hvac and pyarrow");
        return;
    };
    let broker = served::serve().await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/clients.py");
    let mut command = std::process::Command::new(python);
    command.arg(script).arg(format!("http://{broker}"));
    run(command).await;
}

#[tokio::test]
async fn hadoops_own_client_works_unmodified() {
    let Some(jars) = std::env::var_os("COFFER_TEST_HADOOP_JARS") else {
        println!("skipped: COFFER_TEST_HADOOP_JARS names no folder with Hadoop's client jars");
        return;
    };
    let broker = served::serve().await;
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/java/HadoopKms.java");
    let mut command = std::process::Command::new("java");
    command.arg("-cp").arg(format!("{}/*", jars.display())).arg(source);
    command.arg(format!("kms://http@{broker}/kms")).env("HADOOP_USER_NAME", "owner");
    run(command).await;
}

async fn run(mut command: std::process::Command) {
    command.stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    print!("{}", text(&output.stdout));
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).ends_with("all done\n"), "the script ended early");
}

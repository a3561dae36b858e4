//! Our client completes the recorded exchange against the recorded server side, over a loopback socket.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_core_secret::Secret;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::*;

fn transcript() -> Option<Value> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors");
    let folder = std::env::var_os("COFFER_VECTORS").map_or_else(|| PathBuf::from(default), PathBuf::from);
    let Ok(text) = std::fs::read(folder.join("kbs/rcar-transcript.json")) else {
        println!("skipped: no vectors");
        return None;
    };
    Some(serde_json::from_slice(&text).unwrap())
}

/// What the recorded server was asked: path, headers of interest, body.
type Asked = Vec<(String, BTreeMap<String, String>, Value)>;

/// Answers three requests as recorded, and gives back what it was asked.
async fn replay(listener: TcpListener, transcript: Value, defect: fn(&mut Value)) -> Asked {
    let mut recorded = transcript.clone();
    defect(&mut recorded);
    let mut asked = Asked::new();
    while asked.len() < 3 {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        while asked.len() < 3 {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap() == 0 {
                break;
            }
            let path = line.split(' ').nth(1).unwrap().to_string();
            let mut headers = BTreeMap::new();
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).await.unwrap();
                let Some((name, value)) = line.trim().split_once(": ") else { break };
                headers.insert(name.to_lowercase(), value.to_string());
            }
            let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.unwrap();
            let (answer, cookie) = match path.as_str() {
                "/kbs/v0/auth" => (
                    json!({"nonce": recorded["challenge_nonce"], "extra-params": ""}),
                    "Set-Cookie: kbs-session-id=0123456789abcdef; Expires=Fri, 31 Dec 2038 00:00:00 GMT\r\n",
                ),
                "/kbs/v0/attest" => (json!({"token": recorded["token"]}), ""),
                _ => (recorded["jwe"].clone(), ""),
            };
            let answer = answer.to_string();
            let head = format!("HTTP/1.1 200 OK\r\n{cookie}Content-Length: {}\r\n\r\n", answer.len());
            stream.get_mut().write_all(format!("{head}{answer}").as_bytes()).await.unwrap();
            asked.push((path, headers, serde_json::from_slice(&body).unwrap_or(Value::Null)));
        }
    }
    asked
}

fn key(transcript: &Value) -> TeeKey {
    let scalar = transcript["tee_key_p256_scalar_hex"].as_str().unwrap();
    let bytes: Vec<u8> =
        (0..32).map(|index| u8::from_str_radix(&scalar[index * 2..index * 2 + 2], 16).unwrap()).collect();
    TeeKey::from_p256_scalar(Secret::new(bytes.try_into().unwrap())).unwrap()
}

async fn run(transcript: &Value, defect: fn(&mut Value)) -> (Result<SecretBytes, ClientError>, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(replay(listener, transcript.clone(), defect));
    let client = KbsClient::loopback(&url).unwrap();
    let evidence = |report_data: &ReportData| {
        let report_data = STANDARD.encode(report_data.digest().as_bytes());
        Ok(Evidence { primary: json!({"svn": "1", "report_data": report_data}), init_data: None })
    };
    let session = client.attest(Tee::Sample, key(transcript), evidence).await.unwrap();
    let value = session.resource(&"default/test/1".parse().unwrap()).await;
    (value, server.await.unwrap())
}

#[tokio::test]
async fn the_recorded_exchange_is_completed_and_its_resource_decrypted() {
    let Some(transcript) = transcript() else { return };
    let (value, asked) = run(&transcript, |_| ()).await;
    let expected = STANDARD.decode(transcript["plaintext_b64"].as_str().unwrap()).unwrap();
    assert!(value.is_ok_and(|value| value.equals(&expected)));

    let [(auth, _, auth_body), (attest, attest_headers, attest_body), (resource, resource_headers, _)] =
        asked.as_slice()
    else {
        panic!("not three requests");
    };
    assert_eq!((auth.as_str(), auth_body), ("/kbs/v0/auth", &transcript["auth_request"]));
    assert_eq!((attest.as_str(), attest_body), ("/kbs/v0/attest", &transcript["attest_request"]));
    assert_eq!(attest_headers["cookie"], "kbs-session-id=0123456789abcdef");
    assert_eq!(resource, "/kbs/v0/resource/default/test/1");
    assert_eq!(
        resource_headers["authorization"],
        format!("Bearer {}", transcript["token"].as_str().unwrap())
    );
}

#[tokio::test]
async fn a_changed_resource_is_not_decrypted() {
    let Some(transcript) = transcript() else { return };
    let (value, _) = run(&transcript, |recorded| {
        let tag = recorded["jwe"]["tag"].as_str().unwrap().replace('r', "s");
        recorded["jwe"]["tag"] = tag.into();
    })
    .await;
    assert!(matches!(value, Err(ClientError::Answer { .. })));
}

/// A broker of ours on a socket, which takes what a client negotiates.
#[tokio::test]
async fn a_new_key_is_hybrid_where_the_broker_takes_it() {
    use coffer_core_protocol::handshake::relying_party::{Challenger, ClusterKey};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let challenger = Challenger::new(ClusterKey::generate().unwrap(), [Tee::Sample]);
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let (mut cookie, mut sealed) = (String::new(), Vec::new());
        for path in ["/kbs/v0/auth", "/kbs/v0/attest", "/kbs/v0/resource/default/test/1"] {
            let body = request(&mut stream, path).await;
            let (extra, answer) = match path {
                "/kbs/v0/auth" => {
                    let issued = challenger.issue(&body, 1000).unwrap();
                    cookie = issued.cookie;
                    (format!("Set-Cookie: kbs-session-id={cookie}\r\n"), issued.body)
                }
                "/kbs/v0/attest" => {
                    let key = challenger.accept(&cookie, &body, 1000).unwrap().tee_pubkey.unwrap();
                    assert_eq!(key.algorithm(), "ECDH-ES+ML-KEM-768+A256KW");
                    sealed = coffer_core_protocol::jwe::seal(&key, b"secret").unwrap().to_json().unwrap();
                    (String::new(), json!({"token": "a.b.c"}).to_string().into_bytes())
                }
                _ => (String::new(), sealed.clone()),
            };
            let head = format!("HTTP/1.1 200 OK\r\n{extra}Content-Length: {}\r\n\r\n", answer.len());
            stream.get_mut().write_all(&[head.as_bytes(), &answer].concat()).await.unwrap();
        }
    });
    let client = KbsClient::loopback(&url).unwrap();
    let evidence = |_: &ReportData| Ok(Evidence { primary: json!({"svn": "1"}), init_data: None });
    let session = client.attest_with_new_key(Tee::Sample, evidence).await.unwrap();
    assert!(session.resource(&"default/test/1".parse().unwrap()).await.unwrap().equals(b"secret"));
    server.await.unwrap();
}

/// Reads one request for a path, and gives its body.
async fn request(stream: &mut BufReader<tokio::net::TcpStream>, path: &str) -> Vec<u8> {
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    assert_eq!(line.split(' ').nth(1), Some(path));
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    body
}

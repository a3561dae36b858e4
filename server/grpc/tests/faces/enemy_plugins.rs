//! Plugins that do not keep to the protocol: the caller gets an error in time, and nothing else happens.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coffer_server_grpc::{PluginClient, PluginConfig, PluginError};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::plugin::{call, config};

async fn ask(endpoint: String) -> PluginError {
    let config = PluginConfig { timeout: Duration::from_millis(500), ..config(endpoint) };
    PluginClient::connect(&config).unwrap().handle(&call(&["a"]), None).await.err().expect("an error")
}

/// An HTTP/2 server that answers everything with one response, and notes the timeout that it is told.
async fn answering(response: fn() -> Response<Full<Bytes>>) -> (String, Arc<Mutex<Option<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let told = Arc::new(Mutex::new(None));
    let note = told.clone();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = service_fn(move |request: Request<Incoming>| {
            let timeout = request.headers().get("grpc-timeout").unwrap().to_str().unwrap().to_owned();
            *note.lock().unwrap() = Some(timeout);
            async move { Ok::<_, Infallible>(response()) }
        });
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .await;
    });
    (endpoint, told)
}

fn grpc(body: &'static [u8]) -> Response<Full<Bytes>> {
    Response::builder()
        .header("content-type", "application/grpc")
        .body(Full::new(Bytes::from_static(body)))
        .unwrap()
}

#[tokio::test]
async fn answers_that_are_none_are_malformed() {
    let answers: [fn() -> Response<Full<Bytes>>; 5] = [
        // A message that is no message.
        || grpc(b"\0\0\0\0\x02\x0a\xff"),
        // Cut short.
        || grpc(b"\0\0\0\0\x09\x0a"),
        // Compressed, though nobody offered that.
        || grpc(b"\x01\0\0\0\0"),
        // Four gigabytes announced.
        || grpc(b"\0\xff\xff\xff\xff"),
        // No message at all.
        || grpc(b""),
    ];
    for (number, answer) in answers.into_iter().enumerate() {
        let (endpoint, told) = answering(answer).await;
        let error = ask(endpoint).await;
        assert_eq!(error.http_status(), 502, "answer {number}: {}", error.detail());
        let told = told.lock().unwrap().clone().expect("a timeout");
        let micros: u64 = told.strip_suffix('u').expect("microseconds").parse().unwrap();
        assert!(micros <= 500_000, "the plugin is told how long it has: {told}");
    }
}

#[tokio::test]
async fn a_web_server_is_no_plugin() {
    let (endpoint, _) = answering(|| Response::builder().status(503).body(Full::default()).unwrap()).await;
    assert_eq!(ask(endpoint).await.http_status(), 503);
    let (endpoint, _) = answering(|| Response::new(Full::new(Bytes::from_static(b"<html>")))).await;
    assert_eq!(ask(endpoint).await.http_status(), 502);
}

#[tokio::test]
async fn a_plugin_that_speaks_something_else_or_nothing_is_unavailable_or_late() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(b"SSH-2.0-x\r\n").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    assert_eq!(ask(endpoint).await.code(), "plugin.unavailable");

    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = ask(format!("http://{}", silent.local_addr().unwrap())).await;
    assert_eq!(error.code(), "plugin.timeout");
}

//! Clients that are broken or hostile: each is refused in its own right, and others are served.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use coffer_server_grpc::wire::attestation::{AttestationRequest, IndividualAttestationRequest};
use coffer_server_grpc::{Limits, Listener, MAX_MESSAGE, Security, ServeError, serve};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Frame};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::peer::{Pki, Server, WITHIN, services};

const PATH: &str = "/attestation.AttestationService/AttestationEvaluate";
const SOON: Duration = Duration::from_millis(300);

/// Headers and a body, with the gRPC status and the code that they are refused by.
type Defect = (&'static [(&'static str, &'static str)], Bytes, &'static str, &'static str);

/// A body that begins and never ends.
struct Endless(Option<Bytes>);

impl Body for Endless {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.0.take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None => Poll::Pending,
        }
    }
}

async fn connect<B>(server: &Server) -> SendRequest<B>
where
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + Unpin + 'static,
{
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    sender
}

fn request<B>(headers: &[(&str, &str)], body: B) -> Request<B> {
    let mut builder = Request::post(format!("http://broker{PATH}"));
    if !headers.iter().any(|(name, _)| *name == "content-type") {
        builder = builder.header("content-type", "application/grpc");
    }
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(body).unwrap()
}

fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap();
    [&[0], length.to_be_bytes().as_slice(), message].concat().into()
}

fn good() -> Bytes {
    let one =
        IndividualAttestationRequest { tee: "tdx".into(), evidence: "e30".into(), ..Default::default() };
    framed(&AttestationRequest { verification_requests: vec![one], policy_ids: vec![] }.encode_to_vec())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

/// The gRPC status and our code.
async fn outcome<B>(response: Response<B>) -> (String, String)
where
    B: Body<Error: std::fmt::Debug> + Unpin,
{
    let headers = response.headers().clone();
    let collected = response.into_body().collect().await.unwrap();
    let trailers = collected.trailers().cloned().unwrap_or_default();
    let of = |name| format!("{}{}", text(&headers, name), text(&trailers, name));
    (of("grpc-status"), of("coffer-code"))
}

async fn send(server: &Server, headers: &[(&str, &str)], body: Bytes) -> (String, String) {
    let response = connect(server).await.send_request(request(headers, Full::new(body))).await.unwrap();
    outcome(response).await
}

async fn is_served(server: &Server) -> bool {
    send(server, &[], good()).await.0 == "0"
}

#[tokio::test]
async fn each_defect_of_a_request_has_its_own_refusal() {
    let server = Server::start(services(), Security::Local, Limits::default()).await;
    assert!(is_served(&server).await);
    let long = framed(&vec![0; MAX_MESSAGE + 1]);
    let defects: [Defect; 12] = [
        (&[], Bytes::new(), "3", "request.malformed"),
        (&[], Bytes::from_static(b"\0\0\0"), "3", "request.malformed"),
        (&[], Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n"), "3", "request.malformed"),
        (&[], framed(b"\xff\xff\xff\xff"), "3", "request.malformed"),
        (&[], framed(b"\x0a\x7f"), "3", "request.malformed"),
        (&[], [good(), good()].concat().into(), "3", "request.malformed"),
        (&[], Bytes::from_static(b"\x01\0\0\0\0"), "12", "request.compressed"),
        (&[], Bytes::from_static(b"\0\xff\xff\xff\xff"), "8", "request.too-large"),
        (&[], long, "8", "request.too-large"),
        (&[("grpc-encoding", "gzip")], good(), "12", ""),
        (&[("grpc-timeout", "soon")], good(), "3", ""),
        (&[("authorization", "Basic x")], good(), "3", "request.malformed"),
    ];
    for (number, (headers, body, status, code)) in defects.into_iter().enumerate() {
        let found = send(&server, headers, body).await;
        assert_eq!(found.0, status, "defect {number}");
        assert!(found.1.contains(code), "defect {number}: {found:?}");
    }
    assert!(is_served(&server).await);
}

#[tokio::test]
async fn what_is_not_grpc_is_415() {
    let server = Server::start(services(), Security::Local, Limits::default()).await;
    let json = request(&[("content-type", "application/json")], Full::new(good()));
    let mut get = request(&[], Full::new(Bytes::new()));
    *get.method_mut() = hyper::Method::GET;
    for refused in [json, get] {
        let response = connect(&server).await.send_request(refused).await.unwrap();
        assert_eq!(response.status(), 415);
    }
}

#[tokio::test]
async fn a_body_that_does_not_end_is_given_up() {
    let limits = Limits { body: SOON, ..Limits::default() };
    let server = Server::start(services(), Security::Local, limits).await;
    let began = Instant::now();
    let mut sender = connect(&server).await;
    let response =
        sender.send_request(request(&[], Endless(Some(Bytes::from_static(b"\0\0\x10"))))).await.unwrap();
    assert_eq!(outcome(response).await, ("4".into(), "request.slow".into()));
    assert!(began.elapsed() < WITHIN);
    assert!(is_served(&server).await);
}

#[tokio::test]
async fn slow_bodies_that_fill_the_memory_refuse_their_own_connection_first() {
    let limits = Limits {
        memory: 4 << 20,
        memory_of_connection: 64 << 10,
        body: Duration::from_secs(5),
        ..Limits::default()
    };
    let server = Server::start(services(), Security::Local, limits).await;
    let mut sender = connect(&server).await;
    let filling: Bytes = vec![0; 60 << 10].into();
    let held = sender.send_request(request(&[], Endless(Some(filling.clone()))));
    let held = tokio::spawn(held);
    // Which of the two came first is the server's to say: one of them is refused at once.
    let second = sender.send_request(request(&[], Endless(Some(filling)))).await.unwrap();
    assert_eq!(outcome(second).await, ("14".into(), "request.busy".into()));
    assert!(is_served(&server).await, "another connection is served");
    held.abort();
}

#[tokio::test]
async fn connections_that_never_call_make_room() {
    let limits = Limits { connections: 2, first_call: SOON, handshake: SOON, ..Limits::default() };
    let server = Server::start(services(), Security::Local, limits.clone()).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut garbage = TcpStream::connect(server.address).await.unwrap();
    garbage.write_all(&[0xa5; 4096]).await.unwrap();
    assert!(tokio::time::timeout(WITHIN, is_served(&server)).await.expect("room"));
    for stream in [&mut silent, &mut garbage] {
        let _ = tokio::time::timeout(WITHIN, stream.read_to_end(&mut Vec::new())).await.expect("an end");
    }

    let pki = Pki::new();
    let server = Server::start(services(), Security::Tls(pki.server.clone()), limits).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let ended = tokio::time::timeout(WITHIN, silent.read_to_end(&mut Vec::new())).await;
    ended.expect("an end to a handshake that does not begin").unwrap();
}

#[tokio::test]
async fn an_idle_connection_is_ended_in_order() {
    let limits = Limits { idle: SOON, ..Limits::default() };
    let server = Server::start(services(), Security::Local, limits).await;
    let mut sender = connect(&server).await;
    assert!(sender.send_request(request(&[], Full::new(good()))).await.is_ok());
    let ended = async {
        while !sender.is_closed() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WITHIN, ended).await.expect("an end");
}

#[tokio::test]
async fn a_bomb_of_headers_hurts_its_sender_only() {
    let server = Server::start(services(), Security::Local, Limits::default()).await;
    let bomb = "x".repeat(64 << 10);
    let mut sender = connect(&server).await;
    match sender.send_request(request(&[("bomb", &bomb)], Full::new(good()))).await {
        Ok(response) => assert_eq!(response.status(), 431),
        Err(error) => drop(error),
    }
    assert!(is_served(&server).await);
}

#[tokio::test]
async fn cleartext_is_not_served_to_the_network_unless_it_is_named_insecure() {
    let open = async || Listener::Tcp(TcpListener::bind("0.0.0.0:0").await.unwrap());
    let now = std::future::ready(());
    let refused = serve(open().await, services(), Security::Local, Limits::default(), now.clone()).await;
    assert!(matches!(refused, Err(ServeError::Cleartext { .. })));
    let named = serve(open().await, services(), Security::InsecureCleartext, Limits::default(), now).await;
    assert!(named.is_ok());
}

//! A client of several replicas, against servers that fail in known ways.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Method, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use crate::{Call, CallError, Endpoint, Link, Patience, Protocol, Route, Tls};

/// What a server does with each call: a status, or nothing at all.
type Behaviour = fn(usize) -> Option<u16>;

/// Its address, its authority, and how many calls it had.
struct Served {
    endpoint: Endpoint,
    pem: String,
    calls: Arc<AtomicUsize>,
}

async fn serve(protocol: Protocol, behaviour: Behaviour) -> Served {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_string()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = calls.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, counter) = (acceptor.clone(), counter.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(move |_| {
                    let status = behaviour(counter.fetch_add(1, Ordering::SeqCst));
                    async move {
                        let Some(status) = status else { return std::future::pending().await };
                        let body =
                            Full::new(Bytes::from_static(br#"{"type":"t","detail":"d","code":"a.b"}"#));
                        Ok::<_, Infallible>(Response::builder().status(status).body(body).unwrap())
                    }
                });
                let stream = TokioIo::new(stream);
                let _ = match protocol {
                    Protocol::Http1 => {
                        hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await
                    }
                    Protocol::Http2 => {
                        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        builder.serve_connection(stream, service).await
                    }
                };
            });
        }
    });
    Served { endpoint: Endpoint::parse(&url).unwrap(), pem: made.cert.pem(), calls }
}

fn route(servers: &[&Served], protocol: Protocol, patience: Patience) -> Route {
    let pem: String = servers.iter().map(|server| server.pem.as_str()).collect();
    let tls = Tls::pinned(&pem).unwrap();
    let link = |server: &&Served| Link::new(server.endpoint.clone(), tls.clone(), protocol);
    Route::new(servers.iter().map(link).collect(), 0, patience)
}

fn quick() -> Patience {
    Patience {
        per_call: Duration::from_millis(300),
        deadline: Duration::from_secs(5),
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(20),
    }
}

fn call() -> Call {
    Call::new(Method::GET, "/x", Vec::new())
}

#[tokio::test]
async fn a_busy_replica_and_a_silent_one_are_left_for_one_that_answers() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let busy = serve(protocol, |_| Some(503)).await;
        let silent = serve(protocol, |_| None).await;
        let good = serve(protocol, |_| Some(200)).await;
        let route = route(&[&busy, &silent, &good], protocol, quick());
        for _ in 0..6 {
            assert_eq!(route.call(&call(), route.deadline()).await.unwrap().status, 200);
        }
        assert!(route.sent_again() >= 2);
        assert_eq!(good.calls.load(Ordering::SeqCst), 6);
    }
}

#[tokio::test]
async fn a_refusal_is_given_at_once_and_with_its_code() {
    let server = serve(Protocol::Http1, |_| Some(403)).await;
    let route = route(&[&server], Protocol::Http1, quick());
    let answer = route.call(&call(), route.deadline()).await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (403, "a.b"));
    assert_eq!(server.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_stays_busy_is_told_as_that_at_the_deadline_and_not_later() {
    let server = serve(Protocol::Http1, |_| Some(429)).await;
    let patience = Patience { deadline: Duration::from_millis(200), ..quick() };
    let route = route(&[&server], Protocol::Http1, patience);
    let begun = Instant::now();
    assert_eq!(route.call(&call(), route.deadline()).await.unwrap().status, 429);
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_place_where_nobody_listens_is_no_connection() {
    let server = serve(Protocol::Http1, |_| Some(200)).await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = Endpoint::parse(&format!("https://127.0.0.1:{port}")).unwrap();
    let patience = Patience { deadline: Duration::from_millis(100), ..quick() };
    let link = Link::new(nobody, Tls::pinned(&server.pem).unwrap(), Protocol::Http1);
    let route = Route::new(vec![link], 0, patience);
    let error = route.call(&call(), route.deadline()).await.err().unwrap();
    assert!(matches!(error, CallError::Connect { .. }), "{error}");
}

#[tokio::test]
async fn a_server_with_a_certificate_of_another_authority_is_not_spoken_to() {
    let (server, other) =
        (serve(Protocol::Http1, |_| Some(200)).await, serve(Protocol::Http1, |_| Some(200)).await);
    let link = Link::new(server.endpoint.clone(), Tls::pinned(&other.pem).unwrap(), Protocol::Http1);
    assert!(matches!(link.call(&call(), Duration::from_secs(5)).await, Err(CallError::Connect { .. })));
    assert_eq!(server.calls.load(Ordering::SeqCst), 0);
}

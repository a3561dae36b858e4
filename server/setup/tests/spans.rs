//! Spans reach a collector over OTLP, with their fields and nothing else.
#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use coffer_server_setup::{LogFormat, Telemetry, TelemetrySection};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};

type Export = (String, Bytes);

/// A collector that answers each export with an empty message and passes the body on.
fn collector(listener: TcpListener) -> mpsc::Receiver<Export> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let sender = sender.clone();
                let service = service_fn(move |request| answer(sender.clone(), request));
                let serving = http2::Builder::new(TokioExecutor::new());
                tokio::spawn(serving.serve_connection(TokioIo::new(stream), service));
            }
        });
    });
    receiver
}

async fn answer(
    sender: mpsc::Sender<Export>,
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, std::convert::Infallible>>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let _ = sender.send((path, body));
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
    // Not compressed, no bytes: a message with nothing in it.
    let message = Full::new(Bytes::from_static(&[0; 5])).with_trailers(async move { Some(Ok(trailers)) });
    let mut response = Response::new(message.boxed());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Ok(response)
}

#[test]
fn a_span_of_ours_reaches_the_collector_and_no_event_does() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let text =
        format!("endpoint = \"http://{}\"\nservice_name = \"kbs-of-test\"", listener.local_addr().unwrap());
    let exports = collector(listener);
    let section = TelemetrySection::read(&toml::from_str(&text).unwrap()).unwrap().unwrap();
    let telemetry = Telemetry::start(LogFormat::Json, Some(&section)).unwrap();
    {
        let span = tracing::info_span!(
            target: "coffer_server_http",
            "call",
            route = "/kbs/v0/auth",
            tenant = "team-a",
            status = tracing::field::Empty
        );
        let _inside = span.enter();
        tracing::info!(resource = "words-of-the-log", "released");
        span.record("status", 200);
        let _foreign = tracing::info_span!(target: "hyper", "words-of-another-crate").entered();
    }
    telemetry.stop();
    let (path, body) = exports.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(path, "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
    let has = |text: &str| body.windows(text.len()).any(|window| window == text.as_bytes());
    for text in ["call", "/kbs/v0/auth", "team-a", "status", "kbs-of-test", "service.version"] {
        assert!(has(text), "{text} is not in the export");
    }
    for text in ["words-of-the-log", "words-of-another-crate", env!("CARGO_MANIFEST_DIR")] {
        assert!(!has(text), "{text} left the machine");
    }
}

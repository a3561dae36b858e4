//! Connections: few, short, and each on its own task.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::Hub;
use crate::answer::answer;

/// More connections at once than a workload needs; others wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 32;
/// A request's head.
const MAX_HEAD: usize = 16 << 10;
/// How long a client may take to send a head, and how long an idle connection stays.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may last in all. Attesting again under load fits well.
const LIFETIME: Duration = Duration::from_secs(600);

/// Serves until the task is dropped.
pub async fn serve(hub: Hub, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let hub = hub.clone();
                tokio::spawn(async move {
                    connection(hub, stream).await;
                    drop(place);
                });
            }
            // Out of descriptors: the connections that are open must end first.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn connection(hub: Hub, stream: TcpStream) {
    let service = service_fn(move |request: Request<Incoming>| {
        let hub = hub.clone();
        async move {
            let query = request.uri().query().unwrap_or_default();
            Ok::<_, Infallible>(answer(&hub, request.method(), request.uri().path(), query).await)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    // A client that goes away is no event for the guest's public log.
    let _ended = tokio::time::timeout(LIFETIME, served).await;
}

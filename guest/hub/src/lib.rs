//! The workload's local API on 127.0.0.1:8006, with the paths of confidential containers' `api-server-rest`.
//!
//! What holds: it listens on loopback only, asks the broker for no resource that init-data does not name for the
//! workload, opens sealed secrets only after their signature was verified, and gives out nothing with which the workload could attest as its guest unless init-data says so. The
//! workload may measure events of its own, which can add to the log and take nothing from it; the guest's own domain is
//! kept from it. Bodies may be secret; nothing of them is logged.

mod answer;
mod api;
mod deliver;
#[cfg(test)]
mod tests;
mod unseal;
mod unseal_error;

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub use api::Hub;
pub use unseal::refuse_sealed;
pub use unseal_error::UnsealError;

/// Where workloads expect the API.
pub const ADDRESS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8006));

/// Connections served at once; more wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 32;
/// The pause after a connection that could not be accepted.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// How long a client may take to send its request's head.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);

/// Serves until it is dropped.
///
/// # Errors
/// When the listener is not on loopback.
pub async fn serve(listener: TcpListener, hub: Arc<Hub>) -> std::io::Result<()> {
    if !listener.local_addr()?.ip().is_loopback() {
        return Err(std::io::Error::new(
            std::io::ErrorKind::InvalidInput,
            "the local API listens on loopback only",
        ));
    }
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
        // A client that gave up, or want of descriptors, is no reason to end the API for good.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        let hub = Arc::clone(&hub);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let hub = Arc::clone(&hub);
                async move { Ok::<_, Infallible>(api::answer(&hub, request).await) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_PATIENCE)
                .max_buf_size(16 << 10)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            // A client that went away or sent no HTTP is its own affair.
            drop((served, place));
        });
    }
}

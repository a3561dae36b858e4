//! Listening: TLS, bounds on connections, and an orderly end.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tonic::body::Body;

use super::caller::Peer;
use super::intake::{Intake, Limits};
use super::services::Services;

/// A client that is silent for this long is asked whether it is still there, and given as long to answer.
const PING: Duration = Duration::from_secs(20);
/// After the system refused a connection (too many files).
const BREATH: Duration = Duration::from_millis(50);
const HEADERS: u32 = 16 << 10;
/// What a connection may send ahead of being read.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 512 << 10;

/// Where calls come from.
#[derive(Debug)]
pub enum Listener {
    /// A network address.
    Tcp(TcpListener),
    /// A socket file; its permissions are the caller's affair.
    Unix(UnixListener),
}

/// How calls are protected on their way.
#[derive(Clone)]
pub enum Security {
    /// TLS. Client certificates are as the configuration says.
    Tls(Arc<ServerConfig>),
    /// Cleartext, from this machine only: a loopback address or a Unix socket.
    Local,
    /// Cleartext from anywhere: tokens can be read on the way. For what stands behind a proxy with TLS of its own.
    InsecureCleartext,
}

/// Why serving did not begin.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Cleartext on an address that others reach.
    #[error(
        "{address} is no loopback address, and tokens would cross the network readable; give a certificate, or listen on 127.0.0.1"
    )]
    Cleartext {
        /// The address.
        address: SocketAddr,
    },
    /// The listener is not one.
    #[error("the listener has no address: {0}; bind it anew")]
    Listener(#[from] io::Error),
}

enum Stream {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

/// Serves until `shutdown` is ready; then ends open calls and returns.
pub async fn serve(
    listener: Listener,
    services: Services,
    security: Security,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let acceptor = acceptor(&listener, &security)?;
    let intake = Intake::new(limits);
    let (stop, stopping) = watch::channel(());
    let places = Arc::new(Semaphore::new(intake.limits().connections.max(1)));
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &places) => accepted,
        };
        if let Some((stream, place)) = accepted {
            let one = Connection {
                services: services.clone(),
                intake: intake.clone(),
                acceptor: acceptor.clone(),
                stopping: stopping.clone(),
            };
            connections.spawn(async move {
                one.run(stream).await;
                drop(place);
            });
        }
    }
    drop(listener);
    drop(stop);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(intake.limits().last_call, all).await.is_err() {
        tracing::warn!("open gRPC connections were ended");
    }
    Ok(())
}

fn acceptor(listener: &Listener, security: &Security) -> Result<Option<TlsAcceptor>, ServeError> {
    match (security, listener) {
        (Security::Tls(config), _) => {
            let mut config = ServerConfig::clone(config);
            config.alpn_protocols = vec![b"h2".to_vec()];
            Ok(Some(TlsAcceptor::from(Arc::new(config))))
        }
        (Security::Local, Listener::Tcp(listener)) => match listener.local_addr()? {
            address if address.ip().is_loopback() => Ok(None),
            address => Err(ServeError::Cleartext { address }),
        },
        (Security::Local, Listener::Unix(_)) | (Security::InsecureCleartext, _) => Ok(None),
    }
}

async fn accept(listener: &Listener, places: &Arc<Semaphore>) -> Option<(Stream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.ok()?;
    let accepted = match listener {
        Listener::Tcp(listener) => {
            listener.accept().await.map(|(stream, address)| Stream::Tcp(stream, address))
        }
        Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
    };
    match accepted {
        Ok(stream) => Some((stream, place)),
        Err(error) => {
            tracing::warn!(%error, "a gRPC connection could not be accepted");
            tokio::time::sleep(BREATH).await;
            None
        }
    }
}

struct Connection {
    services: Services,
    intake: Intake,
    acceptor: Option<TlsAcceptor>,
    stopping: watch::Receiver<()>,
}

impl Connection {
    async fn run(self, stream: Stream) {
        match stream {
            Stream::Tcp(stream, address) => {
                let _ = stream.set_nodelay(true);
                self.secure(stream, Some(address)).await;
            }
            Stream::Unix(stream) => self.secure(stream, None).await,
        }
    }

    async fn secure(self, stream: impl Io, address: Option<SocketAddr>) {
        let Some(acceptor) = self.acceptor.clone() else {
            return self.speak(stream, Peer { address, certificate: None }).await;
        };
        let handshake = acceptor.accept(stream);
        let Ok(Ok(stream)) = tokio::time::timeout(self.intake.limits().handshake, handshake).await else {
            return;
        };
        let session = stream.get_ref().1;
        if session.alpn_protocol() != Some(b"h2") {
            return;
        }
        let certificate = session
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(|certificate| certificate.as_ref().to_vec());
        self.speak(stream, Peer { address, certificate }).await;
    }

    async fn speak(self, stream: impl Io, peer: Peer) {
        let Self { services, intake, mut stopping, .. } = self;
        let limits = intake.limits();
        let activity = Arc::new(Activity::default());
        let (share, peer, noted) = (intake.share(), Arc::new(peer), activity.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (services, share, peer) = (services.clone(), share.clone(), peer.clone());
            let call = Activity::begin(&noted);
            async move {
                let response = services.call(request, &peer, &share).await;
                drop(call);
                Ok::<Response<Body>, Infallible>(response)
            }
        });
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_header_list_size(HEADERS)
            .max_concurrent_streams(limits.streams)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        tokio::select! {
            // How a connection ended is for the client to know.
            _ = connection.as_mut() => return,
            () = activity.first_call_missed(limits.first_call) => return,
            () = activity.idle(limits.idle) => (),
            _ = stopping.changed() => (),
            () = tokio::time::sleep(limits.age) => (),
        }
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(limits.last_call, connection).await;
    }
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for T {}

/// The calls of a connection: how many began, and how many are open.
#[derive(Default)]
struct Activity {
    begun: AtomicU64,
    open: AtomicUsize,
}

struct Open(Arc<Activity>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Activity {
    fn begin(this: &Arc<Self>) -> Open {
        this.begun.fetch_add(1, Ordering::Relaxed);
        this.open.fetch_add(1, Ordering::Relaxed);
        Open(this.clone())
    }

    /// Ready when no call came in time; never if one did.
    async fn first_call_missed(&self, within: Duration) {
        tokio::time::sleep(within).await;
        if self.begun.load(Ordering::Relaxed) != 0 {
            std::future::pending::<()>().await;
        }
    }

    /// Ready when no call was open or came for `within`.
    async fn idle(&self, within: Duration) {
        loop {
            let begun = self.begun.load(Ordering::Relaxed);
            tokio::time::sleep(within).await;
            if self.begun.load(Ordering::Relaxed) == begun && self.open.load(Ordering::Relaxed) == 0 {
                return;
            }
        }
    }
}

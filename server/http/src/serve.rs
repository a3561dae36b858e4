//! Listening: TLS, limits, and an orderly end.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use coffer_server_grpc::{Security, Services};
use coffer_server_identity::ClientCertificate;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::broker::Broker;
use crate::call::{Client, Shown};
use crate::error::OpenError;
use crate::leftover;
use crate::service::Service as Evaluator;
use crate::tls::Clients;

/// Where proxies say whom they saw.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEAD: Duration = Duration::from_secs(15);
/// The same for a connection that came when most places were taken: whoever only holds places gives them back soon.
const PRESSED: Duration = Duration::from_secs(2);
/// A connection is asked to end after this, and ended after [`LAST_CALL`] more; a client comes again.
const CONNECTION: Duration = Duration::from_secs(600);
const LAST_CALL: Duration = Duration::from_secs(10);
/// After an accept that failed (no descriptors left), the next one is not tried at once.
const BREATH: Duration = Duration::from_millis(50);
const HEADERS: usize = 64;
/// A head with a token of eight GPUs: their claims, and their raw evidence where the configuration asks for it.
const BUFFER: usize = 512 << 10;
/// How many calls one HTTP/2 connection makes at once.
const STREAMS: u32 = 16;
/// HTTP/2: who does not answer a ping for so long is gone.
const PING: Duration = Duration::from_secs(20);
/// How often collateral that is due is looked for.
const REFRESH: Duration = Duration::from_secs(600);

/// Serving ended with an error.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; is another broker there?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// The certificates.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The file that tells clients on this machine where the broker is.
    #[error("cannot write {path}: {source}")]
    Url {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl Broker {
    /// Listens where the configuration says.
    pub async fn listen(&self) -> Result<TcpListener, ServeError> {
        let address = self.config().listen;
        TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })
    }

    /// The address that clients on this machine use, as in `https://127.0.0.1:8443`.
    pub fn url(&self, listener: &TcpListener) -> String {
        let address = listener.local_addr().unwrap_or(self.config().listen);
        let host = match address.ip() {
            ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            ip => ip,
        };
        format!("https://{}", SocketAddr::new(host, address.port()))
    }

    /// Serves until `shutdown` is ready; then ends open calls and returns. While it serves, the address is in the
    /// file `url` of the data folder.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let acceptor = TlsAcceptor::from(self.inner().tls.server_config(Clients::Asked)?);
        let url = UrlFile::write(self.config().data_dir.join("url"), &self.url(&listener))?;
        let (stop, stopping) = watch::channel(());
        let places = Arc::new(Semaphore::new(self.config().max_connections.max(1)));
        let mut connections = JoinSet::new();
        let mut maintenance = tokio::time::interval(self.inner().maintenance());
        maintenance.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut refreshed = Instant::now();
        let busy = Arc::new(AtomicBool::new(false));
        let router = self.router();
        let grpc = self.serve_grpc(stopping.clone()).await?;
        // First it says that it is not ready, then it goes on for a while, and then it takes nobody new.
        let shutdown = async {
            shutdown.await;
            self.inner().drain();
            tokio::time::sleep(self.config().drain.0).await;
        };
        tokio::pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                _ = maintenance.tick() => {
                    self.maintain(&busy);
                    // What is due is fetched before somebody waits for it.
                    if refreshed.elapsed() >= REFRESH {
                        refreshed = Instant::now();
                        let broker = self.clone();
                        tokio::spawn(async move { broker.inner().collateral.refresh().await });
                    }
                    continue;
                }
                Some(_) = connections.join_next() => continue,
                accepted = accept(&listener, &places) => accepted,
            };
            if let Some((stream, place)) = accepted {
                let open = self.clone();
                let few = places.available_permits() < self.config().max_connections.div_ceil(4);
                let patience = if few { PRESSED } else { HEAD };
                let one = connection(
                    stream,
                    acceptor.clone(),
                    self.clone(),
                    router.clone(),
                    stopping.clone(),
                    place,
                    patience,
                );
                connections.spawn(async move {
                    open.inner().metrics.connections.inc();
                    one.await;
                    open.inner().metrics.connections.dec();
                });
            }
        }
        drop(listener);
        drop(url);
        drop(stop);
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_CALL, all).await.is_err() {
            tracing::warn!("open connections were ended");
        }
        if let Some(grpc) = grpc {
            let _ = tokio::time::timeout(LAST_CALL, grpc).await;
        }
        Ok(())
    }

    /// Begins what must be done now and then, if the last time has ended.
    fn maintain(&self, busy: &Arc<AtomicBool>) {
        if busy.swap(true, Ordering::SeqCst) {
            return;
        }
        let (broker, busy) = (self.clone(), busy.clone());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = broker.inner().maintain() {
                tracing::error!(%error, "what is in force could not be read anew");
            }
            busy.store(false, Ordering::SeqCst);
        });
    }

    /// The attestation service and the reference values over gRPC, where the configuration says.
    async fn serve_grpc(
        &self,
        mut stopping: watch::Receiver<()>,
    ) -> Result<Option<tokio::task::JoinHandle<()>>, ServeError> {
        let Some(address) = self.config().grpc.listen else { return Ok(None) };
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| ServeError::Listen { address, source })?;
        let service = Arc::new(Evaluator(self.clone()));
        let services = Services::new().attestation(service.clone()).references(service);
        let security = Security::Tls(self.inner().tls.server_config(Clients::NotAsked)?);
        tracing::info!(%address, "gRPC is served");
        Ok(Some(tokio::spawn(async move {
            let ended = async move { drop(stopping.changed().await) };
            let served = coffer_server_grpc::serve(
                coffer_server_grpc::Listener::Tcp(listener),
                services,
                security,
                coffer_server_grpc::Limits::default(),
                ended,
            );
            if let Err(error) = served.await {
                tracing::error!(%error, "gRPC is not served");
            }
        })))
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(BREATH).await;
            None
        }
    }
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    broker: Broker,
    router: Router,
    mut stopping: watch::Receiver<()>,
    place: OwnedSemaphorePermit,
    patience: Duration,
) {
    let _place = place;
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE.min(patience), acceptor.accept(stream)).await else {
        return;
    };
    let peer = stream.get_ref().0.peer_addr().ok().map(|address| address.ip());
    let shown = shown(stream.get_ref().1);
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stream = TokioIo::new(stream);
    let (service, called) = noticed(router, Caller { peer, shown, broker });
    match is_h2 {
        true => {
            let connection = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_header_list_size(u32::try_from(BUFFER).unwrap_or(u32::MAX))
                .max_concurrent_streams(STREAMS)
                .keep_alive_interval(PING)
                .keep_alive_timeout(PING)
                .serve_connection(stream, service);
            tokio::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => return,
                // HTTP/2 has no time limit of its own on the first head.
                () = first_call(&called, patience) => return,
                _ = stopping.changed() => (),
                () = tokio::time::sleep(CONNECTION) => (),
            }
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(LAST_CALL, connection).await;
        }
        false => {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(patience)
                .max_headers(HEADERS)
                .max_buf_size(BUFFER)
                .serve_connection(stream, service);
            tokio::pin!(connection);
            tokio::select! {
                // How a connection ended is for the client to know; the broker has told its decisions already.
                _ = connection.as_mut() => return,
                _ = stopping.changed() => (),
                () = tokio::time::sleep(CONNECTION) => (),
            }
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(LAST_CALL, connection).await;
        }
    }
}

/// The client's own certificate, which the handshake verified.
fn shown(connection: &rustls::ServerConnection) -> Option<Shown> {
    let own = connection.peer_certificates()?.first()?;
    match ClientCertificate::from_verified_der(own) {
        Ok(certificate) => Some(Shown(Arc::new(certificate))),
        Err(error) => {
            tracing::info!(%error, "a client's certificate names nobody");
            None
        }
    }
}

/// Whose connection it is.
struct Caller {
    peer: Option<IpAddr>,
    shown: Option<Shown>,
    broker: Broker,
}

impl Caller {
    /// Tells the handlers who calls.
    fn introduce(&self, request: &mut Request<Incoming>) {
        if let Some(peer) = self.peer {
            let values = request.headers().get_all(FORWARDED_FOR).iter().map(HeaderValue::as_bytes);
            let client = self.broker.config().trusted_proxies.client(peer, values);
            request.extensions_mut().insert(Client(client));
        }
        if let Some(shown) = self.shown.clone() {
            request.extensions_mut().insert(shown);
        }
    }
}

type Noticed = Arc<AtomicBool>;

/// The router, told who calls, with a note of whether it was ever called.
fn noticed(
    router: Router,
    caller: Caller,
) -> (impl Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send> + Clone, Noticed)
{
    let called = Noticed::default();
    let note = called.clone();
    let inner = TowerToHyperService::new(router);
    let caller = Arc::new(caller);
    let service = service_fn(move |mut request: Request<Incoming>| {
        note.store(true, Ordering::Relaxed);
        caller.introduce(&mut request);
        let (request, leftover) = leftover::lend(request);
        let answer = inner.call(request);
        async move {
            let mut answer = answer.await?;
            leftover.settle(&mut answer).await;
            Ok(answer)
        }
    });
    (service, called)
}

/// Ready when no call came in time; never if one did.
async fn first_call(called: &Noticed, patience: Duration) {
    tokio::time::sleep(patience).await;
    if called.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

/// The file that tells clients on this machine where the broker is; gone when the broker is.
struct UrlFile(PathBuf);

impl UrlFile {
    fn write(path: PathBuf, url: &str) -> Result<Self, ServeError> {
        let temporary = path.with_extension("new");
        let write = || {
            std::fs::write(&temporary, format!("{url}\n"))?;
            std::fs::rename(&temporary, &path)
        };
        match write() {
            Ok(()) => Ok(Self(path)),
            Err(source) => Err(ServeError::Url { path, source }),
        }
    }
}

impl Drop for UrlFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Ready when the process is asked to end: SIGTERM or SIGINT. They are caught from this call on, not only from
/// the first wait. Call it inside a runtime.
pub fn shutdown_signal() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let signals =
        signal(SignalKind::terminate()).and_then(|term| Ok((term, signal(SignalKind::interrupt())?)));
    async move {
        let Ok((mut term, mut int)) = signals else {
            tracing::error!("signals cannot be waited for; the broker ends only when it is killed");
            return std::future::pending().await;
        };
        tokio::select! {
            _ = term.recv() => (),
            _ = int.recv() => (),
        }
    }
}

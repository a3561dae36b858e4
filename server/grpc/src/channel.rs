//! A connection that is made when it is needed, and made anew when it broke.
//!
//! Every call has a deadline, which the other end is told. A request that was certainly not sent is sent once more;
//! one that may have been sent is not, because it may have done something.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use coffer_core_admin::TenantName;
use coffer_core_secret::Secret;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::Message;
use tokio::sync::{Mutex, Semaphore};
use tonic::body::Body;
use tonic::client::{Grpc, GrpcService};
use tonic::{Code, Status};

use crate::backend::BoxFuture;
use crate::codec::RawCodec;
use crate::endpoint::Endpoint;
use crate::{MAX_MESSAGE, TENANT_METADATA};

const CONNECT: Duration = Duration::from_secs(5);
/// After a failed attempt the others who wait fail too, rather than try one after the other.
const BACKOFF: Duration = Duration::from_millis(250);
const PING: Duration = Duration::from_secs(20);
const HEADERS: u32 = 16 << 10;
/// Calls at a time; more wait within their deadlines.
const CALLS: usize = 128;

/// A client's end of a service.
#[derive(Clone)]
pub struct Channel(Arc<Inner>);

struct Inner {
    endpoint: Endpoint,
    link: Mutex<Link>,
    places: Semaphore,
}

#[derive(Default)]
struct Link {
    sender: Option<SendRequest<Body>>,
    failed: Option<(Instant, String)>,
}

/// What goes with a call.
pub struct CallOptions<'a> {
    /// For the call as a whole.
    pub within: Duration,
    /// Sent as `authorization: Bearer …`.
    pub bearer: Option<&'a Secret<String>>,
    /// Sent as `coffer-tenant`.
    pub tenant: Option<&'a TenantName>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The request is too long to be sent.
    #[error("the request has {found} bytes; at most {MAX_MESSAGE} are sent")]
    TooLarge {
        /// Its length.
        found: usize,
    },
    /// The answer came, and is not one.
    #[error("the answer does not fit its description in proto/: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// The other end refused, or there is no connection.
    #[error("{}: {}", .0.code(), .0.message())]
    Status(#[from] Status),
}

impl Channel {
    /// Nothing is connected yet.
    pub fn lazy(endpoint: Endpoint) -> Self {
        Self(Arc::new(Inner { endpoint, link: Mutex::default(), places: Semaphore::new(CALLS) }))
    }

    /// Calls `/<service>/<method>`.
    pub async fn unary<Q, R>(
        &self,
        service: &str,
        method: &str,
        message: Q,
        options: CallOptions<'_>,
    ) -> Result<R, CallError>
    where
        Q: Message + 'static,
        R: Message + Default + 'static,
    {
        let found = message.encoded_len();
        if found > MAX_MESSAGE {
            return Err(CallError::TooLarge { found });
        }
        let path = PathAndQuery::try_from(format!("/{service}/{method}"))
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let mut request = tonic::Request::new(message);
        request.set_timeout(options.within);
        if let Some(bearer) = options.bearer {
            let value = format!("Bearer {}", bearer.expose());
            let mut value = tonic::metadata::MetadataValue::try_from(value)
                .map_err(|_| Status::invalid_argument("the token has characters that no token has"))?;
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        if let Some(tenant) = options.tenant {
            let value = tonic::metadata::MetadataValue::try_from(tenant.as_str())
                .map_err(|error| Status::invalid_argument(error.to_string()))?;
            request.metadata_mut().insert(TENANT_METADATA, value);
        }
        let call = async {
            let _place =
                self.0.places.acquire().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let mut grpc = Grpc::with_origin(Via(self), self.0.endpoint.origin().clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE);
            grpc.unary(request, path, RawCodec::<Q>::new()).await
        };
        let answer = match tokio::time::timeout(options.within, call).await {
            Ok(answer) => answer?.into_inner(),
            Err(_) => return Err(Status::deadline_exceeded(format!("within {:?}", options.within)).into()),
        };
        Ok(R::decode(answer.as_slice())?)
    }

    async fn sender(&self) -> Result<SendRequest<Body>, Status> {
        let mut link = self.0.link.lock().await;
        if let Some(sender) = link.sender.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        if let Some((at, why)) = link.failed.as_ref().filter(|(at, _)| at.elapsed() < BACKOFF) {
            return Err(Status::unavailable(format!("{why} (tried {:?} ago)", at.elapsed())));
        }
        link.sender = None;
        let dialled = match tokio::time::timeout(CONNECT, dial(&self.0.endpoint)).await {
            Ok(dialled) => dialled,
            Err(_) => Err(format!("no connection within {CONNECT:?}")),
        };
        match dialled {
            Ok(sender) => {
                *link = Link { sender: Some(sender.clone()), failed: None };
                Ok(sender)
            }
            Err(why) => {
                link.failed = Some((Instant::now(), why.clone()));
                Err(Status::unavailable(why))
            }
        }
    }

    async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, Status> {
        let lost = |error: hyper::Error| Status::unavailable(format!("the connection was lost: {error}"));
        let mut refused = match self.sender().await?.try_send_request(request).await {
            Ok(response) => return Ok(response),
            Err(refused) => refused,
        };
        match refused.take_message() {
            Some(unsent) => {
                self.0.link.lock().await.sender = None;
                self.sender().await?.send_request(unsent).await.map_err(lost)
            }
            None => Err(lost(refused.into_error())),
        }
    }
}

async fn dial(endpoint: &Endpoint) -> Result<SendRequest<Body>, String> {
    let stream = endpoint.dial().await.map_err(|error| error.to_string())?;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_header_list_size(HEADERS)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    // It ends with its last sender, or with the other end.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a gRPC connection ended");
        }
    });
    Ok(sender)
}

/// One call's way to the channel, as tonic wants to see it.
struct Via<'a>(&'a Channel);

impl<'a> GrpcService<Body> for Via<'a> {
    type ResponseBody = Incoming;
    type Error = Status;
    type Future = BoxFuture<'a, Result<Response<Incoming>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let channel = self.0;
        Box::pin(channel.send(request))
    }
}

impl CallError {
    /// Whether the connection failed, rather than the other end answered.
    pub(crate) fn is_transport(&self) -> bool {
        use std::error::Error;
        match self {
            // What tonic makes of a broken body has a source; what came over the wire has none.
            Self::Status(status) => status.code() == Code::Unavailable || status.source().is_some(),
            Self::TooLarge { .. } | Self::Malformed(_) => false,
        }
    }
}

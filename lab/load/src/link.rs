//! One way to one broker: a kept connection, opened anew when it broke. Over HTTP/2 many calls share it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::{http1, http2};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::Mutex;

use crate::endpoint::{Endpoint, Protocol, Tls};

/// An answer is not longer than this: a verdict with all of a guest's events fits.
const ANSWER_LIMIT: usize = 8 << 20;
/// How long a link that failed is left alone while there are others.
const REST: Duration = Duration::from_millis(500);

/// A request that can be sent again.
#[derive(Clone)]
pub struct Call {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Call {
    /// A call with this path, which begins with a slash.
    pub fn new(method: Method, path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { method, path: path.into(), headers: HeaderMap::new(), body: body.into() }
    }

    /// With a header; one whose value cannot be sent is left out, and the broker says what it misses.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(mut value) = HeaderValue::from_str(value) {
            value.set_sensitive(true);
            self.headers.insert(name, value);
        }
        self
    }

    /// With JSON as its body's type.
    #[must_use]
    pub fn json(self) -> Self {
        self.with(header::CONTENT_TYPE, "application/json")
    }

    /// The path.
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// What came back.
#[derive(Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The session's cookie, name and value, if one was set.
    pub cookie: Option<String>,
    /// How long the broker asks to wait.
    pub retry_after: Option<Duration>,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// Whether it is a success.
    pub fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The stable code of a refusal, or `http.<status>`.
    pub fn code(&self) -> String {
        let body: Option<coffer_core_protocol::error::ErrorBody> = serde_json::from_slice(&self.body).ok();
        body.and_then(|body| body.code).unwrap_or_else(|| format!("http.{}", self.status))
    }
}

/// No answer came.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No connection.
    #[error("no connection to {authority}: {why}")]
    Connect {
        /// `host:port`.
        authority: String,
        /// The cause.
        why: String,
    },
    /// The connection ended before the answer did.
    #[error("the connection to {authority} broke: {why}")]
    Broken {
        /// `host:port`.
        authority: String,
        /// The cause.
        why: String,
    },
    /// The answer took too long.
    #[error("{authority} did not answer within {} ms", .limit.as_millis())]
    Late {
        /// `host:port`.
        authority: String,
        /// The bound.
        limit: Duration,
    },
    /// The call has no form in HTTP.
    #[error("the call to {path:?} cannot be written: {why}")]
    Call {
        /// Its path.
        path: String,
        /// The cause.
        why: String,
    },
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// One way to one broker.
pub struct Link {
    endpoint: Endpoint,
    tls: Tls,
    protocol: Protocol,
    open: Mutex<Option<Sender>>,
    begun: Instant,
    /// Milliseconds after `begun` until which it rests.
    rests_until: AtomicU64,
}

impl Link {
    /// A link that is not connected yet.
    pub fn new(endpoint: Endpoint, tls: Tls, protocol: Protocol) -> Arc<Self> {
        let (open, begun, rests_until) = (Mutex::new(None), Instant::now(), AtomicU64::new(0));
        Arc::new(Self { endpoint, tls, protocol, open, begun, rests_until })
    }

    /// Whether it failed a moment ago.
    pub fn rests(&self) -> bool {
        u128::from(self.rests_until.load(Ordering::Relaxed)) > self.begun.elapsed().as_millis()
    }

    /// Sends and waits for the whole answer, not longer than `limit`. A connection that failed is not used again.
    pub async fn call(&self, call: &Call, limit: Duration) -> Result<Answer, CallError> {
        let late = |_| CallError::Late { authority: self.endpoint.authority().to_string(), limit };
        let answer = tokio::time::timeout(limit, self.try_call(call)).await.map_err(late).flatten();
        if answer.is_err() {
            self.close().await;
            let until = (self.begun.elapsed() + REST).as_millis();
            self.rests_until.store(u64::try_from(until).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        answer
    }

    /// Forgets the connection; the next call opens another.
    pub async fn close(&self) {
        self.open.lock().await.take();
    }

    async fn try_call(&self, call: &Call) -> Result<Answer, CallError> {
        let request = self.request(call)?;
        let kept = match self.protocol {
            Protocol::Http1 => usable(self.open.lock().await.take()).await,
            Protocol::Http2 => Some(self.shared().await?),
        };
        let sender = match kept {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let broken = |error: hyper::Error| self.broken(&error.to_string());
        match sender {
            Sender::Http1(mut sender) => {
                sender.ready().await.map_err(broken)?;
                let response = sender.send_request(request).await.map_err(broken)?;
                let answer = read(response).await.map_err(|why| self.broken(&why))?;
                // Only now may another call use the connection.
                *self.open.lock().await = Some(Sender::Http1(sender));
                Ok(answer)
            }
            Sender::Http2(mut sender) => {
                let response = sender.send_request(request).await.map_err(broken)?;
                read(response).await.map_err(|why| self.broken(&why))
            }
        }
    }

    /// HTTP/2: the connection that all share, opened by the first who finds none.
    async fn shared(&self) -> Result<Sender, CallError> {
        let mut open = self.open.lock().await;
        let sender = match usable(open.take()).await {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        if let Sender::Http2(sender) = &sender {
            *open = Some(Sender::Http2(sender.clone()));
        }
        Ok(sender)
    }

    async fn connect(&self) -> Result<Sender, CallError> {
        let failed =
            |why: String| CallError::Connect { authority: self.endpoint.authority().to_string(), why };
        let stream = self.endpoint.connect_tls(&self.tls, self.protocol).await;
        let stream = TokioIo::new(stream.map_err(|error| failed(error.to_string()))?);
        let why = |error: hyper::Error| failed(error.to_string());
        Ok(match self.protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(stream).await.map_err(why)?;
                tokio::spawn(connection);
                Sender::Http1(sender)
            }
            Protocol::Http2 => {
                let (sender, connection) =
                    http2::handshake(TokioExecutor::new(), stream).await.map_err(why)?;
                tokio::spawn(connection);
                Sender::Http2(sender)
            }
        })
    }

    fn request(&self, call: &Call) -> Result<Request<Full<Bytes>>, CallError> {
        let failed = |why: String| CallError::Call { path: call.path.clone(), why };
        let mut request = Request::new(Full::new(call.body.clone()));
        *request.method_mut() = call.method.clone();
        let authority = self.endpoint.authority();
        let uri = match self.protocol {
            Protocol::Http1 => call.path.parse::<Uri>(),
            Protocol::Http2 => format!("https://{authority}{}", call.path).parse::<Uri>(),
        };
        *request.uri_mut() = uri.map_err(|error| failed(error.to_string()))?;
        *request.headers_mut() = call.headers.clone();
        if self.protocol == Protocol::Http1 {
            let host = HeaderValue::from_str(authority).map_err(|error| failed(error.to_string()))?;
            request.headers_mut().insert(header::HOST, host);
        }
        Ok(request)
    }

    fn broken(&self, why: &str) -> CallError {
        CallError::Broken { authority: self.endpoint.authority().to_string(), why: why.to_string() }
    }
}

/// A kept connection, unless it ended meanwhile.
async fn usable(sender: Option<Sender>) -> Option<Sender> {
    let mut sender = sender?;
    let ready = match &mut sender {
        Sender::Http1(sender) => !sender.is_closed() && sender.ready().await.is_ok(),
        Sender::Http2(sender) => !sender.is_closed() && sender.ready().await.is_ok(),
    };
    ready.then_some(sender)
}

async fn read(response: Response<hyper::body::Incoming>) -> Result<Answer, String> {
    let status = response.status().as_u16();
    let text = |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
    let retry_after = text(header::RETRY_AFTER).and_then(|value| value.parse().ok()).map(Duration::from_secs);
    let cookie = text(header::SET_COOKIE).and_then(|value| Some(value.split(';').next()?.trim().to_string()));
    let body = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    Ok(Answer { status, cookie, retry_after, body })
}

//! Which call goes where, and the bounds that hold for all of them.

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use coffer_core_protocol::error::Code;
use http_body_util::BodyExt;

use crate::broker::Broker;
use crate::reply::Refused;
use crate::{admin, kbs};

/// No call takes longer, from its head to the end of its body and work.
const CALL_TIME: Duration = Duration::from_secs(30);
/// How much of a body that is too long is read and thrown away.
const OVERRUN: usize = 8 << 20;

/// What handlers give.
pub(crate) type Answer = Result<Response, Refused>;

impl Broker {
    /// The calls of the broker, without TLS around them.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .merge(kbs::router(self))
            .merge(admin::router(self))
            .fallback(|| async { Refused::plain(Code::RouteUnknown) })
            .method_not_allowed_fallback(|| async { Refused::plain(Code::RouteUnknown) })
            .layer(middleware::from_fn(bounded))
            .with_state(self.clone())
    }
}

async fn bounded(request: Request, next: Next) -> Response {
    let answer = tokio::time::timeout(CALL_TIME, next.run(request)).await;
    let mut response = answer.unwrap_or_else(|_| StatusCode::REQUEST_TIMEOUT.into_response());
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    response
}

/// Reads a body of bounded length.
pub(crate) async fn body(request: Request, limit: usize) -> Result<Bytes, Refused> {
    let mut body = request.into_body();
    let mut read = Vec::new();
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let cut = |_| Refused::new(Code::Malformed, "The request's body could not be read to its end.");
        let Ok(data) = frame.map_err(cut)?.into_data() else { continue };
        length = length.saturating_add(data.len());
        match length {
            _ if length <= limit => read.extend_from_slice(&data),
            // Read on for a while without keeping it: a client that is still sending would not see the answer.
            _ if length <= limit.saturating_add(OVERRUN) => read = Vec::new(),
            _ => break,
        }
    }
    match length <= limit {
        true => Ok(read.into()),
        false => {
            Err(Refused::new(Code::TooLarge, format!("The request's body is longer than {limit} bytes.")))
        }
    }
}

/// The bearer token, if there is one.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Work that waits for the disk, off the threads that serve.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refused> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a call failed");
        Refused::plain(Code::Internal)
    })
}

//! Which call goes where, and the bounds that hold for all of them.

use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use coffer_core_protocol::error::Code;

use crate::broker::Broker;
use crate::reply::Refused;
use crate::{admin, kbs};

/// No call takes longer, from its head to the end of its body and work.
const CALL_TIME: Duration = Duration::from_secs(30);

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

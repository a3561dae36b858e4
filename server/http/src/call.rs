//! What every call has: a bounded body, a bearer token, work off the serving threads, and an answer.

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use coffer_core_protocol::error::Code;
use http_body_util::BodyExt;

use crate::reply::Refused;

/// How much of a body that is too long is read and thrown away.
const OVERRUN: usize = 16 << 20;

/// What handlers give.
pub(crate) type Answer = Result<Response, Refused>;

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

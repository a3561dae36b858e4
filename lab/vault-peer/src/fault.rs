//! Faults that a test asks for.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// What happens instead of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status with an error.
    Status(u16),
    /// This status with `Retry-After` in seconds.
    Busy(u16, u32),
    /// A redirect to the address.
    Redirect(String),
    /// A body that ends before its announced length.
    Cut,
    /// A body of five megabytes.
    Long,
    /// A body that is no JSON.
    Nonsense,
    /// No answer before this time has passed.
    Delay(Duration),
}

impl Fault {
    pub(crate) async fn happen(self) -> Option<Response> {
        let error = |status: u16| {
            let status = StatusCode::from_u16(status).expect("a test names a valid status");
            (status, axum::Json(json!({ "errors": ["made on purpose"] }))).into_response()
        };
        match self {
            Self::Status(status) => Some(error(status)),
            Self::Busy(status, seconds) => {
                let mut response = error(status);
                response.headers_mut().insert("retry-after", seconds.into());
                Some(response)
            }
            Self::Redirect(to) => Some((StatusCode::TEMPORARY_REDIRECT, [("location", to)]).into_response()),
            Self::Cut => {
                // The connection is broken by the error that the body ends with, before its announced length.
                let pieces = [Ok(Bytes::from_static(b"{\"data\":")), Err(std::io::Error::other("cut"))];
                let body = Body::from_stream(futures::stream::iter(pieces));
                Some(([("content-length", "4096")], body).into_response())
            }
            Self::Long => Some(Bytes::from(vec![b' '; 5 << 20]).into_response()),
            Self::Nonsense => Some("<html>not a vault</html>".into_response()),
            Self::Delay(time) => {
                tokio::time::sleep(time).await;
                None
            }
        }
    }
}

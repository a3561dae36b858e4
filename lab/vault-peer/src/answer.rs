//! Answers, and the forms that they have.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::random;

/// An answer before it is a response.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Option<Value>,
}

pub(crate) fn ok(body: Value) -> Answer {
    Answer { status: 200, body: Some(body) }
}

pub(crate) fn data(data: Value) -> Answer {
    ok(json!({
        "request_id": random::hex(16),
        "lease_id": "",
        "renewable": false,
        "lease_duration": 0,
        "data": data,
        "wrap_info": null,
        "warnings": null,
        "auth": null,
    }))
}

pub(crate) fn nothing() -> Answer {
    Answer { status: 204, body: None }
}

pub(crate) fn error(status: u16, why: &str) -> Answer {
    Answer { status, body: Some(json!({ "errors": [why] })) }
}

/// What an engine says of what it does not have.
pub(crate) fn absent() -> Answer {
    Answer { status: 404, body: Some(json!({ "errors": [] })) }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        match self.body {
            Some(body) => (status, axum::Json(body)).into_response(),
            None => status.into_response(),
        }
    }
}

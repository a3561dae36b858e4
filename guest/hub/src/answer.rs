//! Answers: bytes as they are, JSON, or a reason with its code.

use bytes::Bytes;
use coffer_core_channel::Refusal;
use coffer_core_secret::SecretBytes;
use coffer_guest_attest::AttestError;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

/// An answer to the workload.
pub(crate) type Answer = Response<Full<Bytes>>;

/// A secret on its way to the workload; wiped when the answer is sent.
struct Outgoing(SecretBytes);

impl AsRef<[u8]> for Outgoing {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

fn with(status: StatusCode, form: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(form));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// A secret, byte for byte.
pub(crate) fn secret(value: SecretBytes, form: &'static str) -> Answer {
    with(StatusCode::OK, form, Bytes::from_owner(Outgoing(value)))
}

/// JSON bytes that are public.
pub(crate) fn json_bytes(body: Vec<u8>) -> Answer {
    with(StatusCode::OK, "application/json", Bytes::from(body))
}

/// A JSON value that is public.
pub(crate) fn json(value: &Value) -> Answer {
    json_bytes(value.to_string().into_bytes())
}

/// A reason, with what to do.
pub(crate) fn refused(status: StatusCode, code: &str, message: &str, remedy: &str) -> Answer {
    let body = json!({"code": code, "message": message, "remedy": remedy});
    with(status, "application/json", Bytes::from(body.to_string().into_bytes()))
}

/// What attestation or the broker says, in the broker's words.
pub(crate) fn failed(error: &AttestError) -> Answer {
    let refusal = error.refusal();
    let status = match error {
        AttestError::Refused { status, .. } => {
            StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_GATEWAY)
        }
        AttestError::RuntimeData { .. } => StatusCode::BAD_REQUEST,
        AttestError::Contraindicated { .. } => StatusCode::FORBIDDEN,
        _ => StatusCode::BAD_GATEWAY,
    };
    let status = if status.is_success() { StatusCode::BAD_GATEWAY } else { status };
    because(status, &refusal)
}

/// A refusal in the guest's words.
pub(crate) fn because(status: StatusCode, refusal: &Refusal) -> Answer {
    with(status, "application/json", Bytes::from(serde_json::to_vec(refusal).unwrap_or_default()))
}

//! Refusals on the wire: upstream's body with our code, causes and attempt.

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use coffer_core_protocol::error::{Cause, Code, ErrorBody};
use coffer_core_protocol::handshake::relying_party;
use coffer_server_store::StoreError;
use coffer_verify_api::{Check, Verdict};

/// When who finds no room may come again.
const RETRY_AFTER_S: u64 = 5;

/// A refusal.
#[derive(Debug)]
pub(crate) struct Refused {
    status: StatusCode,
    body: Box<ErrorBody>,
    /// When whoever is refused may come again.
    after_s: u64,
}

impl Refused {
    /// With the code's own status.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            status: status(code.status()),
            body: Box::new(ErrorBody::new(code, detail)),
            after_s: RETRY_AFTER_S,
        }
    }

    /// With the code's own title as the detail.
    pub(crate) fn plain(code: Code) -> Self {
        Self::new(code, format!("{}.", code.title()))
    }

    /// What was named is not there (any more). A list shows what is.
    pub(crate) fn missing(detail: impl Into<String>) -> Self {
        let mut refused = Self::new(Code::RouteUnknown, detail);
        refused.body.remedy = Some("Look at the list for the names that there are.".to_string());
        refused
    }

    /// Adds the reasons; the first one's code becomes the refusal's.
    pub(crate) fn because(mut self, causes: Vec<Cause>) -> Self {
        if let Some(first) = causes.first() {
            self.body.code = Some(first.code.clone());
            self.body.detail = first.title.clone();
            self.body.remedy = first.remedy.clone().or(self.body.remedy.take());
        }
        self.body.causes = causes;
        self
    }

    /// Adds the reasons; the code stays the refusal's own.
    pub(crate) fn listing(mut self, causes: Vec<Cause>) -> Self {
        self.body.causes = causes;
        self
    }

    /// Says what to do.
    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.body.remedy = Some(remedy.into());
        self
    }

    /// Says when to come again.
    pub(crate) fn after(mut self, seconds: u64) -> Self {
        self.after_s = seconds.max(1);
        self
    }

    /// The code, the sentence and the status, for faces that are not HTTP.
    pub(crate) fn parts(&self) -> (u16, &ErrorBody) {
        (self.status.as_u16(), &self.body)
    }

    /// Names the attempt.
    pub(crate) fn attempt(mut self, attempt: &str) -> Self {
        self.body.attempt = Some(attempt.to_string());
        self
    }

    /// The code, for the log.
    pub(crate) fn code(&self) -> &str {
        self.body.code.as_deref().unwrap_or_default()
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = json(self.status, &self.body);
        if matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from(self.after_s));
        }
        response
    }
}

impl From<Code> for Refused {
    fn from(code: Code) -> Self {
        Self::plain(code)
    }
}

impl From<relying_party::Refusal> for Refused {
    fn from(refusal: relying_party::Refusal) -> Self {
        let status = status(refusal.code().status());
        Self { status, body: Box::new(refusal.body()), after_s: RETRY_AFTER_S }
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        // Which file and why is for the operator's log, not for a guest.
        tracing::error!(%error, "the store failed");
        Self::plain(Code::StoreUnavailable)
    }
}

/// A JSON answer.
pub(crate) fn json<T: serde::Serialize>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (status, [(header::CONTENT_TYPE, "application/json")], Body::from(body)).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// How many causes a refusal lists.
pub(crate) const MAX_CAUSES: usize = 16;
const MAX_TEXT: usize = 512;

/// Why the answer is not better, bounded for tokens and error bodies.
pub(crate) fn causes(verdict: &Verdict) -> Vec<Cause> {
    verdict.causes().into_iter().take(MAX_CAUSES).map(cause).collect()
}

/// One check as a cause.
pub(crate) fn cause(check: &Check) -> Cause {
    let short = |text: &str| match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_string(),
    };
    Cause {
        code: check.code.clone(),
        title: short(&check.title),
        expected: check.expected.as_deref().map(short),
        found: check.found.as_deref().map(short),
        remedy: check.remedy.as_deref().map(short),
    }
}

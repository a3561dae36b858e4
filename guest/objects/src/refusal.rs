//! Refusals: S3's word and status for clients, our stable code for people.

use coffer_core_sealed_objects::ObjectError;
use coffer_core_sealed_stream::StreamError;
use hyper::StatusCode;

/// Why a call is not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} [{code}]")]
pub struct Refusal {
    /// The HTTP status.
    pub status: StatusCode,
    /// What S3 calls it, which clients act on.
    pub s3: String,
    /// The stable code.
    pub code: &'static str,
    /// What happened, then what to do.
    pub message: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, s3: &str, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, s3: s3.into(), code, message: message.into() }
    }

    /// A call of S3's that is not served here.
    pub(crate) fn unsupported(what: &str) -> Self {
        let message = format!("{what} is not served by this gateway; docs/objects.md lists what is");
        Self::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", "objects.unsupported", message)
    }

    /// A call that is not S3's.
    pub(crate) fn malformed(why: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidRequest", "objects.request", why)
    }

    /// A body that is not as long as it was said to be, or not in the form of its kind.
    pub(crate) fn body(why: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "IncompleteBody", "objects.body", why)
    }

    /// Trying again may help.
    pub(crate) fn unavailable(why: impl Into<String>) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "ServiceUnavailable", "objects.store-unavailable", why)
    }

    /// The store answered what no store does.
    pub(crate) fn answer(why: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "InternalError", "objects.store-answer", why)
    }

    /// The object changed while it was read.
    pub(crate) fn is_changed(&self) -> bool {
        self.status == StatusCode::PRECONDITION_FAILED
    }
}

/// An object that is not what was sealed under this name is no passing trouble, so clients are told not to try again.
impl From<ObjectError> for Refusal {
    fn from(error: ObjectError) -> Self {
        let (status, s3) = match &error {
            ObjectError::Name(_) => (StatusCode::BAD_REQUEST, "InvalidURI"),
            ObjectError::LongName { .. } => (StatusCode::BAD_REQUEST, "KeyTooLongError"),
            ObjectError::LongMetadata { .. } => (StatusCode::BAD_REQUEST, "MetadataTooLarge"),
            ObjectError::TooManyParts => (StatusCode::BAD_REQUEST, "InvalidArgument"),
            ObjectError::Range => (StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange"),
            ObjectError::Stream(StreamError::TooLarge { .. }) => (StatusCode::BAD_REQUEST, "EntityTooLarge"),
            ObjectError::Index(_) | ObjectError::Metadata(_) | ObjectError::Stream(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "ObjectNotAuthentic")
            }
        };
        Self::new(status, s3, error.code(), error.to_string())
    }
}

impl From<StreamError> for Refusal {
    fn from(error: StreamError) -> Self {
        ObjectError::from(error).into()
    }
}

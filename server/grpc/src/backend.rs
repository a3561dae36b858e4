//! What a backend is told about the caller, and how it refuses.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Instant;

use coffer_core_admin::TenantName;
use coffer_core_secret::Secret;

/// A boxed future, so that backends are trait objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who calls, as far as the transport knows. Nothing in here is verified but `peer_certificate`, which TLS checked
/// against the authorities of the server's configuration.
pub struct AuthContext {
    /// The token of `authorization: Bearer …`.
    pub bearer: Option<Secret<String>>,
    /// The client's certificate in DER.
    pub peer_certificate: Option<Vec<u8>>,
    /// The tenant of the path prefix or of `coffer-tenant`. Where it is absent, the host name or the default decides.
    pub tenant: Option<TenantName>,
    /// The host name that was called, without the port, in lower case.
    pub host: Option<String>,
    /// The peer's address; none on a Unix socket.
    pub address: Option<SocketAddr>,
    /// When the answer is of no use any more.
    pub deadline: Instant,
}

/// What sort of a refusal it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request makes no sense: INVALID_ARGUMENT, 400.
    Invalid,
    /// Who calls is not known: UNAUTHENTICATED, 401.
    Unauthenticated,
    /// Who calls may not: PERMISSION_DENIED, 403.
    Denied,
    /// The evidence was judged and refused: FAILED_PRECONDITION, 403.
    Refused,
    /// There is no such thing: NOT_FOUND, 404.
    Missing,
    /// It contradicts what is stored: ABORTED, 409.
    Conflict,
    /// Too many, or too much: RESOURCE_EXHAUSTED, 429.
    Exhausted,
    /// It cannot be decided now: UNAVAILABLE, 503.
    Unavailable,
    /// A fault of the broker: INTERNAL, 500.
    Internal,
}

impl Kind {
    /// The HTTP status, for the same refusal over REST.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unauthenticated => 401,
            Self::Denied | Self::Refused => 403,
            Self::Missing => 404,
            Self::Conflict => 409,
            Self::Exhausted => 429,
            Self::Unavailable => 503,
            Self::Internal => 500,
        }
    }

    /// The gRPC status.
    pub const fn grpc_code(self) -> tonic::Code {
        match self {
            Self::Invalid => tonic::Code::InvalidArgument,
            Self::Unauthenticated => tonic::Code::Unauthenticated,
            Self::Denied => tonic::Code::PermissionDenied,
            Self::Refused => tonic::Code::FailedPrecondition,
            Self::Missing => tonic::Code::NotFound,
            Self::Conflict => tonic::Code::Aborted,
            Self::Exhausted => tonic::Code::ResourceExhausted,
            Self::Unavailable => tonic::Code::Unavailable,
            Self::Internal => tonic::Code::Internal,
        }
    }
}

/// A refusal. Its message reaches the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct BackendError {
    /// The stable dotted code.
    pub code: &'static str,
    /// What was expected, what was found, what to do.
    pub message: String,
    /// What sort of a refusal it is.
    pub kind: Kind,
}

impl BackendError {
    /// A refusal.
    pub fn new(kind: Kind, code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), kind }
    }

    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, "request.malformed", message)
    }
}

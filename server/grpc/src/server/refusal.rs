//! Refusals on the wire: a gRPC status, with the stable code in the metadata.

use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

use crate::backend::BackendError;

/// Where the stable dotted code stands in a refusal.
pub const CODE_METADATA: &str = "coffer-code";

/// Peers read some 8 KiB of headers; escapes make a message up to three times as long.
const MAX_MESSAGE: usize = 1024;

/// A refusal with its code.
pub(crate) fn status(code: Code, stable: &'static str, message: &str) -> Status {
    let message: String = match message.len() {
        0..=MAX_MESSAGE => message.to_owned(),
        // A character has at most four bytes.
        _ => message.chars().take(MAX_MESSAGE / 4).collect(),
    };
    let mut metadata = MetadataMap::new();
    metadata.insert(CODE_METADATA, MetadataValue::from_static(stable));
    Status::with_metadata(code, message, metadata)
}

/// The caller sent what makes no sense.
pub(crate) fn malformed(message: impl AsRef<str>) -> Status {
    status(Code::InvalidArgument, "request.malformed", message.as_ref())
}

/// The caller sent more than is read.
pub(crate) fn too_large(most: usize) -> Status {
    status(
        Code::ResourceExhausted,
        "request.too-large",
        &format!("the message has more than {most} bytes; send less evidence in one call"),
    )
}

/// Others send too much at the moment.
pub(crate) fn busy() -> Status {
    status(
        Code::Unavailable,
        "request.busy",
        "the broker holds as many requests as it has memory for; try again in a second",
    )
}

impl From<BackendError> for Status {
    fn from(error: BackendError) -> Self {
        status(error.kind.grpc_code(), error.code, &error.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Kind;

    #[test]
    fn each_kind_has_its_status_and_carries_the_code() {
        for (kind, grpc, http) in [
            (Kind::Invalid, Code::InvalidArgument, 400),
            (Kind::Unauthenticated, Code::Unauthenticated, 401),
            (Kind::Denied, Code::PermissionDenied, 403),
            (Kind::Refused, Code::FailedPrecondition, 403),
            (Kind::Missing, Code::NotFound, 404),
            (Kind::Conflict, Code::Aborted, 409),
            (Kind::Exhausted, Code::ResourceExhausted, 429),
            (Kind::Unavailable, Code::Unavailable, 503),
            (Kind::Internal, Code::Internal, 500),
        ] {
            let status = Status::from(BackendError::new(kind, "some.code", "why"));
            assert_eq!((status.code(), status.message(), kind.http_status()), (grpc, "why", http));
            assert_eq!(status.metadata().get(CODE_METADATA).unwrap(), "some.code");
        }
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let status = malformed("\u{20ac}".repeat(2000));
        assert!(status.message().len() <= MAX_MESSAGE);
        assert!(status.message().chars().all(|c| c == '\u{20ac}'));
    }
}

//! Bodies of a known length that come through a channel, to clients and to the store.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use crate::Refusal;

/// Pieces that wait at most, each of a segment or less.
const WAITING: usize = 3;

/// Where the pieces of a body are put.
pub(crate) type Pieces = mpsc::Sender<Result<Bytes, Refusal>>;

/// A body: in memory, or pieces of a known sum.
pub(crate) enum Reply {
    /// What is left of it; nothing once it was sent.
    Whole(Option<Bytes>),
    /// As it comes.
    Piped { pieces: mpsc::Receiver<Result<Bytes, Refusal>>, left: u64 },
}

impl Reply {
    pub(crate) fn of(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::Whole((!bytes.is_empty()).then_some(bytes))
    }

    /// A body of this length, and where its pieces are put.
    pub(crate) fn piped(length: u64) -> (Pieces, Self) {
        let (sender, pieces) = mpsc::channel(WAITING);
        (sender, Self::Piped { pieces, left: length })
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Piped { pieces, left } => match pieces.poll_recv(context) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Some(Ok(bytes))) => match left.checked_sub(bytes.len() as u64) {
                    Some(rest) => {
                        *left = rest;
                        Poll::Ready(Some(Ok(Frame::data(bytes))))
                    }
                    None => {
                        Poll::Ready(Some(Err(Refusal::body("the body is longer than it was said to be"))))
                    }
                },
                Poll::Ready(Some(Err(refusal))) => Poll::Ready(Some(Err(refusal))),
                Poll::Ready(None) if *left == 0 => Poll::Ready(None),
                Poll::Ready(None) => Poll::Ready(Some(Err(Refusal::body("the body ended early")))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            // An error may follow the last byte.
            Self::Piped { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Self::Piped { left, .. } => *left,
        })
    }
}

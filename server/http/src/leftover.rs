//! What a handler left of a request's body, over HTTP/1.1.
//!
//! A call that is refused by its head is answered before its body came. If the connection were closed then, as
//! hyper does, a client that still writes would get a broken pipe in place of the answer. So a little of the body
//! is read and thrown away, and where more is to come the answer says that the connection ends (RFC 9112, 9.6).

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, EXPECT, HeaderValue};
use hyper::{Request, Version};

/// So much is read of a body that nobody wants, in bytes.
const MOST: u64 = 64 << 10;
/// And for so long.
const PATIENCE: Duration = Duration::from_secs(1);

type Slot = Arc<Mutex<Option<Incoming>>>;

/// A request's body that comes back when a handler drops it before its end.
pub(crate) struct Lent {
    body: Option<Incoming>,
    slot: Slot,
}

/// Where it comes back to.
pub(crate) struct Leftover {
    slot: Slot,
    /// The client waits to be asked for the body, and was not.
    waits: bool,
}

/// Lends the body to whoever answers the request. HTTP/2 ends one call without the others, and gets nothing back.
pub(crate) fn lend(request: Request<Incoming>) -> (Request<Lent>, Leftover) {
    let (slot, back) = match request.version() {
        Version::HTTP_11 => {
            let slot = Slot::default();
            (slot.clone(), slot)
        }
        _ => <(Slot, Slot)>::default(),
    };
    let waits = request.headers().contains_key(EXPECT);
    let request = request.map(|body| Lent { body: Some(body), slot });
    (request, Leftover { slot: back, waits })
}

impl Leftover {
    /// Makes the connection fit for the next call, or tells the client in the answer that it is not.
    pub(crate) async fn settle<B>(self, answer: &mut hyper::Response<B>) {
        let left = self.slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(body) = left else { return };
        let drained = !self.waits && matches!(tokio::time::timeout(PATIENCE, drain(body)).await, Ok(true));
        if !drained {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// Whether the body's end was reached.
async fn drain(mut body: Incoming) -> bool {
    let mut read = 0;
    loop {
        if read + body.size_hint().lower() > MOST {
            return false;
        }
        match std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            None => return true,
            Some(Ok(frame)) => read += frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(_)) => return false,
        }
    }
}

impl Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(body) = self.body.take()
            && !body.is_end_stream()
        {
            *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    /// A connection to a server that refuses by the head.
    fn refusing() -> DuplexStream {
        let (client, server) = tokio::io::duplex(1 << 20);
        let service = service_fn(|request: Request<Incoming>| async {
            let (request, leftover) = lend(request);
            drop(request);
            let mut answer = hyper::Response::new(String::from("no"));
            leftover.settle(&mut answer).await;
            Ok::<_, Infallible>(answer)
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(server), service));
        client
    }

    async fn answer(client: &mut DuplexStream) -> String {
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\nno") {
            text.push(client.read_u8().await.unwrap());
        }
        String::from_utf8(text).unwrap()
    }

    fn head(length: u64, more: &str) -> String {
        format!("POST / HTTP/1.1\r\nhost: coffer\r\ncontent-length: {length}\r\n{more}\r\n")
    }

    #[tokio::test]
    async fn a_body_that_comes_after_its_refused_head_leaves_the_connection_usable() {
        let mut client = refusing();
        for _ in 0..3 {
            client.write_all(head(5, "").as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            client.write_all(b"hello").await.unwrap();
            let told = answer(&mut client).await;
            assert!(!told.to_lowercase().contains("connection: close"), "{told}");
        }
    }

    #[tokio::test]
    async fn where_much_or_nothing_is_to_come_the_answer_says_that_the_connection_ends() {
        for (length, more) in [(1 << 30, ""), (5, ""), (5, "expect: 100-continue\r\n")] {
            let mut client = refusing();
            client.write_all(head(length, more).as_bytes()).await.unwrap();
            let told = answer(&mut client).await;
            assert!(told.starts_with("HTTP/1.1 200"), "{told}");
            assert!(told.to_lowercase().contains("connection: close"), "{told}");
            assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        }
    }
}

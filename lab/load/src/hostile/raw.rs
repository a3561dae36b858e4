//! HTTP/1.1 by hand over TLS, because a well-behaved client library cannot misbehave.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::endpoint::{Loopback, Protocol, Tls};

/// A head of an answer is not longer, nor is a body that is kept.
const LIMIT: usize = 1 << 20;

/// Reads answers from a connection, one after the other.
pub(super) struct Answers<S> {
    stream: S,
    buffer: Vec<u8>,
    used: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Answers<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::with_capacity(64 << 10), used: 0 }
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// The next answer's status; its body is read and dropped. `None` at the end of the connection.
    pub(super) async fn status(&mut self) -> std::io::Result<Option<u16>> {
        let head = loop {
            let fresh = self.buffer.get(self.used..).unwrap_or_default();
            if let Some(end) = fresh.windows(4).position(|four| four == b"\r\n\r\n") {
                break self.used + end + 4;
            }
            if !self.more().await? {
                return Ok(None);
            }
        };
        let text = String::from_utf8_lossy(self.buffer.get(self.used..head).unwrap_or_default()).into_owned();
        let status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.ok_or_else(|| std::io::Error::other(format!("no status in {text:?}")))?;
        let length = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        self.used = head + length.unwrap_or(0);
        while self.used > self.buffer.len() {
            if !self.more().await? {
                break;
            }
        }
        Ok(Some(status))
    }

    /// Reads some more; what was used is dropped first.
    async fn more(&mut self) -> std::io::Result<bool> {
        let done = self.used.min(self.buffer.len());
        self.buffer.drain(..done);
        self.used -= done;
        if self.buffer.len() > LIMIT {
            return Err(std::io::Error::other("an answer without end"));
        }
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }
}

/// A TLS connection that speaks HTTP/1.1.
pub(super) async fn connect(target: &Loopback, tls: &Tls) -> std::io::Result<TlsStream<TcpStream>> {
    target.endpoint().connect_tls(tls, Protocol::Http1).await
}

/// A request's head with these headers beside the host.
pub(super) fn head(target: &Loopback, method: &str, path: &str, headers: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n{headers}\r\n", target.endpoint().authority())
        .into_bytes()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_that_came_together_are_told_apart_and_the_end_is_seen() {
        let (mut far, near) = tokio::io::duplex(1 << 16);
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHTTP/HTTP/1.1 429 Too Many\r\ncontent-length: 0\r\n\r\n";
        far.write_all(text.as_bytes()).await.unwrap();
        drop(far);
        let mut answers = Answers::new(near);
        assert_eq!(answers.status().await.unwrap(), Some(200));
        assert_eq!(answers.status().await.unwrap(), Some(429));
        assert_eq!(answers.status().await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_no_answer_is_an_error() {
        let (mut far, near) = tokio::io::duplex(1 << 16);
        far.write_all(b"nonsense\r\n\r\n").await.unwrap();
        assert!(Answers::new(near).status().await.is_err());
    }
}

//! A channel that also writes every byte it carries to a file, both ways: for the test that searches for plaintext.

use std::fs::File;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::{AsyncRead, AsyncWrite};

/// A stream and the file that gets what passes.
pub(crate) struct Recorded<S> {
    inner: S,
    file: Option<Arc<Mutex<File>>>,
}

impl<S> Recorded<S> {
    pub(crate) fn new(inner: S, file: Option<File>) -> Self {
        Self { inner, file: file.map(|file| Arc::new(Mutex::new(file))) }
    }

    fn record(&self, bytes: &[u8]) -> io::Result<()> {
        match &self.file {
            Some(file) => file.lock().unwrap_or_else(PoisonError::into_inner).write_all(bytes),
            None => Ok(()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Recorded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = std::task::ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.record(buf.get(..read).unwrap_or_default())?;
        Poll::Ready(Ok(read))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Recorded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = std::task::ready!(Pin::new(&mut self.inner).poll_write(cx, buf))?;
        self.record(buf.get(..written).unwrap_or_default())?;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use futures::{AsyncReadExt, AsyncWriteExt};
    use tokio_util::compat::TokioAsyncReadCompatExt;

    #[tokio::test]
    async fn both_ways_are_recorded() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (host, guest) = tokio::io::duplex(64);
        let mut host = Recorded::new(host.compat(), Some(file.reopen().unwrap()));
        let mut guest = guest.compat();
        host.write_all(b"to the guest ").await.unwrap();
        guest.write_all(b"from the guest").await.unwrap();
        let mut got = [0; 14];
        host.read_exact(&mut got).await.unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap(), b"to the guest from the guest");
    }
}

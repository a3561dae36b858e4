//! The workload's standard streams, without blocking.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe::{Receiver, Sender};

/// What the workload writes: one end of a pipe, or the person's side of a terminal.
#[derive(Debug)]
pub struct Output(Receiver);

/// What the workload reads: one end of a pipe, or the person's side of a terminal.
///
/// Dropping a pipe's end closes it. A terminal has no such end: write the end-of-file character (4) instead.
#[derive(Debug)]
pub struct Input(Sender);

impl Output {
    /// Must be called within a tokio runtime.
    pub(crate) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        Receiver::from_owned_fd_unchecked(without_blocking(descriptor)?).map(Self)
    }
}

impl Input {
    /// Must be called within a tokio runtime.
    pub(crate) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        Sender::from_owned_fd_unchecked(without_blocking(descriptor)?).map(Self)
    }
}

/// A terminal is no pipe, but it polls, reads and writes as one; all it needs is not to block.
fn without_blocking(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    let flags = OFlag::from_bits_retain(fcntl(&descriptor, FcntlArg::F_GETFL)?);
    fcntl(&descriptor, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(descriptor)
}

impl AsyncRead for Output {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.0).poll_read(context, buffer) {
            // A terminal whose programs are all gone answers EIO: that is its end of file.
            Poll::Ready(Err(error)) if error.raw_os_error() == Some(Errno::EIO as i32) => Poll::Ready(Ok(())),
            other => other,
        }
    }
}

impl AsyncWrite for Input {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

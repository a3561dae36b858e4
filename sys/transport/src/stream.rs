//! A non-blocking descriptor as an asynchronous stream.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How often a full port is asked again: not every driver wakes its writers.
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// How often an empty port is asked again, for the same reason. A wake-up that was lost costs so much and no more.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// A connected descriptor. Ends for good when the other side hangs up.
pub(crate) struct FdStream {
    fd: AsyncFd<OwnedFd>,
    again: Option<Pin<Box<Sleep>>>,
    look: Option<Pin<Box<Sleep>>>,
}

impl FdStream {
    /// Takes a non-blocking descriptor that is connected.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self { fd: watch(fd)?, again: None, look: None })
    }
}

/// Registers a descriptor with the reactor.
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: `OwnedFd` owns an open descriptor, and always gives the same one; nobody replaces or closes it while
    // the `AsyncFd` has it, because it is moved in.
    unsafe { AsyncFd::register(fd) }.map_err(io::Error::from)
}

/// Whether the other side of a descriptor is closed.
pub(crate) fn hung_up(fd: &impl AsFd) -> io::Result<bool> {
    let mut asked = [PollFd::new(fd.as_fd(), PollFlags::empty())];
    nix::poll::poll(&mut asked, PollTimeout::ZERO)?;
    let [answer] = asked;
    Ok(answer.revents().is_some_and(|events| events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR)))
}

impl AsyncRead for FdStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let room = buffer.initialize_unfilled();
            match nix::unistd::read(&this.fd, room) {
                Ok(count) => {
                    this.look = None;
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(nix::errno::Errno::EINTR) => {}
                // A hang-up stays in the readiness for ever; without this, the loop would spin.
                Err(nix::errno::Errno::EAGAIN) if hung_up(&this.fd)? => return Poll::Ready(Ok(())),
                Err(nix::errno::Errno::EAGAIN) => {
                    if let Poll::Ready(guard) = this.fd.poll_read_ready(cx) {
                        guard?.clear_ready();
                        // What came between the read and here is seen by this, and wakes.
                        if this.fd.poll_read_ready(cx).is_ready() {
                            continue;
                        }
                    }
                    let timer = this.look.get_or_insert_with(|| Box::pin(sleep(LOOK_AGAIN)));
                    ready!(timer.as_mut().poll(cx));
                    this.look = None;
                }
                Err(cause) => return Poll::Ready(Err(cause.into())),
            }
        }
    }
}

impl AsyncWrite for FdStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        loop {
            match nix::unistd::write(&this.fd, bytes) {
                Ok(count) => {
                    this.again = None;
                    return Poll::Ready(Ok(count));
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::EAGAIN) if hung_up(&this.fd)? => {
                    return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
                }
                Err(nix::errno::Errno::EAGAIN) => {
                    // Readiness wakes at once where the driver tells; the timer covers those that do not.
                    if let Poll::Ready(guard) = this.fd.poll_write_ready(cx) {
                        guard?.clear_ready();
                        let _ = this.fd.poll_write_ready(cx);
                    }
                    let timer = this.again.get_or_insert_with(|| Box::pin(sleep(ASK_AGAIN)));
                    ready!(timer.as_mut().poll(cx));
                    this.again = None;
                }
                Err(cause) => return Poll::Ready(Err(cause.into())),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn pair() -> (FdStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("socket pair");
        ours.set_nonblocking(true).expect("non-blocking");
        (FdStream::new(ours.into()).expect("stream"), theirs)
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_and_more_than_a_socket_buffer() {
        let (mut ours, theirs) = pair();
        let echo = std::thread::spawn(move || {
            let (mut from, mut to) = (&theirs, &theirs);
            let mut all = vec![0; 4 << 20];
            std::io::Read::read_exact(&mut from, &mut all).expect("read");
            std::io::Write::write_all(&mut to, &all).expect("written");
        });
        let sent: Vec<u8> = (0..4_u32 << 20).map(|i| i.to_le_bytes()[0]).collect();
        ours.write_all(&sent).await.expect("written");
        let mut got = vec![0; sent.len()];
        ours.read_exact(&mut got).await.expect("read");
        assert!(got == sent);
        echo.join().expect("echo");
    }

    #[tokio::test]
    async fn a_closed_other_side_ends_reading_and_breaks_writing() {
        let (mut ours, theirs) = pair();
        drop(theirs);
        let mut byte = [0];
        assert_eq!(ours.read(&mut byte).await.expect("end"), 0);
        assert_eq!(ours.write(&byte).await.expect_err("broken").kind(), io::ErrorKind::BrokenPipe);
    }
}

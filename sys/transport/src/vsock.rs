//! Vsock sockets: the guest listens, the host connects.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrLike, VsockAddr, accept4, bind, connect, getpeername,
    getsockopt, listen, socket, sockopt,
};
use tokio::io::unix::AsyncFd;

use crate::TransportError;
use crate::stream::{FdStream, watch};

/// `VMADDR_CID_HOST`.
const HOST: u32 = 2;

fn new_socket() -> Result<OwnedFd, TransportError> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Vsock, SockType::Stream, flags, None)
        .map_err(|cause| TransportError::io("making a vsock socket", cause))
}

/// Listens and takes the first connection, which must be the host's.
pub(crate) async fn accept_host(port: u32, patience: Duration) -> Result<FdStream, TransportError> {
    let listener = new_socket()?;
    let address = VsockAddr::new(libc::VMADDR_CID_ANY, port);
    bind(listener.as_raw_fd(), &address).map_err(|cause| TransportError::io("binding vsock", cause))?;
    let backlog = Backlog::new(1).map_err(|cause| TransportError::io("listening on vsock", cause))?;
    listen(&listener, backlog).map_err(|cause| TransportError::io("listening on vsock", cause))?;
    let listener = watch(listener).map_err(|cause| TransportError::io("watching vsock", cause))?;
    let accepted = tokio::time::timeout(patience, accept(&listener));
    let stream = accepted.await.map_err(|_| TransportError::Absent { seconds: patience.as_secs() })??;
    FdStream::new(stream).map_err(|cause| TransportError::io("watching vsock", cause))
}

async fn accept(listener: &AsyncFd<OwnedFd>) -> Result<OwnedFd, TransportError> {
    loop {
        let mut guard =
            listener.readable().await.map_err(|cause| TransportError::io("waiting on vsock", cause))?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let accepted = guard.try_io(|fd| accept4(fd.as_raw_fd(), flags).map_err(io::Error::from));
        let Ok(accepted) = accepted else { continue };
        let raw = accepted.map_err(|cause| TransportError::io("accepting on vsock", cause))?;
        // SAFETY: `accept4` has just made this descriptor; nothing else knows or owns it.
        let stream = unsafe { OwnedFd::from_raw_fd(raw) };
        let peer: VsockAddr =
            getpeername(raw).map_err(|cause| TransportError::io("naming the vsock peer", cause))?;
        if peer.cid() != HOST {
            return Err(TransportError::Peer { expected: HOST, found: peer.cid() });
        }
        return Ok(stream);
    }
}

/// Connects to a guest.
pub(crate) async fn connect_to(cid: u32, port: u32) -> Result<FdStream, TransportError> {
    let what = || format!("connecting to vsock {cid}:{port}");
    let fd = new_socket()?;
    let address = VsockAddr::new(cid, port);
    debug_assert_eq!(address.family(), Some(AddressFamily::Vsock));
    match connect(fd.as_raw_fd(), &address) {
        Ok(()) | Err(Errno::EINPROGRESS) => {}
        Err(cause) => return Err(TransportError::io(what(), cause)),
    }
    let fd = watch(fd).map_err(|cause| TransportError::io(what(), cause))?;
    drop(fd.writable().await.map_err(|cause| TransportError::io(what(), cause))?);
    match getsockopt(&fd.as_fd(), sockopt::SocketError) {
        Ok(0) => {}
        Ok(number) => return Err(TransportError::io(what(), io::Error::from_raw_os_error(number))),
        Err(cause) => return Err(TransportError::io(what(), cause)),
    }
    FdStream::new(fd.into_inner()).map_err(|cause| TransportError::io(what(), cause))
}

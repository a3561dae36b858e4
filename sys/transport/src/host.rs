//! The host's end.

use std::path::PathBuf;

use tokio::net::UnixStream;

use crate::{Channel, TransportError, vsock};

/// Where the host finds the channel of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostEnd {
    /// The socket of the virtio-serial port's character device.
    Unix(PathBuf),
    /// The machine's vsock address.
    Vsock {
        /// Its CID.
        cid: u32,
        /// The port, usually [`crate::GUEST_PORT`].
        port: u32,
    },
}

/// Connects once. While the machine starts, [`TransportError::is_not_there_yet`] says whether to try again.
///
/// # Errors
/// When nobody listens.
pub async fn connect_host(end: &HostEnd) -> Result<Box<dyn Channel>, TransportError> {
    match end {
        HostEnd::Unix(path) => match UnixStream::connect(path).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                Err(TransportError::NoSocket { path: path.clone() })
            }
            Err(cause) => Err(TransportError::io(format!("connecting to {}", path.display()), cause)),
        },
        HostEnd::Vsock { cid, port } => Ok(Box::new(vsock::connect_to(*cid, *port).await?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_socket_that_is_not_there_yet_is_told_from_other_faults() {
        let path = std::env::temp_dir().join(format!("coffer-end-{}", std::process::id()));
        let end = HostEnd::Unix(path.clone());
        let error = connect_host(&end).await.err().expect("nobody");
        assert!(error.is_not_there_yet(), "{error}");
        let listener = tokio::net::UnixListener::bind(&path).expect("bound");
        let (client, server) = tokio::join!(connect_host(&end), listener.accept());
        let (mut client, (mut server, _)) = (client.expect("connected"), server.expect("accepted"));
        client.write_all(b"hello").await.expect("written");
        let mut got = [0; 5];
        server.read_exact(&mut got).await.expect("read");
        assert_eq!(&got, b"hello");
        std::fs::remove_file(path).expect("removed");
    }
}

//! A blob as a network block device on a unix socket, before it is whole.
//!
//! TRUST: the client is the machine's emulator, which a hostile guest may have taken over. It learns the blob, which
//! is public to its guest, and costs bounded memory.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coffer_core_nbd::{Errno, Event, Export, Server};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinSet};

use crate::{Blob, CacheError};

/// How many clients a device has at once; a machine is one.
const CLIENTS: usize = 4;
/// How long no client is accepted after an error, as when there are no descriptors left.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// How long the filling rests after an error that may pass.
const REST: Duration = Duration::from_secs(10);

/// A device that is served until this is dropped; then its socket is gone.
#[derive(Debug)]
pub struct Served {
    socket: PathBuf,
    tasks: [AbortHandle; 2],
}

impl Drop for Served {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        if let Err(error) = std::fs::remove_file(&self.socket) {
            tracing::debug!(%error, "a device's socket was gone already");
        }
    }
}

impl Served {
    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Blob {
    /// Serves the blob on a unix socket that is made here, and fills it meanwhile.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn serve(&self, runtime: &Handle, socket: &Path) -> Result<Served, CacheError> {
        let failed = CacheError::file("listen on", socket);
        let _inside = runtime.enter();
        let listener = match UnixListener::bind(socket) {
            Ok(listener) => listener,
            Err(error) => return Err(failed(error)),
        };
        let private = std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600));
        private.map_err(CacheError::file("make private", socket))?;
        let serving = runtime.spawn(listen(self.clone(), listener)).abort_handle();
        let filling = runtime.spawn(fill(self.clone())).abort_handle();
        Ok(Served { socket: socket.to_owned(), tasks: [serving, filling] })
    }
}

/// Fills until it is whole, or what came is not what was asked for.
async fn fill(blob: Blob) {
    while let Err(error) = blob.fill().await {
        tracing::warn!(digest = %blob.digest(), %error, "a blob is not filled");
        if matches!(error, CacheError::Digest { .. } | CacheError::Discarded { .. }) {
            return;
        }
        tokio::time::sleep(REST).await;
    }
}

async fn listen(blob: Blob, listener: UnixListener) {
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if clients.len() < CLIENTS => match accepted {
                Ok((stream, _)) => {
                    clients.spawn(client(blob.clone(), stream));
                }
                Err(error) => {
                    tracing::warn!(%error, "a device's client was not accepted");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            },
            Some(_) = clients.join_next() => {}
        }
    }
}

async fn client(blob: Blob, mut stream: UnixStream) {
    let mut server = Server::negotiate(Export::new("", blob.size()));
    let (mut reader, mut writer) = stream.split();
    let mut reads = FuturesUnordered::new();
    let mut heard = vec![0; 64 << 10];
    loop {
        loop {
            match server.next() {
                Ok(None) => break,
                Ok(Some(Event::Read(read))) => {
                    let blob = blob.clone();
                    reads.push(async move { (read, blob.read(read.offset, read.length).await) });
                }
                Ok(Some(Event::Disconnect)) => {
                    let _client_gone = writer.write_all(&server.output()).await;
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "a device's client breaks the protocol");
                    return;
                }
            }
        }
        if writer.write_all(&server.output()).await.is_err() {
            return;
        }
        tokio::select! {
            read = reader.read(&mut heard), if server.is_hungry() => match read {
                Ok(length) if length > 0 => server.push(heard.get(..length).unwrap_or_default()),
                _ => return,
            },
            Some((read, data)) = reads.next() => {
                if let Err(error) = &data {
                    tracing::warn!(digest = %blob.digest(), %error, "a read of a device failed");
                }
                server.answer(&read, data.as_deref().map_err(|_| Errno::Io));
            }
        }
    }
}

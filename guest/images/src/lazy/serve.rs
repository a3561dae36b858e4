//! The connection to the kernel, from its own thread.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use coffer_core_nbd::{Errno, Event, Export, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::Failure;
use super::pieces::Pieces;
use crate::{ImageError, ImageFault};

/// As much of the kernel's requests as is heard at once; they have 28 bytes each.
const HEARD: usize = 4096;

/// Serves until the kernel closes its end. What cannot be had is an I/O error of the read that needs it.
pub(super) fn run(socket: UnixStream, pieces: Pieces, failure: &Failure) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let served = runtime.and_then(|runtime| {
        socket.set_nonblocking(true)?;
        runtime.block_on(async {
            let socket = tokio::net::UnixStream::from_std(socket)?;
            serve(socket, Arc::new(pieces), failure).await
        })
    });
    if let Err(cause) = served {
        failure.note(ImageFault::file("serving", Path::new("a network block device"), cause));
    }
}

enum Done {
    Read(coffer_core_nbd::Read, Result<(Vec<u8>, Vec<u64>), ImageError>),
    Ahead,
}

pub(super) async fn serve(
    mut socket: tokio::net::UnixStream,
    pieces: Arc<Pieces>,
    failure: &Failure,
) -> std::io::Result<()> {
    let mut server = Server::transmission(Export::new("", pieces.size()));
    let (mut reader, mut writer) = socket.split();
    let mut work: JoinSet<Done> = JoinSet::new();
    let mut heard = [0; HEARD];
    loop {
        loop {
            match server.next().map_err(std::io::Error::other)? {
                None => break,
                Some(Event::Read(read)) => {
                    let pieces = Arc::clone(&pieces);
                    work.spawn(async move { Done::Read(read, pieces.read(read.offset, read.length).await) });
                }
                Some(Event::Disconnect) => return Ok(()),
            }
        }
        writer.write_all(&server.output()).await?;
        tokio::select! {
            length = reader.read(&mut heard), if server.is_hungry() => match length? {
                0 => return Ok(()),
                length => server.push(heard.get(..length).unwrap_or_default()),
            },
            Some(done) = work.join_next() => match done.map_err(std::io::Error::other)? {
                Done::Read(read, Ok((bytes, ahead))) => {
                    server.answer(&read, Ok(&bytes));
                    for number in ahead {
                        let pieces = Arc::clone(&pieces);
                        // Whoever reads it asks again, and is told.
                        work.spawn(async move { pieces.fetch(number).await.map_or_else(|_| Done::Ahead, |()| Done::Ahead) });
                    }
                }
                Done::Read(read, Err(why)) => {
                    failure.note(why);
                    server.answer(&read, Err(Errno::Io));
                }
                Done::Ahead => {}
            }
        }
    }
}

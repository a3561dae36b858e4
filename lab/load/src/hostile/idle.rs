//! Connections that do nothing.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::io::AsyncRead;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::client::TlsStream;

use super::raw::{self, Answers};
use super::{LONGEST, MOST_CONNECTIONS};
use crate::endpoint::{Loopback, Tls};

/// So many are opened at once; TLS handshakes cost the client as well.
const AT_ONCE: usize = 64;

/// How far a connection goes before it does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Idle {
    /// TCP only.
    Tcp,
    /// TLS, and no request.
    Tls,
    /// TLS and one request, which was answered.
    Called,
}

enum Held {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connections that are held until this is dropped.
pub struct IdleConnections {
    held: Vec<Held>,
    refused: usize,
}

impl IdleConnections {
    /// How many were opened.
    pub fn opened(&self) -> usize {
        self.held.len()
    }

    /// How many could not be opened in the time that there was.
    pub fn refused(&self) -> usize {
        self.refused
    }

    /// How many the broker has not ended.
    pub async fn alive(&mut self) -> usize {
        let mut alive = 0;
        for held in &mut self.held {
            let ended = match held {
                Held::Tcp(stream) => has_ended(stream).await,
                Held::Tls(stream) => has_ended(stream.as_mut()).await,
            };
            alive += usize::from(!ended);
        }
        alive
    }
}

/// Opens so many, and takes no longer than `limit` over it.
pub async fn idle_connections(
    target: &Loopback,
    tls: &Tls,
    idle: Idle,
    connections: usize,
    limit: Duration,
) -> Result<IdleConnections> {
    ensure!(connections <= MOST_CONNECTIONS, "at most {MOST_CONNECTIONS} connections");
    let until = tokio::time::Instant::now() + limit.min(LONGEST);
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let workers: Vec<_> = (0..connections)
        .map(|_| {
            let (target, tls, places) = (target.clone(), tls.clone(), places.clone());
            tokio::spawn(async move {
                let open = async {
                    let _place = places.acquire_owned().await;
                    open(&target, &tls, idle).await
                };
                tokio::time::timeout_at(until, open).await
            })
        })
        .collect();
    let mut all = IdleConnections { held: Vec::with_capacity(connections), refused: 0 };
    for worker in workers {
        match worker.await? {
            Ok(Ok(held)) => all.held.push(held),
            _ => all.refused += 1,
        }
    }
    Ok(all)
}

async fn open(target: &Loopback, tls: &Tls, idle: Idle) -> std::io::Result<Held> {
    Ok(match idle {
        Idle::Tcp => Held::Tcp(target.endpoint().connect().await?),
        Idle::Tls => Held::Tls(Box::new(raw::connect(target, tls).await?)),
        Idle::Called => {
            let mut stream = Box::new(raw::connect(target, tls).await?);
            let mut answers = Answers::new(stream.as_mut());
            answers.write(&raw::head(target, "GET", "/healthz", "")).await?;
            answers.status().await?;
            Held::Tls(stream)
        }
    })
}

/// Whether the other side ended it. What it sent is read past; an idle broker sends no more than its end.
async fn has_ended<S: AsyncRead + Unpin>(stream: &mut S) -> bool {
    let mut bytes = [0; 1024];
    let mut buffer = tokio::io::ReadBuf::new(&mut bytes);
    let polled = std::future::poll_fn(|context| {
        std::task::Poll::Ready(std::pin::Pin::new(&mut *stream).poll_read(context, &mut buffer))
    });
    match polled.await {
        std::task::Poll::Pending => false,
        std::task::Poll::Ready(Ok(())) => buffer.filled().is_empty(),
        std::task::Poll::Ready(Err(_)) => true,
    }
}

//! Bodies that are longer than any call takes.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::LONGEST;
use super::raw;
use crate::endpoint::{Loopback, Tls};

/// No body is longer.
const LONGEST_BODY: u64 = 4 << 30;
const CHUNK: usize = 64 << 10;

/// Bodies of zeros.
#[derive(Clone, Debug)]
pub struct Bodies {
    /// The call's path, as in `/kbs/v0/attest`.
    pub path: String,
    /// Headers, each with its line end.
    pub headers: String,
    /// Bytes of each body.
    pub length: u64,
    /// Whether the length is kept from the broker (chunked).
    pub chunked: bool,
    /// Connections at once, with one body each.
    pub connections: usize,
    /// A body that is not through by then is given up.
    pub limit: Duration,
}

/// What became of one body.
#[derive(Clone, Debug, Serialize)]
pub struct BodyEnd {
    /// The answer's status; none if the connection ended without one.
    pub status: Option<u16>,
    /// How much of the body went out before.
    pub sent: u64,
    /// How long it took.
    pub seconds: f64,
}

/// Sends the bodies.
pub async fn big_bodies(target: &Loopback, tls: &Tls, bodies: &Bodies) -> Result<Vec<BodyEnd>> {
    ensure!(bodies.length <= LONGEST_BODY && bodies.connections <= 256, "bodies without bound");
    let workers: Vec<_> = (0..bodies.connections.max(1))
        .map(|_| {
            let (target, tls, bodies) = (target.clone(), tls.clone(), bodies.clone());
            tokio::spawn(async move {
                let begun = Instant::now();
                let mut sent = 0;
                let limit = bodies.limit.min(LONGEST);
                let ended = tokio::time::timeout(limit, one(&target, &tls, &bodies, &mut sent)).await;
                let status = ended.ok().and_then(Result::ok).flatten();
                BodyEnd { status, sent, seconds: begun.elapsed().as_secs_f64() }
            })
        })
        .collect();
    let mut ends = Vec::new();
    for worker in workers {
        ends.push(worker.await?);
    }
    Ok(ends)
}

async fn one(target: &Loopback, tls: &Tls, bodies: &Bodies, sent: &mut u64) -> std::io::Result<Option<u16>> {
    let form = match bodies.chunked {
        true => "transfer-encoding: chunked\r\n".to_string(),
        false => format!("content-length: {}\r\n", bodies.length),
    };
    let head = raw::head(target, "POST", &bodies.path, &format!("{}{form}", bodies.headers));
    let (mut reader, mut writer) = tokio::io::split(raw::connect(target, tls).await?);
    let zeros = vec![0_u8; CHUNK];
    let send = async {
        writer.write_all(&head).await?;
        while *sent < bodies.length {
            let take = (bodies.length - *sent).min(CHUNK as u64);
            if bodies.chunked {
                writer.write_all(format!("{take:x}\r\n").as_bytes()).await?;
            }
            writer.write_all(zeros.get(..take as usize).unwrap_or_default()).await?;
            if bodies.chunked {
                writer.write_all(b"\r\n").await?;
            }
            *sent += take;
        }
        if bodies.chunked {
            writer.write_all(b"0\r\n\r\n").await?;
        }
        writer.flush().await
    };
    let receive = async {
        let mut first = [0; 12];
        reader.read_exact(&mut first).await?;
        let status = first.strip_prefix(b"HTTP/1.1 ").and_then(|rest| std::str::from_utf8(rest).ok());
        Ok::<_, std::io::Error>(status.and_then(|text| text.parse().ok()))
    };
    tokio::pin!(receive);
    tokio::select! {
        status = &mut receive => return status,
        _ = send => (),
    }
    // Sending ended first, well or not: the answer may be on its way.
    receive.await
}

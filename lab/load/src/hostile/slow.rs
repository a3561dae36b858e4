//! Slow senders: a byte now and then, so that a connection is held for nothing.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::raw;
use super::{Ends, LONGEST, MOST_CONNECTIONS};
use crate::endpoint::{Loopback, Tls};

/// Where the sender is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Slow {
    /// In the first bytes of TLS.
    Handshake,
    /// In the head of a request.
    Head,
    /// In the body of a call of auth.
    Body,
}

/// What the broker did with slow senders.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SlowReport {
    /// How they ended.
    pub ends: Ends,
    /// The longest that the broker kept one, in seconds.
    pub longest: f64,
}

/// Holds so many connections, a byte on each in every `pause`, until the broker ends them or `limit` is over.
pub async fn slow_senders(
    target: &Loopback,
    tls: &Tls,
    slow: Slow,
    connections: usize,
    pause: Duration,
    limit: Duration,
) -> Result<SlowReport> {
    ensure!(connections <= MOST_CONNECTIONS, "at most {MOST_CONNECTIONS} connections");
    let limit = limit.min(LONGEST);
    let workers: Vec<_> = (0..connections)
        .map(|_| {
            let (target, tls) = (target.clone(), tls.clone());
            tokio::spawn(async move { one(&target, &tls, slow, pause, limit).await })
        })
        .collect();
    let mut report = SlowReport::default();
    for worker in workers {
        let (end, kept) = worker.await?;
        *report.ends.entry(end).or_default() += 1;
        report.longest = report.longest.max(kept.as_secs_f64());
    }
    Ok(report)
}

async fn one(
    target: &Loopback,
    tls: &Tls,
    slow: Slow,
    pause: Duration,
    limit: Duration,
) -> (String, Duration) {
    let until = Instant::now() + limit;
    let auth = "content-type: application/json\r\ncontent-length: 60000\r\n";
    let opened = async {
        Ok::<_, std::io::Error>(match slow {
            Slow::Handshake => {
                // The head of a TLS record that announces a ClientHello of 16 KiB.
                let stream = target.endpoint().connect().await?;
                drip(stream, vec![0x16, 0x03, 0x01, 0x40, 0x00, 0x01], 0, pause).await
            }
            Slow::Head => {
                let text = raw::head(target, "GET", "/healthz", "x-slow: ");
                drip(raw::connect(target, tls).await?, text[..text.len() - 2].to_vec(), b'a', pause).await
            }
            Slow::Body => {
                let text = raw::head(target, "POST", "/kbs/v0/auth", auth);
                drip(raw::connect(target, tls).await?, text, b' ', pause).await
            }
        })
    };
    let begun = Instant::now();
    let end = match tokio::time::timeout_at(until.into(), opened).await {
        Ok(Ok(end)) => end,
        Ok(Err(_)) => "not connected".to_string(),
        Err(_) => "still there".to_string(),
    };
    (end, begun.elapsed())
}

/// Sends the beginning, then a byte in each pause; gives what the broker ended it with.
async fn drip<S>(stream: S, first: Vec<u8>, byte: u8, pause: Duration) -> String
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    let send = async {
        writer.write_all(&first).await?;
        loop {
            writer.flush().await?;
            tokio::time::sleep(pause).await;
            writer.write_all(&[byte]).await?;
        }
        #[allow(unreachable_code)]
        Ok::<(), std::io::Error>(())
    };
    let receive = async {
        let mut answer = Vec::new();
        let mut limited = (&mut reader).take(64 << 10);
        let _ = limited.read_to_end(&mut answer).await;
        match answer.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3)) {
            Some(status) => format!("answered {}", String::from_utf8_lossy(status)),
            None => "closed".to_string(),
        }
    };
    tokio::select! {
        _ = send => "closed".to_string(),
        end = receive => end,
    }
}

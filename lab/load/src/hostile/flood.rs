//! Unauthenticated calls of auth, as many as there is time for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;

use super::raw::{self, Answers};
use super::{Ends, LONGEST, MOST_CONNECTIONS};
use crate::endpoint::{Loopback, Tls};

/// No flood has more calls.
const MOST_CALLS: u64 = 100_000_000;
const BODY: &str =
    r#"{"version":"0.4.0","tee":"tpm","extra-params":{"supported-hash-algorithms":["sha384"]}}"#;

/// A flood.
#[derive(Clone, Debug)]
pub struct Flood {
    /// Calls in all.
    pub calls: u64,
    /// Connections at once.
    pub connections: usize,
    /// Calls that are sent before their answers are read.
    pub pipelined: usize,
    /// The flood ends then, done or not.
    pub limit: Duration,
    /// The tenant's path, as in `/t/name`; empty for the plain one.
    pub prefix: String,
}

/// What came back.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FloodReport {
    /// Answers by status.
    pub answers: Ends,
    /// Connections that were opened.
    pub connections: u64,
    /// How long it took.
    pub seconds: f64,
}

impl FloodReport {
    /// All answers.
    pub fn answered(&self) -> u64 {
        self.answers.values().sum()
    }
}

/// Sends the flood. `progress` is the number of answers so far, for whoever watches the broker meanwhile.
pub async fn flood_auth(
    target: &Loopback,
    tls: &Tls,
    flood: &Flood,
    progress: Arc<AtomicU64>,
) -> Result<FloodReport> {
    ensure!(flood.calls <= MOST_CALLS && flood.connections <= MOST_CONNECTIONS, "a flood without bound");
    let begun = Instant::now();
    let until = begun + flood.limit.min(LONGEST);
    let left = Arc::new(AtomicU64::new(flood.calls));
    let head = raw::head(
        target,
        "POST",
        &format!("{}/kbs/v0/auth", flood.prefix),
        &format!("content-type: application/json\r\ncontent-length: {}\r\n", BODY.len()),
    );
    let one: Arc<Vec<u8>> = Arc::new([&head[..], BODY.as_bytes()].concat());
    let workers: Vec<_> = (0..flood.connections.max(1))
        .map(|_| {
            let (target, tls, one) = (target.clone(), tls.clone(), one.clone());
            let (left, progress, batch) = (left.clone(), progress.clone(), flood.pipelined.max(1));
            tokio::spawn(async move {
                let mut report = FloodReport::default();
                while Instant::now() < until && left.load(Ordering::Relaxed) > 0 {
                    let work = connection(&target, &tls, &one, batch, until, &left, &progress, &mut report);
                    let _ = tokio::time::timeout_at(until.into(), work).await;
                }
                report
            })
        })
        .collect();
    let mut sum = FloodReport::default();
    for worker in workers {
        let report = worker.await?;
        sum.connections += report.connections;
        for (status, count) in report.answers {
            *sum.answers.entry(status).or_default() += count;
        }
    }
    sum.seconds = begun.elapsed().as_secs_f64();
    Ok(sum)
}

/// One connection until it ends, or there is nothing left to send.
#[allow(clippy::too_many_arguments)]
async fn connection(
    target: &Loopback,
    tls: &Tls,
    one: &[u8],
    batch: usize,
    until: Instant,
    left: &AtomicU64,
    progress: &AtomicU64,
    report: &mut FloodReport,
) {
    let Ok(stream) = raw::connect(target, tls).await else {
        // The broker is full; a flood that spins here would only burn the machine.
        *report.answers.entry("no connection".to_string()).or_default() += 0;
        tokio::time::sleep(Duration::from_millis(20)).await;
        return;
    };
    report.connections += 1;
    let mut answers = Answers::new(stream);
    while Instant::now() < until {
        let take = take(left, batch as u64);
        if take == 0 || answers.write(&one.repeat(take as usize)).await.is_err() {
            left.fetch_add(take, Ordering::Relaxed);
            return;
        }
        for answered in 0..take {
            let Ok(Some(status)) = answers.status().await else {
                left.fetch_add(take - answered, Ordering::Relaxed);
                return;
            };
            *report.answers.entry(status.to_string()).or_default() += 1;
            progress.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Takes up to `batch` of what is left.
fn take(left: &AtomicU64, batch: u64) -> u64 {
    let mut taken = 0;
    let less = |now: u64| {
        taken = now.min(batch);
        Some(now - taken)
    };
    let _ = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    taken
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_taken_once_and_never_below_zero() {
        let left = AtomicU64::new(10);
        assert_eq!([take(&left, 8), take(&left, 8), take(&left, 8)], [8, 2, 0]);
        assert_eq!(left.load(Ordering::Relaxed), 0);
    }
}

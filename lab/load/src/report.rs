//! What a run found, as text for a person and as JSON for a program.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::histogram::Histogram;
use crate::tally::Tally;

/// One run's figures. Times are in milliseconds unless the name says otherwise.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How long was measured, without what was for warming up.
    pub seconds: f64,
    /// Guests that have their key.
    pub keys: u64,
    /// Keys for each second.
    pub keys_per_second: f64,
    /// How guests ended.
    pub ends: BTreeMap<String, u64>,
    /// Of the steps, and of the whole from when the guest was due.
    pub steps: BTreeMap<String, StepReport>,
    /// Answers, by step, status and code.
    pub answers: BTreeMap<String, u64>,
    /// Calls that were sent again.
    pub sent_again: u64,
    /// Some of what went wrong, in words.
    pub words: Vec<String>,
    /// CPU of the guests themselves for one key, in microseconds.
    pub client_cpu_us_per_key: f64,
    /// One ECDSA P-256 signature on this machine, in microseconds.
    pub signature_us: f64,
    /// The servers.
    pub servers: Vec<ServerReport>,
}

/// Times of a step.
#[derive(Clone, Debug, Serialize)]
pub struct StepReport {
    /// How many.
    pub count: u64,
    /// The mean.
    pub mean: f64,
    /// Half are not slower.
    pub p50: f64,
    /// Nine of ten are not slower.
    pub p90: f64,
    /// 99 of 100 are not slower.
    pub p99: f64,
    /// 999 of 1000 are not slower.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
}

/// What a server used.
#[derive(Clone, Debug, Serialize)]
pub struct ServerReport {
    /// Its process.
    pub pid: u32,
    /// CPU seconds during the measured time.
    pub cpu_seconds: f64,
    /// CPU for one key of all that were released, in microseconds.
    pub cpu_us_per_key: f64,
    /// The same in ECDSA P-256 signatures.
    pub signatures_per_key: f64,
    /// Resident memory at the end, in KiB.
    pub resident_kib: u64,
    /// Resident memory at most, in KiB.
    pub peak_kib: u64,
}

impl StepReport {
    fn of(times: &Histogram) -> Self {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map(|share| ms(times.quantile(share)));
        Self { count: times.count(), mean: ms(times.mean()), p50, p90, p99, p999, max: ms(times.max()) }
    }
}

impl Report {
    /// Of what was counted in this time; the caller adds what it knows of servers.
    pub fn of(tally: &Tally, took: Duration) -> Self {
        let keys = tally.ended("key");
        let mut steps: BTreeMap<String, StepReport> = tally
            .times
            .iter()
            .map(|(step, times)| (step.name().to_string(), StepReport::of(times)))
            .collect();
        steps.insert("whole".to_string(), StepReport::of(&tally.whole));
        let answers = tally.answers.iter().map(|((step, status, code), count)| {
            (format!("{} {status} {code}", step.name()).trim_end().to_string(), *count)
        });
        Self {
            seconds: took.as_secs_f64(),
            keys,
            keys_per_second: keys as f64 / took.as_secs_f64().max(1e-9),
            ends: tally.ends.iter().map(|(name, count)| (name.to_string(), *count)).collect(),
            steps,
            answers: answers.collect(),
            sent_again: tally.again,
            words: tally.words.clone(),
            client_cpu_us_per_key: 0.0,
            signature_us: 0.0,
            servers: Vec::new(),
        }
    }

    /// Adds a server's CPU in the measured time, and its memory after it.
    pub fn add_server(&mut self, pid: u32, cpu: Duration, memory: crate::process::Memory) {
        let per_key = cpu.as_secs_f64() * 1e6 / self.keys.max(1) as f64;
        self.servers.push(ServerReport {
            pid,
            cpu_seconds: cpu.as_secs_f64(),
            cpu_us_per_key: per_key,
            signatures_per_key: if self.signature_us > 0.0 { per_key / self.signature_us } else { 0.0 },
            resident_kib: memory.resident_kib,
            peak_kib: memory.peak_kib,
        });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} keys in {:.1} s, {:.0}/s", self.keys, self.seconds, self.keys_per_second)?;
        writeln!(
            f,
            "  {:<9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "ms", "count", "mean", "p50", "p90", "p99", "max"
        )?;
        for (name, step) in &self.steps {
            let StepReport { count, mean, p50, p90, p99, max, .. } = step;
            writeln!(f, "  {name:<9} {count:>9} {mean:>9.2} {p50:>9.2} {p90:>9.2} {p99:>9.2} {max:>9.2}")?;
        }
        for (name, count) in &self.ends {
            writeln!(f, "  ended {name}: {count}")?;
        }
        for (name, count) in &self.answers {
            writeln!(f, "  answer {name}: {count}")?;
        }
        writeln!(f, "  sent again: {}", self.sent_again)?;
        for words in &self.words {
            writeln!(f, "  {words}")?;
        }
        writeln!(
            f,
            "  guests: {:.0} µs CPU per key; one ECDSA P-256 signature: {:.1} µs",
            self.client_cpu_us_per_key, self.signature_us
        )?;
        for server in &self.servers {
            writeln!(
                f,
                "  server {}: {:.2} s CPU, {:.0} µs per key ({:.1} signatures), {:.1} MiB resident, {:.1} at most",
                server.pid,
                server.cpu_seconds,
                server.cpu_us_per_key,
                server.signatures_per_key,
                server.resident_kib as f64 / 1024.0,
                server.peak_kib as f64 / 1024.0
            )?;
        }
        Ok(())
    }
}

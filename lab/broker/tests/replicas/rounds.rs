//! Rounds: load, a failure at a random moment, recovery, and what must hold after it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use coffer_lab_load::{Carry, Dice, Ended, Pace, Plan, Protocol, Terms, Until, run};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::checker::{self, Limited, OPEN, Seen, value_of};
use crate::writers::Counter;
use coffer_lab_broker::{Cluster, patience};

const WRITERS: usize = 3;

/// What is broken.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    KillReplica(usize),
    /// For so many milliseconds.
    FreezeReplica(usize, u64),
    /// SIGTERM: the replica drains.
    StopReplica(usize),
    RestartDatabase,
    /// It stays down for so many milliseconds.
    KillDatabase(u64),
    /// For so many milliseconds.
    FreezeDatabase(u64),
}

impl Event {
    /// One or two of them.
    pub(crate) fn random(dice: &mut Dice) -> Vec<Self> {
        let one = |dice: &mut Dice| {
            let replica = dice.roll(3);
            let time = u64::try_from(dice.roll(3_000)).unwrap_or(0);
            match dice.roll(12) {
                0..=4 => Self::KillReplica(replica),
                5..=6 => Self::FreezeReplica(replica, time),
                7 => Self::StopReplica(replica),
                8 => Self::RestartDatabase,
                9..=10 => Self::KillDatabase(time),
                _ => Self::FreezeDatabase(time),
            }
        };
        (0..=dice.roll(2)).map(|_| one(dice)).collect()
    }
}

/// The cluster, what is written to it, and what clients were given.
pub(crate) struct Rounds {
    cluster: Cluster,
    writers: Vec<JoinHandle<Result<Counter>>>,
    stop_writers: Arc<AtomicBool>,
    limited: Vec<Limited>,
    seen: Arc<Mutex<Seen>>,
}

impl Rounds {
    pub(crate) async fn begin(cluster: Cluster) -> Result<Self> {
        let admin = cluster.admin()?;
        admin.welcome(&cluster.guests).await?;
        admin.put_resource(OPEN, &value_of(OPEN), Terms::default()).await?;
        cluster.agreed(OPEN).await?;
        let stop_writers = Arc::new(AtomicBool::new(false));
        let count = |number| tokio::spawn(Counter::new(number).count(admin.clone(), stop_writers.clone()));
        let writers = (0..WRITERS).map(count).collect();
        Ok(Self { cluster, writers, stop_writers, limited: Vec::new(), seen: Arc::default() })
    }

    /// One round.
    pub(crate) async fn round(&mut self, number: u64, events: &[Event], dice: &mut Dice) -> Result<()> {
        let what = format!("round {number}, {events:?}");
        let limit = 1 + u64::try_from(dice.roll(40))?;
        let limited = Limited { path: format!("chaos/limited/r{number}"), limit };
        self.put_limited(&limited).await?;
        let stop = Arc::new(AtomicBool::new(false));
        let plan = Plan {
            at_once: 8,
            pace: Pace::Closed,
            until: Until::Time(Duration::from_secs(600)),
            resources: vec![OPEN.to_string(), limited.path.clone()],
            carry: if dice.roll(2) == 0 { Carry::Bearer } else { Carry::Cookie },
            protocol: if dice.roll(2) == 0 { Protocol::Http1 } else { Protocol::Http2 },
            patience: patience(),
            addresses: 8,
            ..Plan::default()
        };
        let load = tokio::spawn(self.load(plan.clone(), stop.clone())?);
        tokio::time::sleep(Duration::from_millis(u64::try_from(dice.roll(800))?)).await;
        for event in events {
            self.act(*event).await.with_context(|| what.clone())?;
            tokio::time::sleep(Duration::from_millis(u64::try_from(dice.roll(300))?)).await;
        }
        self.settle(events).await.with_context(|| what.clone())?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        stop.store(true, Ordering::Relaxed);
        let report = load.await??;
        // What the failure left of the count is spent, and some more is asked for.
        let rest = Plan { until: Until::Count(2 * (limit + 4)), ..plan };
        let drained = self.load(rest, Arc::default())?.await?;
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            println!(
                "{what}: {} keys, {} came again, limit {limit} to {} attempts, {} calls sent again",
                report.keys + drained.keys,
                report.ends.get("retryable").unwrap_or(&0) + drained.ends.get("retryable").unwrap_or(&0),
                seen.attempts(&limited.path).len(),
                report.sent_again + drained.sent_again
            );
            let faults = std::mem::take(&mut seen.faults);
            ensure!(faults.is_empty(), "{what}: {}", faults.join("; "));
        }
        ensure!(report.keys + drained.keys > 0, "{what}: nobody got a key: {report}");
        let admin = self.cluster.admin()?;
        checker::spent(&admin, &limited, &self.seen).await.with_context(|| what.clone())?;
        checker::journaled(&admin, &limited.path, &self.seen).await.with_context(|| what.clone())?;
        self.limited.push(limited);
        for writer in &self.writers {
            ensure!(!writer.is_finished(), "{what}: a writer gave up");
        }
        Ok(())
    }

    /// Stops everything, and reads the store through a replica that was never there before.
    pub(crate) async fn end(self) -> Result<()> {
        self.stop_writers.store(true, Ordering::Relaxed);
        let mut counters = Vec::new();
        for writer in self.writers {
            counters.push(writer.await??);
        }
        let (_replica, admin, endpoint) = self.cluster.fresh()?;
        for limited in &self.limited {
            checker::spent(&admin, limited, &self.seen).await?;
        }
        checker::counted(&admin, &counters, endpoint, &self.cluster).await
    }

    /// The load, and what is noted of each guest's end.
    fn load(
        &self,
        plan: Plan,
        stop: Arc<AtomicBool>,
    ) -> Result<impl Future<Output = Result<coffer_lab_load::Report>> + Send + 'static> {
        let (guests, tls, endpoints) =
            (self.cluster.guests.clone(), self.cluster.tls.clone(), self.cluster.endpoints()?);
        let seen = self.seen.clone();
        Ok(async move {
            let note = move |finished: &coffer_lab_load::Finished<'_>| {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                match finished.ended {
                    Ended::Key { attempt, value } if value.equals(&value_of(finished.resource)) => {
                        seen.note(finished.resource, attempt);
                    }
                    Ended::Key { attempt, .. } => {
                        seen.faults.push(format!("another value came to {attempt}"))
                    }
                    Ended::Retryable { .. } => (),
                    Ended::Refused { status: 403, code, .. }
                        if code == "resource.spent" && finished.resource != OPEN => {}
                    other => seen.faults.push(other.to_string()),
                }
            };
            run(plan, guests, &endpoints, &tls, stop, note).await
        })
    }

    /// If the answer is lost and the call sent again, there is one version still.
    async fn put_limited(&self, limited: &Limited) -> Result<()> {
        let terms = Terms { release_limit: Some(limited.limit), if_version: Some(0) };
        let admin = self.cluster.admin()?;
        let answer = admin.try_put_resource(&limited.path, &value_of(&limited.path), terms).await??;
        match answer.status {
            200..300 | 409 => Ok(()),
            status => bail!("{}: {status} {}", limited.path, answer.code()),
        }
    }

    async fn act(&mut self, event: Event) -> Result<()> {
        let database = self.cluster.database.clone();
        match event {
            Event::KillReplica(number) => self.cluster.kill(number),
            Event::StopReplica(number) => {
                // One that is frozen would hear of it only later.
                self.cluster.freeze(number, false)?;
                self.cluster.terminate(number)
            }
            Event::FreezeReplica(number, _) => self.cluster.freeze(number, true),
            Event::RestartDatabase => Ok(spawn_blocking(move || database.restart()).await??),
            Event::KillDatabase(_) => Ok(spawn_blocking(move || database.kill()).await??),
            Event::FreezeDatabase(_) => Ok(spawn_blocking(move || database.freeze()).await?),
        }
    }

    /// Waits for as long as the failures last, and undoes them.
    async fn settle(&mut self, events: &[Event]) -> Result<()> {
        for event in events {
            match *event {
                Event::FreezeReplica(_, time) | Event::KillDatabase(time) | Event::FreezeDatabase(time) => {
                    tokio::time::sleep(Duration::from_millis(time)).await;
                }
                _ => (),
            }
            let database = self.cluster.database.clone();
            match *event {
                Event::FreezeReplica(number, _) => self.cluster.freeze(number, false)?,
                // A restart after the kill may have started it already.
                Event::KillDatabase(_) => spawn_blocking(move || database.restart()).await??,
                Event::FreezeDatabase(_) => spawn_blocking(move || database.thaw()).await?,
                _ => (),
            }
        }
        self.cluster.recover()
    }
}

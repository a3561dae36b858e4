//! A broker with an admin, and guests that it takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use coffer_lab_load::{
    Admin, Endpoint, Guests, Loopback, Pace, Patience, Plan, Report, Terms, Tls, Until, run,
};
use tempfile::TempDir;

use crate::program::Program;

/// The resource that guests of good behaviour come for.
pub const RESOURCE: &str = "load/key/1";
/// Its value.
pub const VALUE: [u8; 32] = [7; 32];
/// They come from another address than what is hostile, which is at 127.0.0.1.
const GOOD: std::net::Ipv4Addr = std::net::Ipv4Addr::new(127, 2, 0, 1);

/// No vendor's service is asked for anything.
pub const OFFLINE: &str = "[collateral]\noffline = true\nproxy = \"none\"\n";

/// Rates that nobody reaches, for tests of what is behind them.
pub const UNLIMITED: &str = "[quotas.rates]
challenge = { tenant = { per_second = 1000000, burst = 1000000 }, address = { per_second = 1000000, burst = 1000000 } }
attest = { tenant = { per_second = 1000000, burst = 1000000 }, address = { per_second = 1000000, burst = 1000000 } }
release = { tenant = { per_second = 1000000, burst = 1000000 }, address = { per_second = 1000000, burst = 1000000 } }
admin = { tenant = { per_second = 1000000, burst = 1000000 }, address = { per_second = 1000000, burst = 1000000 } }
";

/// One broker on an embedded store.
pub struct World {
    /// The process.
    pub broker: Program,
    /// Its admin.
    pub admin: Admin,
    /// TLS with its authority.
    pub tls: Tls,
    /// The guests.
    pub guests: Arc<Guests>,
    _folder: TempDir,
}

impl World {
    /// Starts with this at the beginning of its configuration.
    pub async fn start(options: &str) -> Result<Self> {
        let folder = TempDir::with_prefix("coffer-lab-broker-")?;
        let broker = Program::start(folder.path(), &format!("{options}\n{OFFLINE}"), 0)?;
        let read =
            |name: &str| std::fs::read_to_string(folder.path().join(name)).with_context(|| name.to_string());
        let tls = Tls::pinned(&read("tls/ca.pem")?)?;
        let patient = Patience { per_call: Duration::from_secs(30), ..Patience::default() };
        let admin = Admin::new(&[broker.endpoint()?], &tls, &read("admin.key")?, patient)?;
        let guests = Arc::new(Guests::new());
        admin.welcome(&guests).await?;
        admin.put_resource(RESOURCE, &VALUE, Terms::default()).await?;
        Ok(Self { broker, admin, tls, guests, _folder: folder })
    }

    /// Where what is hostile goes.
    pub fn target(&self) -> Result<Loopback> {
        Loopback::new(self.broker.endpoint()?)
    }

    /// Where guests of good behaviour come from.
    fn good(&self) -> Result<Endpoint> {
        Ok(self.broker.endpoint()?.from(GOOD.into()))
    }

    /// Guests of good behaviour, some each second, each on a connection of its own, until told.
    pub async fn well_behaved(&self, stop: Arc<AtomicBool>, patience: Patience) -> Result<Report> {
        let plan = Plan {
            at_once: 4,
            pace: Pace::Open(4.0),
            until: Until::Time(Duration::from_secs(3600)),
            connections: coffer_lab_load::Connections::Fresh,
            patience,
            ..Plan::default()
        };
        run(plan, self.guests.clone(), &[self.good()?], &self.tls, stop, |_| ()).await
    }

    /// Does something hostile while guests of good behaviour come; each of them must have its key within `limit`.
    pub async fn beside_guests<T>(
        &mut self,
        what: &str,
        limit: Duration,
        hostile: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let stop = Arc::new(AtomicBool::new(false));
        let patience = Patience { per_call: limit, deadline: limit, ..Patience::default() };
        let begun = Instant::now();
        let both = async {
            let done = hostile.await;
            // At least some guests come also where the hostile part is over at once.
            let least = Duration::from_secs(1).saturating_sub(begun.elapsed());
            tokio::time::sleep(least).await;
            stop.store(true, Ordering::Relaxed);
            done
        };
        let (report, done) = tokio::join!(self.well_behaved(stop.clone(), patience), both);
        let (report, done) = (report?, done.with_context(|| what.to_string())?);
        self.broker.must_live()?;
        let whole = report.steps.get("whole").context("no guest came")?;
        println!(
            "{what}: {:.1} s; {} guests beside it, p50 {:.0} ms, slowest {:.0} ms; {} KiB resident",
            begun.elapsed().as_secs_f64(),
            report.keys,
            whole.p50,
            whole.max,
            self.broker.memory()?.resident_kib
        );
        ensure!(
            report.keys > 0 && report.ends.len() == 1,
            "{what}: guests beside it did not get their keys: {report}"
        );
        ensure!(whole.max <= limit.as_secs_f64() * 1000.0, "{what}: a guest waited {:.0} ms", whole.max);
        Ok(done)
    }
}

//! Many guests at once: when each is due, what it does, and what all of them found.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use coffer_lab_testpki::TpmFixture;

use crate::ending::Ended;
use crate::endpoint::{Endpoint, Protocol, Tls};
use crate::flow::{self, Carry, Visit};
use crate::guests::Guests;
use crate::link::Link;
use crate::process;
use crate::report::Report;
use crate::route::{Patience, Route};
use crate::tally::Tally;

/// So many guests share an HTTP/2 connection: what brokers of ours let one have.
const STREAMS: usize = 16;

/// When guests come.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// The next one when one has ended.
    Closed,
    /// So many each second, whether or not those before have ended.
    Open(f64),
}

/// When it is enough. The flag that `run` is given ends it too.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After so many guests.
    Count(u64),
    /// After this time, warm-up included.
    Time(Duration),
}

/// Whether the broker has seen a guest's TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Comes {
    /// Each guest of a small pool comes again and again.
    Again,
    /// Each visit is by a new TPM, made when it is due.
    First,
}

/// What guests do to connections, and what they come for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Connections {
    /// Connections are kept over visits.
    Kept,
    /// Each visit has a TLS handshake of its own, as a node's start has.
    Fresh,
}

/// A load.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Guests at once.
    pub at_once: usize,
    /// When they come.
    pub pace: Pace,
    /// When it is enough.
    pub until: Until,
    /// What is not measured at the beginning.
    pub warm_up: Duration,
    /// Tenants in turn; empty is the plain path.
    pub tenants: Vec<String>,
    /// Resources in turn, `repository/type/tag`.
    pub resources: Vec<String>,
    /// Token or cookie.
    pub carry: Carry,
    /// With a known TPM or a new one.
    pub comes: Comes,
    /// What is spoken.
    pub protocol: Protocol,
    /// Kept or fresh.
    pub connections: Connections,
    /// How long one goes on.
    pub patience: Patience,
    /// From so many loopback addresses, as from so many clients. Zero: from the one that the system takes.
    pub addresses: u16,
    /// Processes whose CPU and memory is measured.
    pub servers: Vec<u32>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            at_once: 16,
            pace: Pace::Closed,
            until: Until::Count(1000),
            warm_up: Duration::ZERO,
            tenants: Vec::new(),
            resources: vec!["load/key/1".to_string()],
            carry: Carry::Bearer,
            comes: Comes::Again,
            protocol: Protocol::Http1,
            connections: Connections::Kept,
            patience: Patience::default(),
            addresses: 0,
            servers: Vec::new(),
        }
    }
}

/// One guest's end, told as it happens.
pub struct Finished<'a> {
    /// The visit's number.
    pub number: u64,
    /// Its tenant.
    pub tenant: Option<&'a str>,
    /// What it came for.
    pub resource: &'a str,
    /// How it ended.
    pub ended: &'a Ended,
    /// From when it was due.
    pub took: Duration,
}

struct Shared<W> {
    plan: Plan,
    guests: Arc<Guests>,
    next: AtomicU64,
    begun: Instant,
    stop: Arc<AtomicBool>,
    watch: W,
}

/// Runs a plan and tells `watch` of each guest's end. `stop` ends it early.
pub async fn run<W>(
    plan: Plan,
    guests: Arc<Guests>,
    endpoints: &[Endpoint],
    tls: &Tls,
    stop: Arc<AtomicBool>,
    watch: W,
) -> Result<Report>
where
    W: Fn(&Finished<'_>) + Send + Sync + 'static,
{
    ensure!(
        plan.addresses == 0 || endpoints.iter().all(Endpoint::is_loopback),
        "clients have many addresses on loopback only"
    );
    ensure!(plan.at_once > 0 && !plan.resources.is_empty() && !endpoints.is_empty(), "a load of nothing");
    if let Pace::Open(rate) = plan.pace {
        ensure!(rate > 0.0 && rate.is_finite(), "a rate of {rate} guests each second");
    }
    // Made before the clock runs.
    let pool: Vec<TpmFixture> = (0..plan.at_once).map(|_| guests.certified()).collect();
    let signature = process::signature_time()?;
    let (warm_up, servers) = (plan.warm_up, plan.servers.clone());
    let routes = routes(&plan, endpoints, tls);
    let begun = Instant::now();
    let shared = Arc::new(Shared { plan, guests, next: AtomicU64::new(0), begun, stop, watch });
    let workers: Vec<_> = pool
        .into_iter()
        .zip(routes)
        .map(|(tpm, route)| tokio::spawn(work(shared.clone(), tpm, route)))
        .collect();
    tokio::time::sleep(warm_up).await;
    let own = std::process::id();
    let cpu_of = |pid: &u32| process::cpu(*pid).unwrap_or_default();
    let (before, own_before): (Vec<_>, _) = (servers.iter().map(cpu_of).collect(), cpu_of(&own));
    let mut tally = Tally::default();
    for worker in workers {
        tally.merge(worker.await?);
    }
    let mut report = Report::of(&tally, begun.elapsed().saturating_sub(warm_up));
    report.signature_us = signature.as_secs_f64() * 1e6;
    let own_cpu = cpu_of(&own).saturating_sub(own_before);
    report.client_cpu_us_per_key = own_cpu.as_secs_f64() * 1e6 / report.keys.max(1) as f64;
    for (pid, before) in servers.iter().zip(before) {
        // A server that was killed on purpose has no figures.
        if let (Ok(cpu), Ok(memory)) = (process::cpu(*pid), process::memory(*pid)) {
            report.add_server(*pid, cpu.saturating_sub(before), memory);
        }
    }
    Ok(report)
}

/// A route for each worker. Over HTTP/2 workers share the links, and what is shared with fresh connections would be
/// closed under another's call, so then each has its own.
fn routes(plan: &Plan, endpoints: &[Endpoint], tls: &Tls) -> Vec<Route> {
    let share = match (plan.protocol, plan.connections) {
        (Protocol::Http2, Connections::Kept) => STREAMS,
        _ => 1,
    };
    let links = |number: usize| -> Vec<Arc<Link>> {
        let from = client(number, plan.addresses);
        let placed = |one: &Endpoint| from.map_or_else(|| one.clone(), |from| one.clone().from(from));
        endpoints.iter().map(|one| Link::new(placed(one), tls.clone(), plan.protocol)).collect()
    };
    let mut routes = Vec::with_capacity(plan.at_once);
    while routes.len() < plan.at_once {
        let shared = links(routes.len() / share);
        for _ in 0..share.min(plan.at_once - routes.len()) {
            routes.push(Route::new(shared.clone(), routes.len(), plan.patience));
        }
    }
    routes
}

/// The local address of a client: 127.1.0.1 and those after it.
fn client(number: usize, addresses: u16) -> Option<IpAddr> {
    let number = u16::try_from(number.checked_rem(usize::from(addresses))?).ok()?.checked_add(1)?;
    let [high, low] = number.to_be_bytes();
    Some(IpAddr::V4(Ipv4Addr::new(127, 1, high, low)))
}

async fn work<W>(shared: Arc<Shared<W>>, tpm: TpmFixture, route: Route) -> Tally
where
    W: Fn(&Finished<'_>) + Send + Sync + 'static,
{
    let plan = &shared.plan;
    let measured_from = shared.begun + plan.warm_up;
    let (mut tally, mut unmeasured) = (Tally::default(), Tally::default());
    loop {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let due = match plan.pace {
            Pace::Closed => Instant::now(),
            Pace::Open(rate) => shared.begun + Duration::from_secs_f64(number as f64 / rate),
        };
        let enough = match plan.until {
            Until::Count(count) => number >= count,
            Until::Time(time) => due >= shared.begun + time,
        };
        if enough || shared.stop.load(Ordering::Relaxed) {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        let counted = if due >= measured_from { &mut tally } else { &mut unmeasured };
        let turn = usize::try_from(number).unwrap_or(0);
        let tenant = plan.tenants.get(turn % plan.tenants.len().max(1)).map(String::as_str);
        // Each tenant's guests go through all resources.
        let resource = &plan.resources[turn / plan.tenants.len().max(1) % plan.resources.len()];
        let first = (plan.comes == Comes::First).then(|| shared.guests.certified());
        let tpm = first.as_ref().unwrap_or(&tpm);
        let visit = Visit { guests: &shared.guests, tpm, tenant, resource, carry: plan.carry };
        let ended = flow::visit(&route, &visit, counted).await;
        let took = due.elapsed();
        counted.end(&ended, took);
        (shared.watch)(&Finished { number, tenant, resource, ended: &ended, took });
        if plan.connections == Connections::Fresh {
            route.close().await;
        }
    }
    tally.again = route.sent_again();
    tally
}

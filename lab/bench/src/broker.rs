//! The broker's program under load, as owners and nodes meet it: over TLS, with a store on a disk.
//!
//! Guests come from this process, on the same cores, so keys per second are a lower bound; the CPU of the broker for one
//! key is what may be compared with other machines, in signatures.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use coffer_lab_broker::{Cluster, OFFLINE, Program, RESOURCE, UNLIMITED, VALUE, World};
use coffer_lab_load::hostile::{Flood, flood_auth};
use coffer_lab_load::{Endpoint, Guests, Pace, Plan, Report, Terms, Tls, Until, memory, run};
use coffer_lab_postgres::Server;

use crate::release::TRUSTEE_SIGNATURES;

/// Guests at once.
const AT_ONCE: usize = 64;
const WARM_UP: Duration = Duration::from_secs(2);
const MIB: f64 = 1024.0;

/// How much is done.
#[derive(clap::Args)]
pub(crate) struct Load {
    /// Seconds of each measurement of the broker.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Releases between two looks at the broker's memory.
    #[arg(long, default_value_t = 20_000)]
    releases: u64,
    /// Unauthenticated calls between two looks.
    #[arg(long, default_value_t = 1_000_000)]
    calls: u64,
}

/// Measures and prints.
pub(crate) fn measure(load: &Load) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        idle().await?;
        for cores in [1, 2] {
            embedded(load, cores).await?;
        }
        after_many(load).await?;
        replicas(load).await
    })
}

/// The program's size, and what it holds before anybody comes.
async fn idle() -> Result<()> {
    let size = std::fs::metadata(coffer_lab_broker::broker()?)?.len();
    let folder = tempfile::tempdir()?;
    let broker = Program::start(folder.path(), OFFLINE, 0)?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    println!(
        "\nbroker: program {:.1} MiB (promise: 30), idle {:.1} MiB resident (promise: 30)",
        size as f64 / MIB / MIB,
        broker.memory()?.resident_kib as f64 / MIB
    );
    Ok(())
}

async fn embedded(load: &Load, cores: usize) -> Result<()> {
    let world = World::start(UNLIMITED).await?;
    world.broker.keep_to(cores)?;
    let (endpoints, pids) = ([world.broker.endpoint()?], [world.broker.pid()]);
    let loaded = loaded(load, &endpoints, &pids, &world.guests, &world.tls).await?;
    print(&format!("broker on {cores} core(s), embedded store, software evidence"), &loaded);
    Ok(())
}

/// Full load, and half of it.
struct Loaded {
    full: Report,
    half: Report,
}

async fn loaded(
    load: &Load,
    endpoints: &[Endpoint],
    pids: &[u32],
    guests: &Arc<Guests>,
    tls: &Tls,
) -> Result<Loaded> {
    let plan = Plan {
        at_once: AT_ONCE,
        until: Until::Time(WARM_UP + Duration::from_secs(load.seconds)),
        warm_up: WARM_UP,
        resources: vec![RESOURCE.to_string()],
        servers: pids.to_vec(),
        ..Plan::default()
    };
    let at =
        |pace| run(Plan { pace, ..plan.clone() }, guests.clone(), endpoints, tls, Arc::default(), |_| ());
    let full = at(Pace::Closed).await?;
    ensure!(full.keys > 0 && full.ends.len() == 1, "guests did not get their keys: {full}");
    let half = at(Pace::Open(full.keys_per_second / 2.0)).await?;
    Ok(Loaded { full, half })
}

fn print(what: &str, Loaded { full, half }: &Loaded) {
    let cpu: f64 = full.servers.iter().map(|server| server.cpu_us_per_key).sum();
    let signatures = cpu / full.signature_us;
    println!(
        "\n{what}: {:.0} keys/s with {AT_ONCE} guests at once on the same machine",
        full.keys_per_second
    );
    println!(
        "  CPU of the broker for one key {cpu:.0} µs, {signatures:.1} signatures; against Trustee 0.21: {:.1}x (promise: 10x)",
        TRUSTEE_SIGNATURES / signatures
    );
    let whole = |report: &Report| report.steps.get("whole").map_or((0.0, 0.0), |step| (step.p50, step.p99));
    let ((full_50, full_99), (half_50, half_99)) = (whole(full), whole(half));
    println!("  three calls at full load: p50 {full_50:.1} ms, p99 {full_99:.1} ms");
    println!("  at half load ({:.0} keys/s): p50 {half_50:.1} ms, p99 {half_99:.1} ms", half.keys_per_second);
}

/// Memory before and after many releases, and many calls of nobody.
async fn after_many(load: &Load) -> Result<()> {
    let world = World::start(UNLIMITED).await?;
    let mib = || Ok::<_, anyhow::Error>(world.broker.memory()?.resident_kib as f64 / MIB);
    let start = mib()?;
    let plan = Plan {
        at_once: AT_ONCE,
        until: Until::Count(load.releases),
        resources: vec![RESOURCE.to_string()],
        ..Plan::default()
    };
    let endpoint = [world.broker.endpoint()?];
    let mut text = format!("\nmemory of the broker: {start:.1} MiB at the start");
    for _ in 0..2 {
        let report =
            run(plan.clone(), world.guests.clone(), &endpoint, &world.tls, Arc::default(), |_| ()).await?;
        ensure!(report.keys == load.releases, "not every guest got its key: {report}");
        text += &format!(", {:.1} MiB after {} releases more", mib()?, load.releases);
    }
    let flood = Flood {
        calls: load.calls,
        connections: 8,
        pipelined: 32,
        limit: Duration::from_secs(600),
        prefix: String::new(),
    };
    let report = flood_auth(&world.target()?, &world.tls, &flood, Arc::default()).await?;
    let answered = report.answers.get("200").copied().unwrap_or(0);
    println!(
        "{text}\n  and {:.1} MiB after {answered} unauthenticated calls more, in {:.0} s; at most {:.1} MiB",
        mib()?,
        report.seconds,
        world.broker.memory()?.peak_kib as f64 / MIB
    );
    Ok(())
}

/// Replicas on one PostgreSQL of this machine.
async fn replicas(load: &Load) -> Result<()> {
    for count in 1..=3 {
        let Some(database) = Server::start() else { return Ok(()) };
        let cluster = Cluster::start(database, count).await?;
        let admin = cluster.admin()?;
        admin.welcome(&cluster.guests).await?;
        admin.put_resource(RESOURCE, &VALUE, Terms::default()).await?;
        cluster.agreed(RESOURCE).await?;
        let pids = cluster.pids();
        let loaded = loaded(load, &cluster.endpoints()?, &pids, &cluster.guests, &cluster.tls).await?;
        print(&format!("{count} replica(s) on PostgreSQL, software evidence"), &loaded);
        let first = pids.first().context("no replica")?;
        println!("  memory of one replica: {:.1} MiB", memory(*first)?.resident_kib as f64 / MIB);
    }
    Ok(())
}

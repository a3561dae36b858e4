//! The program's arguments, and what they ask for: figures as text or JSON.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};

use crate::hostile::{self, Bodies, Flood, FrameBomb, HeaderBomb, Idle, Slow};
use crate::{
    Admin, Carry, Comes, Connections, Endpoint, Guests, Loopback, Pace, Patience, Plan, Protocol, Report,
    Terms, Tls, Until, run,
};

/// Loads brokers as guests do, or as those do who want them down.
#[derive(Parser)]
#[command(name = "coffer-load", version)]
pub struct Arguments {
    /// A replica's address, https://host:port; several for failover.
    #[arg(long, required = true, num_args = 1..)]
    url: Vec<String>,
    /// The broker's own authority, PEM.
    #[arg(long)]
    ca: PathBuf,
    /// JSON instead of text.
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Guests that attest and get keys.
    Run(Box<Load>),
    /// Calls of auth, unauthenticated.
    FloodAuth(Count),
    /// Connections that send a byte now and then.
    SlowLoris {
        #[command(flatten)]
        count: Count,
        #[arg(long, value_enum, default_value = "head")]
        kind: Slow,
    },
    /// Connections that do nothing.
    IdleConnections {
        #[command(flatten)]
        count: Count,
        #[arg(long, value_enum, default_value = "called")]
        kind: Idle,
    },
    /// Bodies of zeros.
    BigBodies {
        #[command(flatten)]
        count: Count,
        #[arg(long, default_value = "/kbs/v0/auth")]
        path: String,
        #[arg(long, default_value_t = 1 << 30)]
        bytes: u64,
        #[arg(long)]
        chunked: bool,
    },
    /// Heads and frames without measure, one connection each.
    HeaderBombs(Count),
}

#[derive(Args)]
struct Count {
    /// How many: calls, connections or bodies.
    #[arg(long, default_value_t = 100)]
    count: usize,
    /// Seconds after which it ends.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

#[derive(Args)]
struct Load {
    /// The admin's key (PEM); with it the broker is told to take these guests, and given the resources.
    #[arg(long)]
    admin_key: PathBuf,
    /// Guests at once.
    #[arg(long, default_value_t = 16)]
    guests: usize,
    /// Guests each second; without it the next comes when one has ended.
    #[arg(long)]
    rate: Option<f64>,
    /// Seconds, warm-up included.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds that are not measured.
    #[arg(long, default_value_t = 2.0)]
    warm_up: f64,
    /// Tenants in turn; they must be there.
    #[arg(long, num_args = 1..)]
    tenant: Vec<String>,
    #[arg(long, value_enum, default_value = "http1")]
    protocol: Protocol,
    #[arg(long, value_enum, default_value = "bearer")]
    carry: Carry,
    #[arg(long, value_enum, default_value = "again")]
    comes: Comes,
    #[arg(long, value_enum, default_value = "kept")]
    connections: Connections,
    /// Loopback addresses that guests come from, since brokers limit the rate of each.
    #[arg(long, default_value_t = 0)]
    addresses: u16,
    /// Servers' process ids, for their CPU and memory.
    #[arg(long, num_args = 1..)]
    pid: Vec<u32>,
}

impl Arguments {
    /// Does it, and gives what is to be printed.
    pub async fn act(self) -> Result<String> {
        let read = |path: &PathBuf| std::fs::read_to_string(path).with_context(|| path.display().to_string());
        let endpoints = self.url.iter().map(|url| Endpoint::parse(url)).collect::<Result<Vec<_>>>()?;
        let tls = Tls::pinned(&read(&self.ca)?)?;
        let first = endpoints.first().context("no address")?;
        let found: Value = match self.command {
            Command::Run(load) => {
                let report = loaded(&load, &endpoints, &tls, &read(&load.admin_key)?).await?;
                if !self.json {
                    return Ok(report.to_string());
                }
                serde_json::to_value(report)?
            }
            hostile => misbehave(hostile, &Loopback::new(first.clone())?, &tls).await?,
        };
        Ok(format!("{found:#}\n"))
    }
}

async fn loaded(load: &Load, to: &[Endpoint], tls: &Tls, key: &str) -> Result<Report> {
    let plan = Plan {
        at_once: load.guests,
        pace: load.rate.map_or(Pace::Closed, Pace::Open),
        until: Until::Time(Duration::from_secs_f64(load.seconds)),
        warm_up: Duration::from_secs_f64(load.warm_up),
        tenants: load.tenant.clone(),
        protocol: load.protocol,
        carry: load.carry,
        comes: load.comes,
        connections: load.connections,
        addresses: load.addresses,
        servers: load.pid.clone(),
        ..Plan::default()
    };
    let guests = Arc::new(Guests::new());
    let admin = Admin::new(to, tls, key, Patience::default())?;
    let admins = match load.tenant.is_empty() {
        true => vec![admin],
        false => load.tenant.iter().map(|tenant| admin.in_tenant(tenant)).collect(),
    };
    for admin in admins {
        admin.welcome(&guests).await?;
        for resource in &plan.resources {
            admin.put_resource(resource, &[7; 32], Terms::default()).await?;
        }
    }
    run(plan, guests, to, tls, Arc::new(AtomicBool::new(false)), |_| ()).await
}

async fn misbehave(command: Command, target: &Loopback, tls: &Tls) -> Result<Value> {
    let time = |count: &Count| Duration::from_secs(count.seconds);
    Ok(match command {
        Command::Run(_) => json!(null),
        Command::FloodAuth(count) => {
            let (calls, limit) = (count.count as u64, time(&count));
            let flood = Flood { calls, connections: 8, pipelined: 32, limit, prefix: String::new() };
            json!(hostile::flood_auth(target, tls, &flood, Arc::new(AtomicU64::new(0))).await?)
        }
        Command::SlowLoris { count, kind } => {
            let pause = Duration::from_secs(1);
            json!(hostile::slow_senders(target, tls, kind, count.count, pause, time(&count)).await?)
        }
        Command::IdleConnections { count, kind } => {
            let mut held = hostile::idle_connections(target, tls, kind, count.count, time(&count)).await?;
            tokio::time::sleep(time(&count)).await;
            let alive = held.alive().await;
            json!({"opened": held.opened(), "refused": held.refused(), "alive_at_the_end": alive})
        }
        Command::BigBodies { count, path, bytes: length, chunked } => {
            let (connections, limit) = (count.count, time(&count));
            let bodies = Bodies { path, headers: String::new(), length, chunked, connections, limit };
            json!(hostile::big_bodies(target, tls, &bodies).await?)
        }
        Command::HeaderBombs(count) => {
            let mut ends = Vec::new();
            for bomb in [HeaderBomb::Many, HeaderBomb::Long, HeaderBomb::Path, HeaderBomb::Cookie] {
                let status = hostile::header_bomb(target, tls, bomb, 4 << 20, time(&count)).await?;
                ends.push(json!({"bomb": format!("{bomb:?}"), "status": status}));
            }
            for bomb in [FrameBomb::Continuation, FrameBomb::Reset, FrameBomb::Table, FrameBomb::Ping] {
                let ended = hostile::frame_bomb(target, tls, bomb, count.count, time(&count)).await?;
                ends.push(json!({"bomb": bomb, "ended_by_broker": ended}));
            }
            json!(ends)
        }
    })
}

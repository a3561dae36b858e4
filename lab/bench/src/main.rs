//! `cargo xtask bench`: figures for the promises of `SPECIFICATION.md`, as ratios in one run.
//!
//! Absolute times on a shared machine mean little, so each figure comes with what it is compared with, measured in
//! the same run. Left out: judging them.

mod appraisal;
mod blocks;
mod broker;
mod clock;
mod images;
mod judges;
mod models;
mod release;
mod start;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

/// Measure what SPECIFICATION.md promises.
#[derive(Parser)]
struct Cli {
    /// The `coffer` command; without it nothing is booted.
    #[arg(long, requires = "guest")]
    coffer: Option<PathBuf>,
    /// A COFFER_HOME with a built guest.
    #[arg(long)]
    guest: Option<PathBuf>,
    /// The static program of `lab/bench-guest`.
    #[arg(long, requires = "kernel")]
    bench_guest: Option<PathBuf>,
    /// An unpacked kernel package.
    #[arg(long)]
    kernel: Option<PathBuf>,
    /// Rounds of the key release.
    #[arg(long, default_value_t = 300)]
    rounds: u32,
    /// Only what `COFFER_E2E_BROKER` or a new build of the broker's program does.
    #[arg(long)]
    broker_only: bool,
    /// Only images, of these sizes in MiB.
    #[arg(long, value_name = "MIB", value_delimiter = ',')]
    images_only: Vec<u64>,
    /// One step in a process of its own.
    #[arg(long, hide = true)]
    worker: Option<String>,
    /// Only sealed models.
    #[arg(long)]
    models_only: bool,
    /// The model's size in MiB.
    #[arg(long, default_value_t = 256)]
    model_mib: usize,
    #[command(flatten)]
    load: broker::Load,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    if let Some(step) = cli.worker {
        return images::work(&step);
    }
    if !cli.images_only.is_empty() {
        return images::measure(&cli.images_only);
    }
    if cli.broker_only {
        return broker::measure(&cli.load);
    }
    if cli.models_only {
        return models::measure(cli.model_mib);
    }
    judges::measure(cli.rounds)?;
    appraisal::measure(cli.rounds)?;
    release::measure(cli.rounds)?;
    broker::measure(&cli.load)?;
    images::measure(&[10, 200])?;
    models::measure(cli.model_mib)?;
    match (cli.bench_guest, cli.kernel) {
        (Some(guest), Some(kernel)) => blocks::measure(&guest, &kernel)?,
        _ => println!("\nskipped: no guest that reads was built"),
    }
    match (cli.coffer, cli.guest) {
        (Some(coffer), Some(guest)) => start::measure(&coffer, &guest)?,
        _ => println!("\nskipped: no guest was built, so no machine is started"),
    }
    Ok(())
}

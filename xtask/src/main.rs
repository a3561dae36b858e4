//! `cargo xtask`: the one door. It sets a machine up, then demonstrates, tests, measures or checks.
//!
//! Everything a script would do is here, so that a fresh machine needs only Rust and apt.

mod arch;
mod bench;
mod ci;
mod demo;
mod fuzz;
mod nginx;
mod run;
mod setup;
mod tcb;
mod test;
mod tidy;
mod tree;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Coffer's tasks. `demo` and `test` set the machine up by themselves.
#[derive(Parser)]
#[command(name = "cargo xtask", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Seal an image, predict its guest, boot it, attest, serve a page; then five refusals.
    Demo(demo::Options),
    /// Build and run every test, virtual machines included.
    Test(test::Options),
    /// What the build machine runs: formatting, lints, architecture, trusted base, then `test`.
    Ci,
    /// Check zones.toml: edges, vetoes, unsafe, module cycles.
    Arch,
    /// Check what formatters and compilers do not: file headers, sizes, names, words.
    Tidy,
    /// Compare the packages linked into the guest's agent with the golden list.
    Tcb {
        /// Write the list instead of comparing it.
        #[arg(long)]
        bless: bool,
    },
    /// Measure what SPECIFICATION.md promises, as ratios in one run.
    Bench(bench::Options),
    /// Run a fuzz target with cargo-fuzz (needs a nightly toolchain), or all of them for a while each.
    Fuzz(fuzz::Options),
    /// Install what the other tasks need, and build the guest.
    Setup(setup::Options),
}

fn main() -> ExitCode {
    match run_task(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_task(task: Task) -> Result<()> {
    match task {
        Task::Demo(options) => demo::run(&options),
        Task::Test(options) => test::run(&options),
        Task::Ci => ci::run(),
        Task::Arch => arch::run(),
        Task::Tidy => tidy::run(),
        Task::Tcb { bless } => tcb::run(bless),
        Task::Bench(options) => bench::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Setup(options) => setup::run(&options),
    }
}

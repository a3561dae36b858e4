//! `cargo xtask bench`: what `SPECIFICATION.md` promises, measured as ratios in one run.

use anyhow::{Context, Result};

use crate::{run, setup};

/// What is measured.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leave out what needs a virtual machine.
    #[arg(long)]
    fast: bool,
    /// Only the broker's program under load.
    #[arg(long, conflicts_with = "fast")]
    broker: bool,
    /// Only images, of these sizes in MiB, as in 10,200,2048.
    #[arg(long, value_name = "MIB", conflicts_with_all = ["fast", "broker"])]
    images: Option<String>,
    /// Only sealed models: seal, open, read, mount.
    #[arg(long, conflicts_with_all = ["fast", "broker"])]
    models: bool,
}

/// Builds with optimisation and measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::packages(true, false)?;
    let mut bench = run::cargo();
    bench.args(["run", "--quiet", "--release", "--package=coffer-lab-bench", "--"]);
    if let Some(sizes) = &options.images {
        bench.arg("--images-only").arg(sizes);
    } else if options.models {
        bench.arg("--models-only");
    } else if options.fast || options.broker {
        bench.env("COFFER_E2E_BROKER", setup::build_broker(true)?);
        bench.args(options.broker.then_some("--broker-only"));
    } else {
        let built = setup::build(true)?;
        bench.env("COFFER_E2E_BROKER", &built.broker);
        bench.arg("--bench-guest").arg(setup::guest_program("coffer-lab-bench-guest")?);
        bench.arg("--kernel").arg(built.kernel().context("the guest was built without a kernel package")?);
        bench.arg("--coffer").arg(built.coffer).arg("--guest").arg(built.guest);
    }
    run::checked(&mut bench)
}

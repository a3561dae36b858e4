//! `cargo xtask bench`: what `SPECIFICATION.md` promises, measured as ratios in one run.

use anyhow::{Context, Result};

use crate::{run, setup};

/// What is measured.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leave out what needs a virtual machine.
    #[arg(long)]
    fast: bool,
}

/// Builds with optimisation and measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut bench = run::cargo();
    bench.args(["run", "--quiet", "--release", "--package=coffer-lab-bench", "--"]);
    if !options.fast {
        setup::packages(true, false)?;
        let built = setup::build(true)?;
        bench.arg("--bench-guest").arg(setup::guest_program("coffer-lab-bench-guest")?);
        bench.arg("--kernel").arg(built.kernel().context("the guest was built without a kernel package")?);
        bench.arg("--coffer").arg(built.coffer).arg("--guest").arg(built.guest);
    }
    run::checked(&mut bench)
}

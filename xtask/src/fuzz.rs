//! `cargo xtask fuzz`: the fuzz targets of `lab/fuzz`, under cargo-fuzz.

use anyhow::{Context, Result, bail};

use crate::{run, tree};

/// Which target, and for how long.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// One target; all of them, one after the other, if none is named.
    target: Option<String>,
    /// Seconds for each target.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// Runs the fuzzer.
pub(crate) fn run(options: &Options) -> Result<()> {
    if !run::exists("cargo-fuzz") {
        bail!(
            "cargo-fuzz is not installed; run `cargo install cargo-fuzz --locked` (it needs a nightly toolchain)"
        );
    }
    let folder = run::root().join("lab/fuzz");
    let names = match &options.target {
        Some(name) => vec![name.clone()],
        None => tree::files(&folder.join("fuzz_targets"), ".rs")?
            .iter()
            .map(|file| {
                file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).context("a nameless file")
            })
            .collect::<Result<_>>()?,
    };
    for name in names {
        let limit = format!("-max_total_time={}", options.seconds);
        run::checked(
            std::process::Command::new("cargo")
                .args([
                    "+nightly",
                    "fuzz",
                    "run",
                    "--fuzz-dir",
                    ".",
                    &name,
                    "--",
                    &limit,
                    "-rss_limit_mb=2048",
                ])
                .current_dir(&folder),
        )?;
    }
    Ok(())
}

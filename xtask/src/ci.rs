//! `cargo xtask ci`: what the build machine runs. Cheap checks first; the tests' own closing lines come last.

use anyhow::Result;

use crate::{arch, run, setup, tcb, test, tidy};

/// Runs all of it.
pub(crate) fn run() -> Result<()> {
    setup::step("formatting");
    run::checked(run::cargo().args(["fmt", "--all", "--check"]))?;
    setup::step("architecture");
    arch::run()?;
    tidy::run()?;
    tcb::run(false)?;
    setup::step("licences and sources");
    deny()?;
    setup::step("lints");
    run::checked(run::cargo().args(["clippy", "--workspace", "--all-targets", "--", "-Dwarnings"]))?;
    test::run(&test::Options { fast: false, yes: true })
}

fn deny() -> Result<()> {
    if !run::exists("cargo-deny") {
        println!("skipped: cargo-deny is not installed (cargo install cargo-deny --locked)");
        return Ok(());
    }
    run::checked(run::cargo().args(["deny", "--offline", "check", "licenses", "bans", "sources"]))
}

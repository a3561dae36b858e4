//! `cargo xtask test`: everything that `cargo test` runs, on a machine that this sets up first.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::{run, setup};

/// What is run.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leave out the virtual machines.
    #[arg(long)]
    pub(crate) fast: bool,
    /// Answer yes to the question before packages are installed.
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// Our judges beside those of others.
const DIFFERENTIAL: &str = "coffer-lab-differential";
/// Packages that depend on other verifiers. Those turn on features of crates that we share with them, so what is tested
/// beside them is not what is shipped.
const WITH_OTHERS: [&str; 2] = [DIFFERENTIAL, "coffer-lab-bench"];

/// Sets up, builds and tests.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::packages(true, options.yes)?;
    let mut cargo = run::cargo();
    cargo.args(["test", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"]);
    for package in WITH_OTHERS {
        cargo.args(["--exclude", package]);
    }
    if options.fast {
        cargo.args(["--exclude", "coffer-lab-e2e", "--exclude", "coffer-lab-broker"]);
    } else {
        let built = setup::build(false)?;
        cargo.env("COFFER_E2E_COFFER", &built.coffer);
        cargo.env("COFFER_E2E_BROKER", &built.broker);
        cargo.env("COFFER_E2E_AGENT", &built.agent);
        cargo.env("COFFER_E2E_GUEST", &built.guest);
        if let Some(kernel) = built.kernel() {
            cargo.env("COFFER_TEST_KERNEL", kernel);
        }
    }
    setup::step("running the tests");
    let mut sum = Sum::default();
    let mut good = sum.of(&mut cargo)?;
    setup::step("running the judges beside those of others");
    let mut cargo = run::cargo();
    cargo.args(["test", "--package", DIFFERENTIAL, "--tests", "--no-fail-fast"]);
    good &= sum.of(&mut cargo)?;
    for (reason, times) in &sum.reasons {
        println!("{reason} ({times} times)");
    }
    println!("\n{} passed, {} failed, {} skipped", sum.passed, sum.failed, sum.skipped());
    if !good || sum.failed > 0 {
        bail!("tests failed");
    }
    Ok(())
}

/// What the test runner's closing lines add up to.
#[derive(Default, Debug, PartialEq)]
struct Sum {
    passed: u64,
    failed: u64,
    ignored: u64,
    /// Why something was left out, and how often.
    reasons: BTreeMap<String, u64>,
}

impl Sum {
    /// Runs the tests, shows them and adds them up. Whether they ended well.
    fn of(&mut self, cargo: &mut std::process::Command) -> Result<bool> {
        // A test that cannot run here says so and passes; without this its words would stay hidden.
        cargo.args(["--", "--show-output"]);
        let mut child = cargo.stdout(Stdio::piped()).spawn().context("cargo test cannot be started")?;
        for line in BufReader::new(child.stdout.take().context("cargo test has no output")?).lines() {
            let line = line?;
            println!("{line}");
            self.add(&line);
        }
        Ok(child.wait()?.success())
    }

    fn skipped(&self) -> u64 {
        self.ignored + self.reasons.values().sum::<u64>()
    }

    fn add(&mut self, line: &str) {
        if line.starts_with("skipped: ") {
            *self.reasons.entry(line.to_string()).or_default() += 1;
        }
        let Some(counts) = line.strip_prefix("test result:") else { return };
        let count = |word: &str| {
            let part = counts.split([';', '.']).find(|part| part.trim().ends_with(word));
            part.and_then(|part| part.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        self.passed += count("passed");
        self.failed += count("failed");
        self.ignored += count("ignored");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_added_up() {
        let mut sum = Sum::default();
        sum.add(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        );
        sum.add("test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out");
        sum.add("running 3 tests");
        sum.add("skipped: no vectors");
        let reasons = [("skipped: no vectors".to_string(), 1)].into();
        assert_eq!(sum, Sum { passed: 14, failed: 3, ignored: 1, reasons });
        assert_eq!(sum.skipped(), 2);
    }
}

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
    let tests = || {
        let mut cargo = run::cargo();
        cargo.args(["test", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"]);
        for package in WITH_OTHERS {
            cargo.args(["--exclude", package]);
        }
        if options.fast {
            cargo.args(["--exclude", "coffer-lab-e2e", "--exclude", "coffer-lab-broker"]);
        }
        cargo
    };
    let mut cargo = tests();
    if !options.fast {
        setup::step("building the tests");
        run::checked(tests().arg("--no-run"))?;
        // Their build made the programs as well. A build of those alone would have other features, and so would compile
        // most of what they depend on again.
        let built = setup::guest_of(&run::target_dir().join("debug"))?;
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
    // Far above in the output of thousands of tests; whoever reads the end of it wants to see what failed.
    for words in &sum.failures {
        println!("\n{words}");
    }
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
    /// What each failed test printed, under its name.
    failures: Vec<String>,
    /// Whether the lines are those of the failed tests.
    in_failures: bool,
}

/// So much of what a failed test printed is shown again, from its end.
const SHOWN: usize = 60;

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
        self.keep_failure(line);
        let Some(counts) = line.strip_prefix("test result:") else { return };
        let count = |word: &str| {
            let part = counts.split([';', '.']).find(|part| part.trim().ends_with(word));
            part.and_then(|part| part.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        self.passed += count("passed");
        self.failed += count("failed");
        self.ignored += count("ignored");
    }

    /// libtest prints `failures:` and under it what each test printed, and again with the names alone.
    fn keep_failure(&mut self, line: &str) {
        match line {
            // The second time the names follow.
            "failures:" => self.in_failures = !self.in_failures,
            "successes:" => self.in_failures = false,
            _ if line.starts_with("test result:") => self.in_failures = false,
            _ if !self.in_failures => {}
            _ if line.starts_with("---- ") => self.failures.push(line.to_string()),
            _ => {
                let Some(words) = self.failures.last_mut() else { return };
                words.push('\n');
                words.push_str(line);
                if words.lines().count() > SHOWN {
                    let (head, rest) = words.split_once('\n').unwrap_or_default();
                    let rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
                    *words = format!("{head}\n{rest}");
                }
            }
        }
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
        assert_eq!(sum, Sum { passed: 14, failed: 3, ignored: 1, reasons, ..Sum::default() });
        assert_eq!(sum.skipped(), 2);
    }

    #[test]
    fn what_failed_tests_printed_is_kept_from_its_end() {
        let mut sum = Sum::default();
        let talk = (0..100).map(|n| format!("line {n}"));
        let lines = ["---- good stdout ----", "fine", "failures:", "---- bad stdout ----"];
        for line in lines.into_iter().map(str::to_string).chain(talk) {
            sum.add(&line);
        }
        sum.add("test result: FAILED. 1 passed; 1 failed");
        sum.add("---- other stdout ----");
        let [words] = &sum.failures[..] else { panic!("{:?}", sum.failures) };
        assert!(words.starts_with("---- bad stdout ----\nline 41\n"), "{words}");
        assert!(words.ends_with("line 99"), "{words}");
    }
}

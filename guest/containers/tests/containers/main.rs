//! Real containers from a root directory of one busybox: on this machine, and once more as PID 1 of a real guest.
//!
//! Needs root and the kernel's namespaces, and for the guest QEMU and a kernel (`COFFER_TEST_KERNEL`, an unpacked
//! kernel package). What is not there is said and not checked.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod boot;
mod isolation;
mod life;
mod refusal;
mod world;

use std::process::ExitCode;

/// A test's name and body.
type Test = (&'static str, fn());

fn main() -> ExitCode {
    if coffer_guest_containers::is_container_call() {
        return coffer_guest_containers::container_main();
    }
    if std::process::id() == 1 {
        boot::as_guest(|| run(""));
    }
    if let Err(why) = world::possible() {
        println!("skipped: {why}");
        return ExitCode::SUCCESS;
    }
    let wanted = std::env::args().nth(1).filter(|arg| !arg.starts_with('-')).unwrap_or_default();
    if run(&wanted) && boot::in_a_guest(&wanted) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the tests whose names contain the word.
fn run(wanted: &str) -> bool {
    let tests = [isolation::TESTS, life::TESTS, refusal::TESTS].concat();
    let mut passed = true;
    for (name, body) in tests.iter().filter(|(name, _)| name.contains(wanted)) {
        passed &= report(name, body);
    }
    passed
}

/// Runs one test and says how it went.
fn report(name: &str, body: impl FnOnce() + std::panic::UnwindSafe) -> bool {
    let passed = std::panic::catch_unwind(body).is_ok();
    println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
    passed
}

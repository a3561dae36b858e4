//! Real containers from a root directory of one busybox. Needs root and the kernel's namespaces; where it has them
//! not, it says so and checks nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

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
    if let Err(why) = world::possible() {
        println!("skipped: {why}");
        return ExitCode::SUCCESS;
    }
    let wanted = std::env::args().nth(1).filter(|arg| !arg.starts_with('-')).unwrap_or_default();
    let tests = [isolation::TESTS, life::TESTS, refusal::TESTS].concat();
    let mut failed = 0;
    for (name, body) in tests.iter().filter(|(name, _)| name.contains(&wanted)) {
        let passed = std::panic::catch_unwind(body).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed += u32::from(!passed);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

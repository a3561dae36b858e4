//! One container from a mounted image: isolation, process, exit.
//!
//! The agent calls [`Container::start`]; its program is executed again twice under the name [`PROGRAM`]. The
//! *monitor* enters a new PID namespace, starts the *init* in it and reports its end. The init joins the control
//! group, takes its own mounts, host name and IPC, makes the image's root its root *before anything else is
//! mounted*, so that no name in the image can lead outside, gives up privileges, and becomes the workload. What
//! holds: the workload is PID 1 of its namespace and takes all its processes with it; device files have no effect
//! except the six it gets; no descriptor but standard input, output and error reaches it. Left out: the
//! network namespace, which the sandbox shares (one sandbox is one pod), and the image (`guest/images`).

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod cgroup;
mod error;
mod init;
mod message;
mod monitor;
mod rootfs;
mod running;
mod signal;
mod spec;
mod stream;
mod user;
mod workload;

pub use error::{ContainerError, Failure};
pub use running::{Container, Controller, Exit, Running};
pub use signal::signal_number;
pub use spec::{Cgroup, ContainerSpec, RootAccess};
pub use stream::{Input, Output};

use std::process::ExitCode;

/// The name (`argv[0]`) under which the agent's program is executed as a container's monitor or init.
pub const PROGRAM: &str = "coffer-container";

/// Whether this process was started as a container's monitor or init: then `main` must do nothing but return
/// [`container_main`]'s value.
#[must_use]
pub fn is_container_call() -> bool {
    std::env::args_os().next().is_some_and(|name| name == PROGRAM)
}

/// The monitor's or init's whole work. Call it first in `main`, before any thread or runtime starts.
#[must_use]
pub fn container_main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some(monitor::ROLE) => monitor::main(),
        Some(init::ROLE) => init::main(),
        _ => ExitCode::from(error::SETUP_FAILED),
    }
}

//! What can go wrong between a container's specification and its end.

use serde::{Deserialize, Serialize};
use std::io;

/// The exit code that container tools give when the container itself could not be set up.
pub(crate) const SETUP_FAILED: u8 = 125;
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;

/// Why the workload was not started, as told from inside the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Stable: `container.setup`, `container.spec`, `workload.user-unknown`, `workload.not-found`,
    /// `workload.not-executable`.
    pub code: String,
    /// What happened, for a person.
    pub message: String,
    /// The exit code that stands for it: 127 not found, 126 not executable, else 125.
    pub exit_code: i32,
}

impl Failure {
    pub(crate) fn setup(step: &str, why: impl std::fmt::Display) -> Self {
        Self::coded("container.setup", format!("setting up the container: {step}: {why}"))
    }

    pub(crate) fn spec(why: impl Into<String>) -> Self {
        Self::coded("container.spec", why)
    }

    pub(crate) fn user(why: impl Into<String>) -> Self {
        Self::coded("workload.user-unknown", why)
    }

    pub(crate) fn not_found(why: impl Into<String>) -> Self {
        Self { exit_code: NOT_FOUND, ..Self::coded("workload.not-found", why) }
    }

    pub(crate) fn not_executable(why: impl Into<String>) -> Self {
        Self { exit_code: NOT_EXECUTABLE, ..Self::coded("workload.not-executable", why) }
    }

    fn coded(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), exit_code: i32::from(SETUP_FAILED) }
    }
}

impl From<coffer_sys_mount::MountError> for Failure {
    fn from(error: coffer_sys_mount::MountError) -> Self {
        Self::coded("container.setup", format!("setting up the container: {error}"))
    }
}

impl From<coffer_sys_process::ProcessError> for Failure {
    fn from(error: coffer_sys_process::ProcessError) -> Self {
        Self::coded("container.setup", format!("setting up the container: {error}"))
    }
}

/// A container that could not be started or followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContainerError {
    /// The workload was not started.
    #[error(transparent)]
    NotStarted(#[from] Failure),
    /// The control group could not be made.
    #[error("the control group {path}: {step}: {source}", path = path.display())]
    Cgroup {
        /// What was attempted.
        step: &'static str,
        /// The group's directory.
        path: std::path::PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The monitor could not be started or talked to.
    #[error("the container's monitor: {step}: {source}")]
    Monitor {
        /// What was attempted.
        step: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The monitor ended without telling the workload's end.
    #[error("the container's monitor ended without a word about the workload")]
    Lost,
}

impl ContainerError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::NotStarted(failure) => &failure.code,
            Self::Cgroup { .. } => "container.cgroup",
            Self::Monitor { .. } => "container.monitor",
            Self::Lost => "container.lost",
        }
    }

    /// The exit code that stands for it where a program's own would stand.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::NotStarted(failure) => failure.exit_code,
            _ => i32::from(SETUP_FAILED),
        }
    }

    pub(crate) fn monitor(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Monitor { step, source }
    }
}

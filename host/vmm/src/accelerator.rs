//! Which accelerator really boots a guest on this machine.

use std::path::{Path, PathBuf};

use crate::spec::Accelerator;

/// What was found, and why.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Detected {
    /// The accelerator to use.
    pub accelerator: Accelerator,
    /// Why, for a person.
    pub reason: String,
}

/// What [`detect`] needs for its trial.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The guest kernel to start.
    pub kernel: PathBuf,
    /// Where the result is kept until the machine is restarted or QEMU changes.
    pub cache_dir: PathBuf,
}

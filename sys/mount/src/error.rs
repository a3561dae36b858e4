//! What can go wrong between the guest and its file systems.

use std::io;
use std::path::PathBuf;

/// A mount, module or device that could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// A mount was refused.
    #[error("mounting {what} on {target}: {source}", target = target.display())]
    Mount {
        /// File system type and source.
        what: String,
        /// Where.
        target: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// An unmount was refused.
    #[error("unmounting {target}: {source}", target = target.display())]
    Unmount {
        /// Where.
        target: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A directory for a mount could not be made, or the root not be entered.
    #[error("{step} {path}: {source}", path = path.display())]
    Path {
        /// What was attempted.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A kernel module could not be loaded.
    #[error("loading the kernel module {module}: {source}", module = module.display())]
    Module {
        /// Its file.
        module: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// No block device with this serial number came up in time.
    #[error(
        "no block device has the serial number `{serial}`; found after {waited_ms} ms: {}",
        if found.is_empty() { "none with a serial number".to_owned() } else { found.join(", ") }
    )]
    NoDevice {
        /// The serial number that was asked for.
        serial: String,
        /// The serial numbers that exist.
        found: Vec<String>,
        /// How long it was waited for, in milliseconds.
        waited_ms: u64,
    },
}

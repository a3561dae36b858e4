//! What can go wrong with network block devices.

use std::io;

/// A device that could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NbdError {
    /// The kernel has no such devices.
    #[error("the kernel offers no network block devices (is the module nbd loaded?)")]
    NoDevices,
    /// All are taken.
    #[error("all {count} network block devices are in use")]
    AllInUse {
        /// How many there are.
        count: usize,
    },
    /// A size that the driver cannot have.
    #[error("a network block device of {size} bytes; expected a multiple of 4096")]
    Size {
        /// What was asked for.
        size: u64,
    },
    /// The kernel refused a step.
    #[error("attaching a network block device: {step}: {source}")]
    Refused {
        /// The step.
        step: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The device did not come up.
    #[error("the network block device did not come up within {seconds} s")]
    NotUp {
        /// How long was waited.
        seconds: u64,
    },
}

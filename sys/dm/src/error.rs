//! What can go wrong with mapped devices.

use std::io;
use std::path::PathBuf;

/// A mapping, loop device or key that could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DmError {
    /// The kernel has no device mapper.
    #[error("the kernel offers no device mapper (is the module dm-mod loaded?): {source}")]
    NoDeviceMapper {
        /// What the kernel answered.
        source: io::Error,
    },
    /// A name or table that the kernel's interface cannot carry.
    #[error("mapping `{name}`: {why}")]
    Invalid {
        /// The mapping's name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// The kernel refused a step.
    #[error("{step} the mapping `{name}`: {source}")]
    Refused {
        /// The step.
        step: &'static str,
        /// The mapping's name.
        name: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A key could not be handed to the kernel.
    #[error("handing the key of `{name}` to the kernel: {source}")]
    Key {
        /// The mapping's name.
        name: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A loop device could not be had.
    #[error("attaching a loop device: {step}: {source}")]
    Loop {
        /// The step.
        step: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The mapped device's node could not be made.
    #[error("making the device node {path}: {source}", path = path.display())]
    Node {
        /// The node.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
}

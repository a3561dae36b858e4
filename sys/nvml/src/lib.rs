//! NVIDIA GPUs' and switches' attestation reports, through NVIDIA's libraries.
//!
//! Functions and structures follow `nvml.h` (confidential computing) and `nscq.h`. What holds: lengths that a library
//! gives are compared with the room that it had. TRUST: the libraries run in the caller's process, which is therefore
//! a program of its own and not the agent. Left out: what a report says, which is `verify/nvidia`.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]
#![allow(unsafe_code, reason = "foreign libraries have no safe form")]

mod gpu;
mod library;
mod switch;

pub use gpu::{Gpus, NVML};
pub use switch::{NSCQ, Switches};

/// The nonce of a device's report.
pub const NONCE: usize = 32;

/// A device's evidence, as the library gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceEvidence {
    /// `HOPPER`, `BLACKWELL` or `LS10`.
    pub architecture: &'static str,
    /// Its name.
    pub uuid: String,
    /// The SPDM request and response.
    pub report: Vec<u8>,
    /// The certificate chain, PEM.
    pub certificates: Vec<u8>,
}

/// Why a library gives no evidence.
#[derive(Debug, thiserror::Error)]
pub enum NvidiaError {
    /// There is no such library, and so no devices.
    #[error("{library} is not there: {why}")]
    Absent {
        /// Which.
        library: String,
        /// Why not.
        why: String,
    },
    /// The library lacks a function: it is older than confidential computing.
    #[error("{library} has no function {function}")]
    NoFunction {
        /// Which library.
        library: String,
        /// Which function.
        function: &'static str,
    },
    /// A function failed.
    #[error("{function} failed with {code}")]
    Failed {
        /// Which.
        function: &'static str,
        /// Its answer.
        code: i32,
    },
    /// A device of an architecture that gives no evidence.
    #[error("the device {uuid} is of architecture {found}, which gives no attestation report")]
    Architecture {
        /// Which device.
        uuid: String,
        /// The library's number for it.
        found: i64,
    },
    /// What the library gives is not what its header says.
    #[error("{function} gives {what}: expected at most {limit}, found {found}")]
    Length {
        /// Which function.
        function: &'static str,
        /// What is too long or empty.
        what: &'static str,
        /// The room.
        limit: usize,
        /// What was found.
        found: usize,
    },
}

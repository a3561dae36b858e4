//! TEE reports from the kernel: configfs-tsm, the older device files, and the registers that the guest may extend.
//!
//! [`Tsm`] is the interface for every TEE (`Documentation/ABI/testing/configfs-tsm` of Linux); [`SevGuest`] and
//! [`TdxGuest`] are what kernels had before it; [`Measurements`] are the registers that newer kernels show in sysfs.
//! What holds: a report is over the caller's bytes and nobody else's, what is read is bounded, and each error says
//! which file refused what. Left out: what a report says, which is `core/evidence`, and which source is taken, which
//! is `guest/attest`.

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
#![allow(unsafe_code, reason = "ioctls of the older device files have no safe form")]

mod error;
mod file;
mod measurements;
mod report;
mod sev;
mod tdx;

pub use error::TsmError;
pub use measurements::{MEASUREMENTS, Measurements};
pub use report::{Provider, REPORTS, Report, Tsm};
pub use sev::{ExtendedReport, SEV_GUEST, SevGuest};
pub use tdx::{TD_REPORT, TDX_GUEST, TdxGuest};

/// The bytes that every TEE's report is over.
pub const REPORT_DATA: usize = 64;

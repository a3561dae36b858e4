//! Requests to the Nitro Security Module (NSM) through `/dev/nsm`.
//!
//! The device's forms are those of AWS's `aws-nitro-enclaves-nsm-api`; the ioctl is that of Linux
//! (`include/uapi/linux/nsm.h`). Responses are read with bounds, though the module is trusted: the hypervisor carries
//! them. Left out: what an attestation document says, which is `verify/nitro`.

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
#![allow(unsafe_code, reason = "the device's ioctl has no safe form")]

mod device;
pub mod request;

pub use device::{NSM, Nsm, NsmError};
pub use request::{MAX_USER_DATA, Register};

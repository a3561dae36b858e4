//! Launch arithmetic: from the artifacts of a guest to the measurements it will show.
//!
//! Everything is computed from files, before any boot. Nothing is copied from a first boot, so a reference
//! value says what *should* run, not what once did. What a register depends on is told in [`tpm`].
//! Left out: TDX, SNP and SGX, which come with their judges.

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

pub mod authenticode;
mod bytes;
mod error;
pub mod firmware;
pub mod kernel;
mod reference;
pub mod tpm;

#[cfg(test)]
mod tests;

pub use error::LaunchError;
pub use firmware::AddressWidth;
pub use reference::{
    Artifacts, Component, ExpectedInitData, PredictedEvent, ReferenceError, ReferenceValues, VERSION,
};
pub use tpm::{TpmLaunch, predict_tpm};

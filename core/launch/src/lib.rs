//! Launch arithmetic: from the artifacts of a guest to the measurements it will show.
//!
//! Everything is computed from files, before any boot. Nothing is copied from a first boot, so a reference
//! value says what *should* run, not what once did. What a register depends on is told in [`tpm`], [`tdx`], [`snp`]
//! and [`sgx`]. With each prediction come variations: what the registers would be if one thing were different, so
//! that a verdict can name the difference without the files.
//! Left out: Arm CCA, Nitro and CSV, whose values owners take from the vendors' tools ([`ReferenceValues::from_registers`]).

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
mod events;
pub mod firmware;
mod igvm;
pub mod kernel;
mod ovmf;
mod reference;
pub mod sgx;
pub mod snp;
pub mod tdx;
pub mod tpm;
mod variations;

#[cfg(test)]
mod tests;

pub use error::LaunchError;
pub use firmware::AddressWidth;
pub use reference::{
    Artifacts, Bound, Component, ExpectedInitData, MAX_VARIATIONS, PredictedEvent, ReferenceError,
    ReferenceValues, VERSION, Variation, init_data_register, place_init_data, register_index, register_name,
};
pub use tpm::{TpmLaunch, predict_tpm};

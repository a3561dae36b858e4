//! Evidence as bytes from an adversary: TPM structures, TCG event logs and the wire form that carries them.
//!
//! Parsers here return an error or a value, never a panic, and bound what they allocate (invariant I-10).
//! Left out: judging, which is `verify/`.

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

pub mod ar4si;
pub mod azure;
mod binding;
pub mod cca;
pub mod dcap;
pub mod eventlog;
pub mod nitro;
pub mod nvidia;
pub mod snp;
mod tee;
pub mod tpm;
pub mod wire;

pub use binding::ReportData;
pub use tee::Tee;

//! The KBS protocol 0.4 on the wire, and its handshake as two sans-I/O state machines.
//!
//! Holds true: nothing here waits, reads a clock or sends; time and bytes are arguments. Private scalars live
//! only in `Secret`. What a peer sends is parsed once, with bounds, into types that keep what was checked.
//! Left out: HTTP, storage, and the judging of evidence.

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

mod b64;
pub mod counter;
pub mod ear;
pub mod error;
pub mod handshake;
pub mod jcs;
pub mod jwe;
pub mod jwk;
pub mod jwks;
pub mod jws;
pub mod kmac;
pub mod passport;
mod strict;
pub mod tee_key;
pub mod token_keys;
pub mod uri;
pub mod wire;

pub use coffer_core_digest::Algorithm;
pub use coffer_core_evidence::{ReportData, Tee};

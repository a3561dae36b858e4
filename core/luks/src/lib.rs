//! LUKS2 (LUKS2 On-Disk Format Specification 1.1): headers read from hostile bytes and made, key slots opened.
//!
//! INVARIANT: what is accepted encrypts with `aes-xts-plain64` and a key of 512 bits, from the tweak 0 on. A header
//! is not authenticated; a host that writes its own can only make a volume that does not open. Left out: argon2,
//! re-encryption, dm-integrity, detached headers and several segments.

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

mod area;
mod binary;
mod error;
mod generation;
mod make;
mod metadata;
mod open;
#[cfg(test)]
mod tests;

pub use error::LuksError;
pub use generation::{Generation, GenerationKey, MARK, RECORDS, Record, insecure_newest};
pub use make::{DATA_OFFSET, Made, Making, make};
pub use open::{Unlocked, Volume, read};

/// The length of the volume's key: two AES-256 keys.
pub const KEY: usize = coffer_core_seal::xts::KEY;
/// The least length of a passphrase, which is a random key.
pub const LEAST_PASSPHRASE: usize = 32;

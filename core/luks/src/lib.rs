//! LUKS2 (LUKS2 On-Disk Format Specification 1.1): headers read from hostile bytes and made, key slots opened.
//!
//! INVARIANT: what is accepted encrypts with `aes-xts-plain64` and a key of 512 bits, from the tweak 0 on, and either has
//! no MAC or `hmac(sha256)` for each sector. A header
//! is not authenticated; a host that writes its own can only make a volume that does not open. Left out: argon2,
//! re-encryption, detached headers and several segments.

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
mod superblock;
#[cfg(test)]
mod tests;

pub use error::LuksError;
pub use generation::{Generation, GenerationKey, MARK, RECORDS, Record, insecure_newest};
pub use make::{DATA_OFFSET, Making, make};
pub use open::{Unlocked, Volume, read};
pub use superblock::{SUPERBLOCK, provided_sectors};

/// The length of the volume's key: two AES-256 keys.
pub const KEY: usize = coffer_core_seal::xts::KEY;
/// The length of the key of sectors' MACs.
pub const MAC_KEY: usize = 32;
/// The length of a sector's MAC.
pub const TAG: u32 = 32;
/// The least length of a passphrase, which is a random key.
pub const LEAST_PASSPHRASE: usize = 32;

/// Whether each sector of a volume has a MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// It has none: a changed sector is noise.
    None,
    /// HMAC-SHA-256 over the sector's number and ciphertext: a changed sector is an error.
    HmacSha256,
}

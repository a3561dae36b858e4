//! Sealed secrets: the text that carries a secret to a guest through hands that are not trusted.
//!
//! `sealed.` and a JWS in compact form. Its payload names a resource of the broker (`vault`), or brings a value that
//! a key of the broker opens (`envelope`). SPEC: KBS protocol 0.4, section 4.1, and `docs/formats/sealed-secret.md`.
//! INVARIANT: nothing of a payload is read before its signature was verified; a [`Verified`] exists only then, and
//! there is no way around it. Left out: fetching keys and resources, and who may have them.

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

mod envelope;
mod error;
mod open;
mod seal;
#[cfg(test)]
mod tests;

pub use envelope::WrapType;
pub use error::SealedSecretError;
pub use open::{Form, KeyId, Unverified, Verified, is_sealed, signer_key};
pub use seal::Sealing;

/// What every sealed secret begins with.
pub const PREFIX: &str = "sealed.";
/// The longest text that is read.
pub const MAX_TEXT: usize = 1 << 20;
/// The version of both payloads.
pub const VERSION: &str = "0.1.0";
/// The one provider: the broker.
pub const PROVIDER: &str = "kbs";
/// The length of a key that opens envelopes, in bytes.
pub const KEY_LEN: usize = 32;

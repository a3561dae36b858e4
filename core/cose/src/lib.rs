//! Signed CBOR: COSE_Sign1 (RFC 9052) read from hostile bytes, verified and made.
//!
//! CBOR (RFC 8949) is read strictly and within bounds, and written in its one deterministic form. A key decides
//! the algorithm; a header that names another one is refused. Left out: encryption, MACs, several signers,
//! certificates in headers, and RSA.

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

pub mod cbor;
mod key;
mod sign1;
#[cfg(test)]
mod tests;

pub use key::{Algorithm, Curve, KeyError, PublicKey, SigningKey};
pub use sign1::{CoseError, Sign1, label};

//! Reference values as CoRIM (draft-ietf-rats-corim): read, written and signed.
//!
//! Two ways in: a document of our own profile becomes reference values again, events and explanations with it;
//! any other becomes named values for policies. Left out: endorsements, keys and CoSWID, which are skipped when
//! read; and fetching.

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

mod comid;
mod document;
mod entity;
mod error;
mod fields;
mod measurement;
mod named;
mod profile;
mod signed;

#[cfg(test)]
mod tests;

pub use coffer_core_cose::{PublicKey, SigningKey};

pub use comid::{Class, Comid, Environment, Triple};
pub use document::{Corim, Validity};
pub use entity::Entity;
pub use error::CorimError;
pub use measurement::{Hash, HashName, Key, Measurement, Raw, Svn};
pub use named::named_values;
pub use profile::{from_corim, to_corim};
pub use signed::{Opened, is_signed, open, sign};

/// The largest document that is read.
pub const MAX_CORIM: usize = 1 << 20;
/// The name of our profile.
pub const PROFILE: &str = "tag:github.com,2026:coffer/reference-values#1";

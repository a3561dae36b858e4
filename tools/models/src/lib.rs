//! Seals, verifies and opens folders of models and data sets.
//!
//! SPEC: `docs/formats/sealed-stream.md`, section 4. Left out: where keys come from, and making signatures.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod error;
mod fresh;
mod open;
mod seal;
#[cfg(test)]
mod tests;
mod tree;
mod work;

pub use error::ModelError;
pub use open::{Model, Signed};
pub use seal::{Options, SealedModel, seal, survey};
pub use work::Progress;

/// The signed envelope's file.
pub const ENVELOPE: &str = "sealed-stream.json";
/// The sealed manifest's file.
pub const MANIFEST: &str = "manifest.sealed";
/// The folder of the files' streams.
pub const BLOBS: &str = "blobs";

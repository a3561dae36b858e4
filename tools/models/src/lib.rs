//! Seals folders of models and data sets.
//!
//! SPEC: `docs/formats/sealed-stream.md`, section 4. Left out: reading what was sealed, which is `guest/models`; where
//! keys come from; making signatures.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod error;
mod fresh;
mod modelpack;
mod seal;
#[cfg(test)]
mod tests;
mod tree;
mod work;

pub use error::SealError;
pub use modelpack::{ModelPack, model_pack};
pub use seal::{Options, SealedModel, seal, survey};
pub use work::Progress;

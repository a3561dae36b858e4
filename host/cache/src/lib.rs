//! The host's cache of blobs by digest: filled from registries, shared by all sandboxes, served before it is whole.
//!
//! Holds true: a blob is whole only after its digest matched; a piece counts only after it is on the disk; one piece is
//! fetched by one process at a time, and by none that has it; what is held is not removed; the folder is bounded.
//! Left out: keys and judgements. What comes from here is ciphertext and public documents, and the guest believes none
//! of it.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod blob;
mod cache;
mod endpoint;
mod error;
mod folder;
mod image;
mod patience;
mod pieces;
mod remote;
mod serve;
mod settings;
#[cfg(test)]
mod tests;

pub use blob::Blob;
pub use cache::{BOUND, Cache, PIECE, Settings};
pub use error::CacheError;
pub use folder::Entry;
pub use image::CachedImage;
pub use patience::Patience;
pub use remote::Remote;
pub use serve::Served;
pub use settings::Registries;

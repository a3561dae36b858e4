//! OCI words: references, manifests, sealed-block parameters and simple-signing payloads.
//!
//! Everything here is parsed from bytes that a registry or a host may have made up, so sizes are bounded and
//! ambiguity is an error. Left out: fetching, and attestation manifests beyond cosign's simple signing.
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

pub mod challenge;
pub mod config;
pub mod cosign;
pub mod manifest;
pub mod media;
pub mod reference;
pub mod sealed;
pub mod simple_signing;

pub use challenge::Challenge;
pub use config::{ImageConfig, RunConfig};
pub use cosign::{SignatureError, Signed};
pub use manifest::{Descriptor, Document, Index, Manifest, ManifestError, Platform};
pub use media::LayerKind;
pub use reference::{Reference, ReferenceError};
pub use sealed::{SealedBlock, SealedBlockError};

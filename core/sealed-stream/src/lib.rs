//! Sealed streams: files of models and data sets as authenticated segments under a signed manifest.
//!
//! A stream is Tink's AES-GCM-HKDF streaming AEAD with AES-256 and SHA-256. SPEC: `docs/formats/sealed-stream.md`;
//! Tink, wire format "AES-GCM-HKDF streaming AEAD". INVARIANT: no plaintext leaves before its segment was
//! authenticated, and no file is opened but through an [`Artifact`], whose manifest somebody known signed.
//! Left out: where bytes come from and go to, fetching keys, and who may have them.

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

mod artifact;
mod bound;
mod envelope;
mod error;
mod id;
mod layout;
mod manifest;
mod open;
mod path;
mod random;
mod seal;
mod segment;
mod segments;
mod shared;
mod source;
#[cfg(test)]
mod tests;
mod wire;

pub use artifact::Artifact;
pub use bound::{MAX_ENVELOPE, MAX_FILES, MAX_MANIFEST};
pub use envelope::{PAYLOAD_TYPE, Signature, Statement, Unverified, Verified};
pub use error::{ArtifactError, StreamError};
pub use id::ArtifactId;
pub use layout::{HEADER_LEN, Layout, SegmentSize, TAG_LEN};
pub use manifest::{FileEntry, Manifest};
pub use open::Opener;
pub use path::{FilePath, MAX_PATH};
pub use random::{SeekReader, root_of};
pub use seal::{Sealed, Sealer};
pub use segment::{AssociatedData, Header, SegmentOpener};
pub use segments::SegmentSealer;
pub use shared::{CACHED_SEGMENTS, SharedReader};
pub use source::ReadAt;

/// The key of an artifact, from which each stream's own key is derived.
pub type Key = coffer_core_secret::Secret<[u8; 32]>;

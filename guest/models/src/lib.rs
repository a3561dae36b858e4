//! Sealed models, read from folders, web servers, object stores and registries.
//!
//! SPEC: `docs/formats/sealed-stream.md`. INVARIANT: no file is opened but through a [`Model`], which exists only after
//! somebody known signed its manifest. TRUST: sources, and everything on the way to them, are hostile. Left out: where
//! keys and signers come from, and sealing.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod error;
mod local_api;
mod model;
mod pipeline;
mod place;
pub mod sigv4;
mod source;
#[cfg(test)]
mod tests;
mod workplace;

pub use coffer_core_logins::{Login, Logins, LoginsError};
pub use error::{ModelError, SourceError};
pub use local_api::{LOCAL_API, LocalApi};
pub use model::{Model, Signed, fill_parallel};
pub use pipeline::{Job, Progress};
pub use place::Place;
pub use sigv4::Credentials;
pub use source::{
    Access, Http, Object, Remote, Retry, S3Access, S3Style, Store, Transport, client_builder, host_of,
    reasons, retry_after,
};
pub use workplace::{Destination, Partial};

/// The signed envelope's name.
pub const ENVELOPE: &str = "sealed-stream.json";
/// The sealed manifest's name.
pub const MANIFEST: &str = "manifest.sealed";
/// The folder of the files' streams.
pub const BLOBS: &str = "blobs";
/// The artifact type of a CNCF ModelPack manifest (model-spec, `docs/spec.md`).
pub const MODEL_ARTIFACT: &str = "application/vnd.cncf.model.manifest.v1+json";
/// The annotation with a layer's name (model-spec, `docs/annotations.md`).
pub const FILE_PATH: &str = "org.cncf.model.filepath";

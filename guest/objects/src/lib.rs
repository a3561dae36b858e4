//! A loopback gateway to an S3-compatible store that sees only ciphertext.
//!
//! SPEC: `docs/formats/sealed-objects.md`; Amazon S3 API reference. TRUST: the store and everything on the way to it are
//! hostile; clients are the workload, which has what is in the objects anyway. INVARIANT: no plaintext of an object, a
//! name or metadata goes upstream, and none comes back that was not authenticated. Left out: where the data key comes
//! from, versions of objects, and everything that stores keep beside objects (policies, tags, locks).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod body;
mod call;
mod chunked;
mod gateway;
mod known;
mod list;
mod listings;
mod parts;
mod read;
mod refusal;
mod serve;
#[cfg(test)]
mod tests;
mod upstream;
mod write;
mod xml;

pub use call::{Call, Range};
pub use chunked::Chunks;
pub use gateway::{Clients, Gateway, Log};
pub use refusal::Refusal;
pub use serve::serve;
pub use xml::{Completion, Deletions, Page};

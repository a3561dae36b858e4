//! A sealed model as a read-only file system.
//!
//! SPEC: `docs/formats/sealed-stream.md`; the kernel's `Documentation/filesystems/fuse`. INVARIANT: bytes leave only as
//! `SharedReader` gives them, which authenticates each segment. Left out: writing, extended attributes, links.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod filesystem;
mod mount;
#[cfg(test)]
mod tests;
mod tree;

pub use filesystem::Log;
pub use mount::{MountError, Mounted, Reach, mount};
pub use tree::{Kind, Node, ReadError, Tree};

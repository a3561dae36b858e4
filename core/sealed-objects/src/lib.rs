//! Objects of a store as sealed streams that are bound to their names, and the names themselves sealed.
//!
//! SPEC: `docs/formats/sealed-objects.md`. INVARIANT: no plaintext leaves before its segment was authenticated for this
//! bucket, key and place. TRUST: everything that a store gives is hostile. Left out: I/O, and which of several versions
//! of one object is the newest.

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

mod bound;
mod error;
mod index;
mod keys;
mod metadata;
mod name;
mod part;
mod reading;
mod sealed_name;
mod shape;
#[cfg(test)]
mod tests;

pub use bound::{FOOTER, LEAST_PART, MAX_PARTS, SEGMENT, TRAILER_AT_FIRST};
pub use error::ObjectError;
pub use index::{Index, footer};
pub use keys::ObjectKeys;
pub use metadata::MAX_METADATA;
pub use name::{MAX_KEY, ObjectName};
pub use part::{Part, PartId};
pub use reading::Reading;
pub use shape::{Extent, Kind, Shape};

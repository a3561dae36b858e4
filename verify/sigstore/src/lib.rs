//! Offline verification of sigstore bundles: a signature over an artifact by a short-lived certificate, which says
//! who signed, and a transparency log's proof of when.
//!
//! A verdict is a function of the bundle, the trust root and what is expected; nothing is fetched and no clock is
//! read. The log's integrated time, which the log signs, is the only time. Documents: the sigstore bundle and
//! trusted-root messages (sigstore/protobuf-specs), RFC 6962, RFC 9162, RFC 5280, RFC 8785, C2SP signed-note and
//! tlog-checkpoint, DSSE, in-toto Statement. Left out: updating the trust root, RFC 3161 timestamps, bundles with
//! bare keys.

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

mod bundle;
mod chain;
mod checkpoint;
mod content;
mod entry;
mod error;
mod identity;
mod key;
mod limits;
mod log;
mod merkle;
mod sct;
mod trust_root;
mod verdict;
mod wire;

#[cfg(test)]
mod tests;

pub use bundle::Bundle;
pub use content::Statement;
pub use error::SigstoreError;
pub use identity::Identity;
pub use limits::{MAX_BUNDLE, MAX_ENTRIES, MAX_TRUST_ROOT};
pub use trust_root::TrustRoot;
pub use verdict::{Expected, Signed};

//! KServe's storage contract inside a guest: what may be fetched, by whom signed, with which key.
//!
//! SPEC: KServe 0.20, `ClusterStorageContainer` and `kserve_storage/confidential`. TRUST: arguments and environment are
//! the cluster's, hence hostile; the policy is the owner's, from the broker. Left out: fetching by other protocols, and
//! listing of buckets.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod error;
mod gcm;
mod initialize;
pub mod jwe;
mod policy;
#[cfg(test)]
mod tests;

pub use error::KserveError;
pub use initialize::{Keys, Pair, initialize, pairs};
pub use policy::{Allowed, Policy};

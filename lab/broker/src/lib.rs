//! The broker's program as a child of a test: started, stopped, killed, frozen, and measured.
//!
//! Left out: what is done to it, which is `coffer-lab-load`, and what must come of it, which are the tests.

mod build;
mod cluster;
mod program;
mod turn;
mod world;

pub use build::broker;
pub use cluster::{Cluster, Replica, patience};
pub use program::Program;
pub use turn::{Turn, take_turn};
pub use world::{OFFLINE, RESOURCE, UNLIMITED, VALUE, World};

/// A number from the environment, or another.
pub fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

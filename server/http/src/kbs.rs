//! The calls of guests: the KBS protocol, and the counters of volumes beside it.

pub(crate) mod attest;
pub(crate) mod auth;
pub(crate) mod counter;
pub(crate) mod plugin;
pub(crate) mod resource;

//! The calls of guests: the KBS protocol.

pub(crate) mod attest;
pub(crate) mod auth;
pub(crate) mod plugin;
pub(crate) mod resource;

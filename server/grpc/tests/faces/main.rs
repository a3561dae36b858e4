//! Both ends over real loopback sockets: cleartext, TLS and Unix, friends and enemies.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod attestation;
mod enemy_clients;
mod enemy_plugins;
mod peer;
mod plugin;

//! The broker: the KBS protocol for guests and the admin API for owners, over TLS.
//!
//! INVARIANT I-1: a secret leaves only as a JWE to the key inside a token of ours, which exists only for evidence
//! that a judge verified; the decision is durable before the reply is sent.
//! Left out: the program (`server/broker`, `coffer broker`), which chooses where logs go and when to stop.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod admin;
mod admission;
mod broker;
mod call;
mod case;
mod clock;
mod config;
mod deciding;
mod error;
mod gate;
mod intake;
mod issued;
mod journal;
mod judges;
mod kbs;
mod keyring;
mod keys;
mod known;
mod leftover;
mod metrics;
mod openapi;
mod operation;
mod passport;
mod plugins;
mod policies;
mod record;
mod references;
mod release;
mod reply;
mod revocations;
mod router;
mod routes;
mod serve;
mod service;
mod sources;
mod standards;
mod tenancy;
mod tls;
mod token;
mod wrapping;

pub use broker::{Broker, FirstStart, Parts};
pub use config::{
    BrokerConfig, ConfigError, DEFAULT_PORT, EXAMPLE, GrpcListen, JudgeOptions, Pause, Revocation,
    ServiceAccess, TlsFiles, TrustAnchorFile,
};
pub use error::{OpenError, TrustError};
pub use judges::{JudgeSet, Judges, Trust, all_judges};
pub use plugins::Plugin;
pub use serve::{ServeError, shutdown_signal};
pub use sources::Route as SourceRoute;

#[cfg(test)]
mod tests;

//! The store's rows in PostgreSQL, for many replicas.
//!
//! [`Postgres`] is an [`Engine`](coffer_server_store::Engine): transactions are serializable across replicas, durable
//! when they return, made once or not at all, and bounded in time. Left out: what rows mean, and their sealing.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod config;
mod connect;
mod engine;
mod error;
mod failure;
mod overlay;
mod pool;
mod retry;
mod schema;
mod statements;
mod transaction;
mod wait;

pub use config::{ClientCertificate, Migrate, Password, PostgresConfig, Timeouts, Tls};
pub use engine::Postgres;
pub use error::PostgresError;
pub use schema::Migrated;

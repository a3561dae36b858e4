//! From a configuration to the parts of a running broker, and what an operator does to them from outside.
//!
//! Holds true: a section is parsed before anything is opened; nothing that is there is overwritten; no secret is in a
//! setting, a finding or a span. Left out: serving (`server/http`), and the program's arguments (`server/broker`).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod assemble;
mod copies;
mod doctor;
mod error;
mod health;
mod init;
mod keys;
mod logs;
mod progress;
mod sections;
mod settings;
mod telemetry;

pub use assemble::{Assembly, assemble};
pub use copies::{Copied, Moved, backup, migrate, move_to_postgres, restore};
pub use doctor::{Finding, State, doctor, unreadable};
pub use error::SetupError;
pub use health::health;
pub use init::{Initialized, init};
pub use keys::{Resealed, Rotated, reseal, rotate_master_key};
pub use logs::LogFormat;
pub use progress::{Progress, to_text};
pub use sections::{PluginSection, SourceKind, SourceSection, StoreSection, TelemetrySection, master_key};
pub use settings::{PREFIX, read as read_settings};
pub use telemetry::Telemetry;

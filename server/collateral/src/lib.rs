//! Collateral fetched once, kept on disk for its lifetime, and served without network.
//!
//! Judges say by key what they miss; this gets it from memory, disk or its source, once for all who wait. Lifetimes
//! are the documents' own; nothing past its end is given unless the settings say for how long.
//! TRUST: nothing that is read here is believed. Judges check every signature, so a lying source, cache or bundle
//! can make a judgement unavailable or refused, and nothing else.
//! Left out: judging, and which certificates vendors are known by.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod budget;
mod bundle;
mod der;
mod disk;
mod document;
mod error;
mod kept;
mod memory;
mod service;
mod settings;
mod source;

pub use bundle::documents;
pub use document::{Unlike, examine};
pub use error::{CacheError, FetchError, ImportError, Missing};
pub use kept::State;
pub use service::{AtHand, Clock, CollateralService, Gathered, Listed};
pub use settings::{Amd, EXAMPLE, Hygon, Intel, Nvidia, Period, Proxy, Settings, SettingsError, Update};
pub use source::Hints;

//! Init-data: what the owner tells the guest, bound to its measurement by one digest.
//!
//! The text is kept verbatim, because the digest is over its bytes and not over what they mean. Reading is strict:
//! what is not known is refused, so that a misspelt entry cannot silently do nothing.
//! Left out: binding the digest to hardware, which is the guest's and the judge's. Nothing here is secret: the
//! host carries it.

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

mod builder;
mod config;
mod framing;
mod toml_text;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use coffer_core_digest::{Algorithm, Digest, DigestError};
use serde::Deserialize;

pub use builder::Builder;
pub use config::{
    AllowedContainer, Attestation, Broker, ConfigError, Ephemeral, GuestConfig, Overlay, Permission,
    Persistent, RegistryAccess, Rollback, Scratch, SealedData, Secret, SecretFile, SecretPlace, SecretSource,
    SignatureRule, Volume, VolumeAccess, VolumeKind,
};
pub use framing::{DISK_HEADER, DISK_SECTOR};

/// The longest text, in bytes. It is also what decompression stops at.
pub const MAX_TEXT: usize = 1 << 20;
/// The one version of the form.
pub const VERSION: &str = "0.1.0";
/// The entry that this project's guest reads.
pub const COFFER: &str = "coffer.toml";
/// The entry of upstream's that names registries' roots.
pub const DATA_HUB: &str = "cdh.toml";

/// Why bytes are not init-data.
#[derive(Debug, thiserror::Error)]
pub enum InitDataError {
    /// Over the bound.
    #[error("the init-data is longer than {MAX_TEXT} bytes")]
    TooLong,
    /// Not text.
    #[error("the init-data is not UTF-8 text")]
    NotText,
    /// Not the TOML of the form.
    #[error("the init-data is not what its form says: {0}")]
    Toml(String),
    /// Of another version.
    #[error("the init-data has version {found:?}; expected {VERSION:?}")]
    Version {
        /// What was found.
        found: String,
    },
    /// Hashed with an algorithm that is not accepted.
    #[error("the init-data has algorithm {found:?}; expected sha256, sha384, sha512 or sm3")]
    Algorithm {
        /// What was found.
        found: String,
    },
    /// The disk does not begin with the magic.
    #[error("the disk is not an init-data disk: it does not begin with \"initdata\"")]
    Magic,
    /// The disk ends before its content does.
    #[error("the init-data disk ends early: expected {expected} bytes, found {found}")]
    Truncated {
        /// What its header promises.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// The content is not one gzip member.
    #[error("the init-data's compression is broken: {0}")]
    Gzip(String),
    /// An annotation is not base64.
    #[error("the init-data annotation is not base64")]
    Base64,
    /// An entry cannot be written in the form.
    #[error("entry {name:?} cannot be written: {why}")]
    Entry {
        /// Its name.
        name: String,
        /// Why not.
        why: &'static str,
    },
    /// The guest's own entry is not valid.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl InitDataError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong => "init-data.too-large",
            Self::NotText | Self::Toml(_) => "init-data.malformed",
            Self::Version { .. } => "init-data.version",
            Self::Algorithm { .. } => "init-data.algorithm",
            Self::Magic => "init-data.disk.magic",
            Self::Truncated { .. } => "init-data.disk.truncated",
            Self::Gzip(_) => "init-data.compression",
            Self::Base64 => "init-data.annotation",
            Self::Entry { .. } => "init-data.entry",
            Self::Config(error) => error.code(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: String,
    algorithm: String,
    #[serde(default)]
    data: BTreeMap<String, String>,
}

/// Init-data that was read, with its text as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitData {
    text: String,
    algorithm: Algorithm,
    data: BTreeMap<String, String>,
}

impl InitData {
    /// Reads the TOML text.
    pub fn parse(bytes: &[u8]) -> Result<Self, InitDataError> {
        if bytes.len() > MAX_TEXT {
            return Err(InitDataError::TooLong);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| InitDataError::NotText)?;
        let document: Document = toml_text::read(text).map_err(InitDataError::Toml)?;
        if document.version != VERSION {
            return Err(InitDataError::Version { found: short(&document.version) });
        }
        // SPEC: init-data 0.1.0 writes the names exactly so; `SHA-256` is not one.
        let algorithm = match document.algorithm.as_str() {
            "sha256" => Algorithm::Sha256,
            "sha384" => Algorithm::Sha384,
            "sha512" => Algorithm::Sha512,
            // Upstream uses it on Hygon platforms.
            "sm3" => Algorithm::Sm3,
            other => return Err(InitDataError::Algorithm { found: short(other) }),
        };
        Ok(Self { text: text.to_owned(), algorithm, data: document.data })
    }

    /// The text as it was read.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The algorithm that its digest is made with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The entries.
    pub fn data(&self) -> &BTreeMap<String, String> {
        &self.data
    }

    /// One entry, as in `aa.toml`.
    pub fn entry(&self, name: &str) -> Option<&str> {
        self.data.get(name).map(String::as_str)
    }

    /// What the hardware binds: the digest over the text's bytes.
    pub fn digest(&self) -> Digest {
        Digest::of(self.algorithm, self.text.as_bytes())
    }

    /// A digest for each entry, so that a mismatch can be traced to one.
    pub fn entry_digests(&self) -> BTreeMap<String, Digest> {
        let digest = |text: &String| Digest::of(self.algorithm, text.as_bytes());
        self.data.iter().map(|(name, text)| (name.clone(), digest(text))).collect()
    }

    /// The guest's own entry, if there is one.
    pub fn guest_config(&self) -> Result<Option<GuestConfig>, InitDataError> {
        self.entry(COFFER).map(GuestConfig::parse).transpose().map_err(InitDataError::Config)
    }
}

fn short(text: &str) -> String {
    text.chars().take(32).collect()
}

//! Why a volume's header is refused.

use std::io;

/// Why a volume is not read, not unlocked, or not made.
#[derive(Debug, thiserror::Error)]
pub enum LuksError {
    /// Reading or writing failed.
    #[error("the volume's header: {0}")]
    Io(#[from] io::Error),
    /// Neither header is one.
    #[error(
        "no LUKS2 header: {why}; expected a volume made by `coffer volume create` or `cryptsetup luksFormat --type luks2`"
    )]
    NotLuks {
        /// What is wrong with the primary header.
        why: String,
    },
    /// The metadata contradicts itself or its form.
    #[error("the LUKS2 metadata is malformed: {0}")]
    Malformed(String),
    /// Well-formed, but not what is accepted.
    #[error("the volume has {member} {found:?}; expected {expected}")]
    NotAccepted {
        /// Which member.
        member: &'static str,
        /// What is accepted.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// The key slots have argon2.
    #[error(
        "each key slot derives with argon2, which costs memory and protects only passphrases that can be guessed; run \
         `cryptsetup luksConvertKey --pbkdf pbkdf2` on the volume"
    )]
    Argon2,
    /// No key slot opens with this key.
    #[error(
        "none of the volume's {slots} key slots opens with this key; expected the key that the volume was made with"
    )]
    WrongKey {
        /// How many were tried.
        slots: usize,
    },
    /// The passphrase is too short to be a key.
    #[error("a volume's key has at least {} random bytes; found {found}", crate::LEAST_PASSPHRASE)]
    ShortKey {
        /// Its length.
        found: usize,
    },
    /// The caller's random source failed.
    #[error("no randomness for the volume's key")]
    NoRandomness,
    /// The volume has no room for generation records.
    #[error(
        "the volume has no room for generation records between its key slots and its data; make it with \
         `coffer volume create`, or state rollback = \"insecure-not-detected\""
    )]
    NoRecords,
    /// The cryptographic library refused.
    #[error("the cipher library failed on the volume's header")]
    Library,
}

impl LuksError {
    /// What was found is the host's, and is shortened.
    pub(crate) fn not_accepted(member: &'static str, expected: &'static str, found: &str) -> Self {
        Self::NotAccepted { member, expected, found: found.chars().take(64).collect() }
    }

    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Io(_) => "volume.io",
            Self::NotLuks { .. } => "volume.not-luks2",
            Self::Malformed(_) => "volume.malformed",
            Self::NotAccepted { .. } => "volume.not-accepted",
            Self::Argon2 => "volume.argon2",
            Self::WrongKey { .. } => "volume.wrong-key",
            Self::ShortKey { .. } => "volume.short-key",
            Self::NoRandomness | Self::Library => "volume.crypto",
            Self::NoRecords => "volume.no-records",
        }
    }
}

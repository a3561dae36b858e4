//! What is known of a resource: the record of its versions, and the words for them.
//!
//! The record's form is fixed here: `1`, the last version ever given, then each kept version, the oldest first.
#![deny(clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

use crate::StoreError;
use crate::keys::damaged;
use crate::table::RESOURCES;

const FORM: u8 = 1;
/// The longest reason that is kept with a revocation, in bytes.
pub const MAX_REASON: usize = 1024;

/// Whether a version may be released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It may.
    Active,
    /// It may not, by decision.
    Revoked {
        /// Seconds since 1970.
        at: i64,
        /// The reason; at most [`MAX_REASON`] bytes of it are kept.
        why: String,
    },
}

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An admin stored it.
    Stored,
    /// The broker generated it, and no admin has seen it.
    Generated,
}

/// What is known of one version of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionInfo {
    /// 1 for the first value, one more for each later one; never given twice for a path.
    pub version: u64,
    /// Length of the value in bytes.
    pub bytes: u64,
    /// When it was stored, in seconds since 1970.
    pub changed_at: i64,
    /// Whether it may be released.
    pub state: State,
    /// When it may be released no longer, in seconds since 1970.
    pub expires_at: Option<i64>,
    /// To how many attempts it may be released.
    pub release_limit: Option<u64>,
    /// With a limit: to how many attempts it was released. Without: how often it was.
    pub released: u64,
    /// Where it came from.
    pub origin: Origin,
}

/// The record of a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// The last version that was given.
    pub(crate) last: u64,
    /// The kept versions, the oldest first. The counts of releases are not here but in rows of their own.
    pub(crate) versions: Vec<VersionInfo>,
}

impl Head {
    pub(crate) fn version(&self, number: u64) -> Option<&VersionInfo> {
        self.versions.iter().find(|known| known.version == number)
    }

    pub(crate) fn join(&self) -> Vec<u8> {
        let mut bytes = vec![FORM];
        bytes.extend_from_slice(&self.last.to_be_bytes());
        for known in &self.versions {
            bytes.extend_from_slice(&known.version.to_be_bytes());
            bytes.extend_from_slice(&known.bytes.to_be_bytes());
            bytes.extend_from_slice(&known.changed_at.to_be_bytes());
            bytes.push(match known.origin {
                Origin::Stored => 0,
                Origin::Generated => 1,
            });
            optional(&mut bytes, known.expires_at.map(i64::to_be_bytes));
            optional(&mut bytes, known.release_limit.map(u64::to_be_bytes));
            match &known.state {
                State::Active => bytes.push(0),
                State::Revoked { at, why } => {
                    let why = shortened(why).as_bytes();
                    bytes.push(1);
                    bytes.extend_from_slice(&at.to_be_bytes());
                    // Shortened to fewer than 2^16 bytes.
                    bytes.extend_from_slice(&u16::try_from(why.len()).unwrap_or(0).to_be_bytes());
                    bytes.extend_from_slice(why);
                }
            }
        }
        bytes
    }

    pub(crate) fn split(key: &str, plain: &[u8]) -> Result<Self, StoreError> {
        let read = || {
            let mut rest = Rest(plain);
            if rest.byte()? != FORM {
                return None;
            }
            let mut head = Self { last: rest.number()?, versions: Vec::new() };
            while !rest.0.is_empty() {
                head.versions.push(rest.version()?);
            }
            Some(head)
        };
        read().ok_or_else(|| damaged(RESOURCES, key))
    }
}

fn optional(bytes: &mut Vec<u8>, value: Option<[u8; 8]>) {
    bytes.push(u8::from(value.is_some()));
    bytes.extend_from_slice(value.as_ref().map(<[u8; 8]>::as_slice).unwrap_or_default());
}

/// At most [`MAX_REASON`] bytes, cut between characters.
fn shortened(why: &str) -> &str {
    let end = (0..=MAX_REASON.min(why.len())).rev().find(|end| why.is_char_boundary(*end));
    why.get(..end.unwrap_or(0)).unwrap_or_default()
}

struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn array(&mut self) -> Option<[u8; 8]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn time(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }

    /// The outer `None` is a broken record, the inner one is no value.
    fn optional(&mut self) -> Option<Option<[u8; 8]>> {
        match self.byte()? {
            0 => Some(None),
            1 => self.array().map(Some),
            _ => None,
        }
    }

    fn version(&mut self) -> Option<VersionInfo> {
        Some(VersionInfo {
            version: self.number()?,
            bytes: self.number()?,
            changed_at: self.time()?,
            origin: match self.byte()? {
                0 => Origin::Stored,
                1 => Origin::Generated,
                _ => return None,
            },
            expires_at: self.optional()?.map(i64::from_be_bytes),
            release_limit: self.optional()?.map(u64::from_be_bytes),
            released: 0,
            state: match self.byte()? {
                0 => State::Active,
                1 => State::Revoked { at: self.time()?, why: self.text()? },
                _ => return None,
            },
        })
    }

    fn text(&mut self) -> Option<String> {
        let (length, rest) = self.0.split_first_chunk()?;
        let (text, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        let version = |version, state, expires_at, release_limit, origin| VersionInfo {
            version,
            bytes: 32,
            changed_at: -1,
            state,
            expires_at,
            release_limit,
            released: 0,
            origin,
        };
        let revoked = State::Revoked { at: 9, why: "lost laptop".to_owned() };
        Head {
            last: 7,
            versions: vec![
                version(3, State::Active, None, None, Origin::Stored),
                version(4, revoked, Some(8), Some(1), Origin::Generated),
                version(7, State::Active, None, Some(u64::MAX), Origin::Generated),
            ],
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_no_part_of_it_is() {
        let bytes = head().join();
        assert_eq!(Head::split("t/p", &bytes).unwrap(), head());
        let wholes: Vec<usize> =
            (0..bytes.len()).filter(|end| Head::split("t/p", &bytes[..*end]).is_ok()).collect();
        assert_eq!(wholes.len(), 3, "only where a version ends is a part whole");
        for index in [0, bytes.len() - 1] {
            let mut changed = bytes.clone();
            changed[index] ^= 0xff;
            assert!(Head::split("t/p", &changed).is_err());
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let why = "é".repeat(MAX_REASON);
        assert_eq!(shortened(&why).len(), MAX_REASON);
        let odd = format!("x{why}");
        assert_eq!(shortened(&odd).len(), MAX_REASON - 1);
        assert_eq!(shortened("short"), "short");
    }
}

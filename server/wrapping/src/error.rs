//! Why a key was not made, changed or used: what was expected, what was found, and the next step.
//!
//! Each has a stable dotted code; a dialect gives it the status and the shape that its clients know.

use crate::{KeyName, NotAKeyName, TableFault};

/// An operation on a wrapping key was refused or failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WrapError {
    /// Not a name.
    #[error(transparent)]
    Name(#[from] NotAKeyName),
    /// No such key.
    #[error("encryption key not found: there is no key {0}; create it first, or correct the name")]
    NotFound(KeyName),
    /// The name is taken.
    #[error("the key {0} already exists; rotate it, or choose another name")]
    Exists(KeyName),
    /// An option is outside what is done here.
    #[error("{what} is {found}, expected {expected}")]
    Option {
        /// The option.
        what: &'static str,
        /// What was found.
        found: String,
        /// What is taken.
        expected: &'static str,
    },
    /// Longer or more than is taken.
    #[error("{what} has {found}, at most {most} are taken; send less at a time")]
    TooMuch {
        /// What is too long.
        what: &'static str,
        /// How long it is.
        found: usize,
        /// How long it may be.
        most: usize,
    },
    /// A version that never was.
    #[error(
        "the key {name} has no version {version}, its latest is {latest}; was it wrapped by another key?"
    )]
    NoVersion {
        /// The key.
        name: KeyName,
        /// The version asked for.
        version: u32,
        /// The latest.
        latest: u32,
    },
    /// Below the least version allowed.
    #[error(
        "version {version} of the key {name} is too old: disallowed by policy, which asks for {least} or later; \
         rewrap with the latest version, or lower the minimum"
    )]
    TooOld {
        /// The key.
        name: KeyName,
        /// The version asked for.
        version: u32,
        /// The least that is allowed.
        least: u32,
    },
    /// The version is disabled.
    #[error("version {version} of the key {name} is disabled; enable it, or use another version")]
    Disabled {
        /// The key.
        name: KeyName,
        /// The version.
        version: u32,
    },
    /// The version's bytes are gone.
    #[error(
        "version {version} of the key {name} was destroyed; what it wrapped is lost, and a rotation makes a new one"
    )]
    Destroyed {
        /// The key.
        name: KeyName,
        /// The version.
        version: u32,
    },
    /// As many uses as random nonces allow.
    #[error(
        "version {version} of the key {name} has wrapped as often as is safe (2^32 times); rotate the key"
    )]
    Spent {
        /// The key.
        name: KeyName,
        /// The version.
        version: u32,
    },
    /// As many versions as are kept.
    #[error("the key {name} has {most} versions, which is the most; create another key")]
    Versions {
        /// The key.
        name: KeyName,
        /// The most there may be.
        most: usize,
    },
    /// A derived key without context.
    #[error("the key {0} is derived, so each call needs the context that it derives from")]
    ContextMissing(KeyName),
    /// Not something wrapped.
    #[error("invalid ciphertext: {0}; send what was returned when the key was wrapped, unchanged")]
    Form(&'static str),
    /// It does not open.
    #[error(
        "invalid ciphertext: it does not open under version {version} of the key {name}; it was changed, or wrapped \
         by another key or with another context, associated data or IV"
    )]
    Broken {
        /// The key.
        name: KeyName,
        /// The version.
        version: u32,
    },
    /// The key gives no plaintext to the holder of a token.
    #[error(
        "the key {0} gives no plaintext data key to the holder of a token; ask for the wrapped one, unwrap it by \
         attestation (kbs), or create another key with insecure_plaintext_over_tls allowed"
    )]
    PlaintextRefused(KeyName),
    /// A key's own bytes are given to nobody.
    #[error("the material of a wrapping key never leaves the broker; ask for a data key instead")]
    MaterialRefused,
    /// A key's own bytes are taken from nobody.
    #[error("the material of a wrapping key is made in the broker; leave it out of the request")]
    MaterialBrought,
    /// Not marked as deletable.
    #[error(
        "deletion is not allowed for the key {0}; set deletion_allowed first, everything it wrapped is lost then"
    )]
    DeletionRefused(KeyName),
    /// The caller may not.
    #[error("permission denied: the token does not allow {0} on this key; ask the tenant's owner")]
    Denied(&'static str),
    /// No such call.
    #[error("no handler for route: there is no call {0}; the guide's section on wrapping lists the calls")]
    Route(String),
    /// Not the JSON of this call.
    #[error("the request is not the JSON of this call: {0}")]
    Json(String),
    /// The store does not answer.
    #[error(transparent)]
    Unavailable(#[from] TableFault),
    /// Others changed the key each time.
    #[error("the key {0} was changed by others at the same time; try again")]
    Contended(KeyName),
    /// The record is not one.
    #[error("the record of the key {name} is not readable ({why}); restore the store from a backup")]
    Damaged {
        /// The key.
        name: KeyName,
        /// What is wrong.
        why: &'static str,
    },
    /// No random bytes.
    #[error("the system's random number source failed; nothing was made or wrapped")]
    NoRandomness,
}

macro_rules! codes {
    ($($pattern:pat => $code:literal, $status:literal;)*) => {
        impl WrapError {
            /// Every code, for documentation.
            pub const CODES: &'static [&'static str] = &[$($code),*];

            /// The stable dotted name.
            pub fn code(&self) -> &'static str {
                match self { $($pattern => $code),* }
            }

            /// The HTTP status.
            pub fn status(&self) -> u16 {
                match self { $($pattern => $status),* }
            }
        }
    };
}

codes! {
    Self::Name(_) => "wrapping.name", 400;
    Self::NotFound(_) => "wrapping.not-found", 404;
    Self::Exists(_) => "wrapping.exists", 409;
    Self::Option { .. } => "wrapping.option", 400;
    Self::TooMuch { .. } => "wrapping.too-much", 413;
    Self::NoVersion { .. } => "wrapping.version", 400;
    Self::TooOld { .. } => "wrapping.version-too-old", 400;
    Self::Disabled { .. } => "wrapping.version-disabled", 400;
    Self::Destroyed { .. } => "wrapping.version-destroyed", 400;
    Self::Spent { .. } => "wrapping.version-spent", 400;
    Self::Versions { .. } => "wrapping.versions", 400;
    Self::ContextMissing(_) => "wrapping.context", 400;
    Self::Form(_) => "wrapping.form", 400;
    Self::Broken { .. } => "wrapping.broken", 400;
    Self::PlaintextRefused(_) => "wrapping.plaintext-refused", 403;
    Self::MaterialRefused => "wrapping.material-refused", 403;
    Self::MaterialBrought => "wrapping.material-brought", 400;
    Self::DeletionRefused(_) => "wrapping.deletion-refused", 403;
    Self::Denied(_) => "wrapping.denied", 403;
    Self::Route(_) => "wrapping.route", 404;
    Self::Json(_) => "wrapping.malformed", 400;
    Self::Unavailable(_) => "wrapping.unavailable", 503;
    Self::Contended(_) => "wrapping.contended", 503;
    Self::Damaged { .. } => "wrapping.damaged", 500;
    Self::NoRandomness => "wrapping.no-randomness", 500;
}

/// Refuses what is more than the bound.
pub(crate) fn most(what: &'static str, found: usize, most: usize) -> Result<(), WrapError> {
    match found <= most {
        true => Ok(()),
        false => Err(WrapError::TooMuch { what, found, most }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_the_guide() {
        let guide = include_str!("../../../docs/wrapping.md");
        for code in WrapError::CODES {
            assert!(guide.contains(&format!("| `{code}` |")), "docs/wrapping.md does not explain {code}");
        }
    }
}

//! What can go wrong with a token, told so that the operator knows the next step.

use std::path::PathBuf;

use coffer_server_source::SourceError;
use cryptoki::error::{Error, RvError};

/// A call on a token failed. No variant holds a PIN or a value.
#[derive(Debug, thiserror::Error)]
pub enum Pkcs11Error {
    /// The module cannot be loaded or started.
    #[error("cannot use the PKCS#11 module {path}: {why}; check that it is installed and configured")]
    Module {
        /// The shared library.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The settings name no one token.
    #[error("{0}: give exactly one of token (its label) and slot (its number)")]
    Selection(&'static str),
    /// The token is not there.
    #[error("there is no token {wanted}; the module has {found}. Plug it in, or correct the settings")]
    NoToken {
        /// What the settings name.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// The PIN's file cannot be used.
    #[error("cannot take the PIN from {path}: {why}")]
    PinFile {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The PIN is wrong.
    #[error(
        "the token {token} refuses the PIN in {path}; it is not tried again until that file changes, \
         because the token locks itself after a few wrong ones"
    )]
    PinWrong {
        /// The token.
        token: String,
        /// The file.
        path: PathBuf,
    },
    /// The PIN is locked or expired.
    #[error("the PIN of the token {token} is {state}; the token's security officer must set it anew")]
    PinUnusable {
        /// The token.
        token: String,
        /// `locked` or `expired`.
        state: &'static str,
    },
    /// The key is not there.
    #[error("the token {token} has no AES key {key}; make it, or correct the settings (nothing was changed)")]
    NoKey {
        /// The token.
        token: String,
        /// The key.
        key: String,
    },
    /// Two things have the name.
    #[error("the token {token} has more than one object {key}; name it by id, or remove the others")]
    Ambiguous {
        /// The token.
        token: String,
        /// The name.
        key: String,
    },
    /// A key that would be made is there.
    #[error("the token {token} has a key {key} already; nothing was made")]
    Exists {
        /// The token.
        token: String,
        /// The key.
        key: String,
    },
    /// The token cannot wrap.
    #[error("the token {token} offers none of {wanted}; another token is needed, or another method")]
    NoMechanism {
        /// The token.
        token: String,
        /// What is needed.
        wanted: &'static str,
    },
    /// The key did not close this.
    #[error("the key {key} of the token {token} did not close this, or it was changed since")]
    DidNotClose {
        /// The token.
        token: String,
        /// The key.
        key: String,
    },
    /// The value cannot be read.
    #[error("the token {token} does not let {object} out (it is sensitive); store it as extractable")]
    Sensitive {
        /// The token.
        token: String,
        /// The object.
        object: String,
    },
    /// The value is too long.
    #[error("{object} in the token {token} has {found} bytes, expected at most {limit}")]
    TooLong {
        /// The token.
        token: String,
        /// The object.
        object: String,
        /// The bound.
        limit: usize,
        /// What was found.
        found: usize,
    },
    /// The token went away, also for a second attempt.
    #[error("the token {token} does not answer ({why}); check that it is plugged in and its service runs")]
    Gone {
        /// The token.
        token: String,
        /// Its words.
        why: String,
    },
    /// Any other refusal.
    #[error("the token {token} refuses: {why}")]
    Refused {
        /// The token.
        token: String,
        /// Its words.
        why: String,
    },
    /// No random bytes.
    #[error("the system's random number source failed; nothing was wrapped")]
    NoRandomness,
}

impl Pkcs11Error {
    /// Whether the same call may succeed later without anybody changing settings.
    pub const fn is_temporary(&self) -> bool {
        matches!(self, Self::Gone { .. } | Self::NoToken { .. })
    }

    pub(crate) fn into_source(self, name: &str) -> SourceError {
        let (name, why) = (name.to_owned(), self.to_string());
        match self.is_temporary() {
            true => SourceError::Unavailable { name, why },
            false => SourceError::Refused { name, why },
        }
    }

    /// What a module answered, as an error of the token.
    pub(crate) fn of(token: &str, error: &Error) -> Self {
        let (token, why) = (token.to_owned(), words(error));
        match error {
            error if is_lost(error) => Self::Gone { token, why },
            Error::Pkcs11(RvError::PinLocked, _) => Self::PinUnusable { token, state: "locked" },
            Error::Pkcs11(RvError::PinExpired, _) => Self::PinUnusable { token, state: "expired" },
            _ => Self::Refused { token, why },
        }
    }
}

/// Whether sessions are lost, so that opening them anew may help.
pub(crate) const fn is_lost(error: &Error) -> bool {
    matches!(
        error,
        Error::Pkcs11(
            RvError::SessionHandleInvalid
                | RvError::SessionClosed
                | RvError::DeviceRemoved
                | RvError::DeviceError
                | RvError::TokenNotPresent
                | RvError::SlotIdInvalid
                | RvError::UserNotLoggedIn
                | RvError::CryptokiNotInitialized,
            _
        )
    )
}

/// A short form: the code's name and the function. The library's own texts are paragraphs.
pub(crate) fn words(error: &Error) -> String {
    match error {
        Error::Pkcs11(code, function) => format!("{code:?} from {function}"),
        other => other.to_string(),
    }
}

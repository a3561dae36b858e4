//! Why a document is refused, or could not be made.

use coffer_core_cose::CoseError;
use coffer_core_cose::cbor::{CborError, Value};
use coffer_core_launch::ReferenceError;

/// Why a document is refused, or could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CorimError {
    /// Longer than any honest document.
    #[error("the CoRIM has {0} bytes; at most {max} are read", max = crate::MAX_CORIM)]
    TooLong(usize),
    /// Not CBOR.
    #[error(transparent)]
    Cbor(#[from] CborError),
    /// Not of the form.
    #[error("{what}: expected {expected}, found {found}")]
    Form {
        /// Which part.
        what: &'static str,
        /// What should be there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// Signed where an unsigned document is wanted.
    #[error("the CoRIM is signed; verify it with a key first")]
    Signed,
    /// Not a signature, or not by a key of ours.
    #[error("the CoRIM's signature: {0}")]
    Cose(#[from] CoseError),
    /// No key was given.
    #[error("no key is configured that may sign CoRIMs")]
    NoKey,
    /// The signature is over something else.
    #[error("the signature is over {found:?}, expected application/rim+cbor")]
    ContentType {
        /// What it is over.
        found: String,
    },
    /// Not our profile, so the meaning of its names is another.
    #[error("the CoRIM has the profile {found:?}, not {ours}; import it as named values", ours = crate::PROFILE)]
    Profile {
        /// The profile found.
        found: String,
    },
    /// The explanation says something else than the values.
    #[error("the CoRIM contradicts itself: {0} differs between its measurements and its explanation")]
    Contradiction(&'static str),
    /// The values are none.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// A time cannot be read.
    #[error("{0:?} is no time (RFC 3339)")]
    Time(String),
}

impl CorimError {
    pub(crate) fn form(what: &'static str, expected: &'static str, found: Option<&Value>) -> Self {
        let found = found.map_or_else(|| "nothing".to_owned(), Value::kind);
        Self::Form { what, expected, found }
    }
}

//! Why a sealed secret is refused.

use coffer_core_protocol::jws::JwsError;
use coffer_core_protocol::uri::UriError;
use coffer_core_secret::NoRandomness;

use crate::MAX_TEXT;

/// Why a sealed secret is refused, or could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SealedSecretError {
    /// It does not begin as one.
    #[error("not a sealed secret: it does not begin with \"sealed.\"")]
    Prefix,
    /// Over the bound.
    #[error("the sealed secret has {found} bytes; at most {MAX_TEXT} are read")]
    TooLarge {
        /// The length found.
        found: usize,
    },
    /// The form from before there were signatures.
    #[error(
        "the sealed secret has no signature (fakejwsheader), so anybody could have written it; seal it again with \
         `coffer secret seal`"
    )]
    Fake,
    /// The signature's form, algorithm or value is wrong.
    #[error("the sealed secret's signature is refused: {0}")]
    Signature(#[from] JwsError),
    /// The header does not say whose signature it is.
    #[error("the sealed secret's header names no key (kid); expected kbs:///repository/type/tag")]
    NoKeyId,
    /// The header's key is no name of one.
    #[error("the sealed secret's key (kid) is refused: {0}")]
    KeyId(#[source] UriError),
    /// The key is one that signs nothing sealed.
    #[error("the key that signs sealed secrets is refused: {0}; expected a public JWK on P-256 (ES256)")]
    SignerKey(String),
    /// The payload is not that of a sealed secret.
    #[error("the sealed secret's payload is not what its form says: {0}")]
    Payload(#[source] serde_json::Error),
    /// A member has a value that is not known here.
    #[error("the sealed secret's {member} is {found:?}; expected {expected}")]
    Member {
        /// The member.
        member: &'static str,
        /// What is known.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// A member names no resource.
    #[error("the sealed secret's {member} names no resource: {why}")]
    Resource {
        /// The member.
        member: &'static str,
        /// Why not.
        why: UriError,
    },
    /// A member is not base64.
    #[error("the sealed secret's {0} is not base64 with padding")]
    Base64(&'static str),
    /// A member has the wrong length.
    #[error("the sealed secret's {member} has {found} bytes; expected {expected}")]
    Length {
        /// The member.
        member: &'static str,
        /// The length that the form asks for.
        expected: usize,
        /// The length found.
        found: usize,
    },
    /// The broker's key is of another length.
    #[error(
        "the key that opens the envelope has {found} bytes; expected 32, as `coffer secret seal` stores it"
    )]
    EnvelopeKeyLength {
        /// The length found.
        found: usize,
    },
    /// The broker's key is another one.
    #[error("the envelope was not sealed under this key; was the key in the broker replaced?")]
    EnvelopeKey,
    /// The value was changed.
    #[error("the envelope's value was changed: its authentication tag does not fit")]
    Value,
    /// Random bytes could not be had.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// The provider failed at a step that does not fail with valid keys.
    #[error("the provider failed at {0}")]
    Provider(&'static str),
}

impl SealedSecretError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Prefix | Self::TooLarge { .. } | Self::NoKeyId | Self::KeyId(_) => "sealed-secret.form",
            Self::Fake => "sealed-secret.unsigned",
            Self::Signature(_) => "sealed-secret.signature",
            Self::SignerKey(_) => "sealed-secret.signer-key",
            Self::Payload(_)
            | Self::Member { .. }
            | Self::Resource { .. }
            | Self::Base64(_)
            | Self::Length { .. } => "sealed-secret.payload",
            Self::EnvelopeKeyLength { .. } | Self::EnvelopeKey => "sealed-secret.envelope-key",
            Self::Value => "sealed-secret.value",
            Self::Randomness(_) | Self::Provider(_) => "sealed-secret.provider",
        }
    }
}

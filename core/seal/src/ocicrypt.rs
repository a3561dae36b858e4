//! ocicrypt layers: AES-256-CTR then HMAC-SHA256 over the ciphertext, with the layer's key wrapped for the
//! `attestation-agent` key provider, or for whom a [`KeyWrap`] of the caller's knows.
//!
//! SPEC: containers/ocicrypt (`AES_256_CTR_HMAC_SHA256`; the HMAC key is the layer key itself) and the
//! annotation packet of Confidential Containers, version 1 (`kid`, `wrapped_data`, `iv`, `wrap_type`) and
//! version 2 (with `provider`). Left out: what other recipients' annotations hold (`core/keywrap`), and the wrap type
//! A256CTR, which does not authenticate the layer key.

mod layer;
mod packet;

pub use layer::{Decryptor, EncryptedLayer, LayerKey, Opened, encrypt, encrypt_for};
pub use packet::{AnnotationPacket, BrokerKey, Locked, unwrap_options, wrap_options};

/// The annotation with the public options of an encrypted layer.
pub const PUBLIC_OPTIONS: &str = "org.opencontainers.image.enc.pubopts";
/// The annotation with the wrapped layer key for our provider.
pub const WRAPPED_KEY: &str = "org.opencontainers.image.enc.keys.provider.attestation-agent";
/// What annotations with wrapped layer keys begin with; one for each way of wrapping.
pub const WRAPPED_KEYS: &str = "org.opencontainers.image.enc.keys.";
/// The only cipher that ocicrypt has.
pub const CIPHER: &str = "AES_256_CTR_HMAC_SHA256";
use coffer_core_secret::SecretBytes;

/// No annotation is read beyond this.
pub const MAX_ANNOTATION: usize = 64 << 10;
/// The length of the key at the broker that wraps layer keys.
pub const KEY: usize = 32;

/// A way to wrap a layer's key for somebody.
pub trait KeyWrap {
    /// The annotation that it writes.
    fn annotation(&self) -> &'static str;

    /// Wraps ocicrypt's private options, which hold the layer's key. What it gives is no text yet.
    ///
    /// # Errors
    /// When the recipient's key cannot be used.
    fn wrap(&self, private_options: &SecretBytes) -> Result<Vec<u8>, OcicryptError>;
}

/// Why a layer could not be encrypted or opened.
#[derive(Debug, thiserror::Error)]
pub enum OcicryptError {
    /// An annotation is missing.
    #[error("the encrypted layer has no annotation {0}")]
    Missing(&'static str),
    /// The layer's key is wrapped for nobody, or for others only.
    #[error("the layer's key is wrapped for {found}; expected the key provider attestation-agent")]
    NotForBroker {
        /// For whom it is.
        found: String,
    },
    /// A recipient's key or message cannot be used.
    #[error("{what}: {why}")]
    Recipient {
        /// The recipient's kind.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// An annotation is not readable.
    #[error("annotation {name} is malformed: {why}")]
    Malformed {
        /// The annotation.
        name: &'static str,
        /// What is wrong.
        why: String,
    },
    /// A cipher or wrap type that this program does not know.
    #[error("{what} is {found:?}; expected {expected}")]
    Unsupported {
        /// What is not supported.
        what: &'static str,
        /// What is.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// The key from the broker has the wrong length.
    #[error("a key that wraps layer keys has {KEY} bytes; found {0}")]
    KeyLength(usize),
    /// No packet opens with the key.
    #[error("the layer's key does not open with {0}; it was wrapped with another key or changed")]
    WrongKey(String),
    /// The ciphertext was changed.
    #[error("the encrypted layer was changed: its HMAC does not match")]
    Changed,
    /// The plaintext is not the layer that was encrypted.
    #[error("the decrypted layer is not the one that was encrypted: expected {expected}, found {found}")]
    Digest {
        /// The digest in the private options.
        expected: String,
        /// The digest of what was decrypted.
        found: String,
    },
    /// There is no randomness for keys.
    #[error(transparent)]
    NoRandomness(#[from] coffer_core_secret::NoRandomness),
    /// The library refused.
    #[error("the cipher library failed")]
    Library,
    /// Reading or writing failed.
    #[error("the layer could not be read or written: {0}")]
    Io(#[from] std::io::Error),
}

#[cfg(test)]
mod tests;

//! ocicrypt layers: AES-256-CTR then HMAC-SHA256 over the ciphertext, with the layer's key wrapped for the
//! `attestation-agent` key provider.
//!
//! SPEC: containers/ocicrypt (`AES_256_CTR_HMAC_SHA256`; the HMAC key is the layer key itself) and the
//! annotation packet of Confidential Containers, version 1 (`kid`, `wrapped_data`, `iv`, `wrap_type`) and
//! version 2 (with `provider`). Left out: other key providers, and the wrap type A256CTR, which does not
//! authenticate the layer key.

mod layer;
mod packet;

pub use layer::{Decryptor, EncryptedLayer, LayerKey, Opened, encrypt};
pub use packet::{AnnotationPacket, Locked};

/// The annotation with the public options of an encrypted layer.
pub const PUBLIC_OPTIONS: &str = "org.opencontainers.image.enc.pubopts";
/// The annotation with the wrapped layer key for our provider.
pub const WRAPPED_KEY: &str = "org.opencontainers.image.enc.keys.provider.attestation-agent";
/// The only cipher that ocicrypt has.
pub const CIPHER: &str = "AES_256_CTR_HMAC_SHA256";
/// No annotation is read beyond this.
pub const MAX_ANNOTATION: usize = 64 << 10;
/// The length of the key at the broker that wraps layer keys.
pub const KEY: usize = 32;

/// Why a layer could not be encrypted or opened.
#[derive(Debug, thiserror::Error)]
pub enum OcicryptError {
    /// An annotation is missing.
    #[error("the encrypted layer has no annotation {0}")]
    Missing(&'static str),
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

//! Values that must not be seen: wiped when dropped, and without `Clone`, `Debug`, `Serialize` or `PartialEq`.
//!
//! A crate that cannot name [`Secret`] cannot hold a key by design; `zones.toml` says which those are.
//! Left out: locked memory. The guest's memory is the enclave, and the owner's machine is trusted.

use aws_lc_rs::rand;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// A value that is wiped when it is dropped and shown only where [`Secret::expose`] is written.
pub struct Secret<T: Zeroize>(Zeroizing<T>);

/// The usual secret: bytes of a length that is not known beforehand.
pub type SecretBytes = Secret<Vec<u8>>;

impl<T: Zeroize> Secret<T> {
    /// Takes a value into custody.
    pub fn new(value: T) -> Self {
        Self(Zeroizing::new(value))
    }

    /// Shows the value. Each call is a place to review.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize + AsRef<[u8]>> Secret<T> {
    /// Compares in constant time; lengths are not secret.
    pub fn equals(&self, other: &[u8]) -> bool {
        self.0.as_ref().ct_eq(other).into()
    }
}

/// The system's random source failed, so no key can be made.
#[derive(Debug, thiserror::Error)]
#[error("the system's random number source failed; no key was made")]
pub struct NoRandomness;

impl<const N: usize> Secret<[u8; N]> {
    /// A new key from the system's random source.
    pub fn random() -> Result<Self, NoRandomness> {
        let mut value = Zeroizing::new([0; N]);
        rand::fill(value.as_mut_slice()).map_err(|_| NoRandomness)?;
        Ok(Self(value))
    }
}

impl SecretBytes {
    /// A copy of borrowed bytes; the caller wipes the original.
    pub fn copy_of(bytes: &[u8]) -> Self {
        Self::new(bytes.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equality_is_by_content_and_length() {
        let secret = SecretBytes::copy_of(b"abc");
        assert!(secret.equals(b"abc"));
        assert!(!secret.equals(b"abd"));
        assert!(!secret.equals(b"ab"));
    }

    #[test]
    fn random_keys_differ() {
        let (Ok(a), Ok(b)) = (Secret::<[u8; 32]>::random(), Secret::<[u8; 32]>::random()) else {
            panic!("no randomness");
        };
        assert!(!a.equals(b.expose()));
    }
}

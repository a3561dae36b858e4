//! Digests that carry their algorithm, so that no one compares a SHA-256 with a SHA-384 by accident.
//!
//! The text form is the OCI one, `sha256:<hex>`. Hashing is aws-lc-rs, the project's one provider, except for SM3,
//! which it does not have. Left out: signatures and keyed hashes.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sm3::Digest as _;

/// A hash algorithm that evidence, manifests or the protocol name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// SHA-1 (FIPS 180-4). Only to read old event logs; never accepted as a binding.
    Sha1,
    /// SHA-256 (FIPS 180-4).
    Sha256,
    /// SHA-384 (FIPS 180-4).
    Sha384,
    /// SHA-512 (FIPS 180-4).
    Sha512,
    /// SM3 (GB/T 32905-2016). The hash of Hygon's platforms.
    Sm3,
}

impl Algorithm {
    /// The length of a digest, in bytes.
    // No algorithm makes empty digests, so there is no `is_empty`.
    #[allow(clippy::len_without_is_empty)]
    pub const fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 | Self::Sm3 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The lower-case name, as in `sha256`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
            Self::Sm3 => "sm3",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = DigestError;

    /// Reads `sha256` and, as KBS peers also write it, `SHA-256`.
    fn from_str(text: &str) -> Result<Self, DigestError> {
        match text.to_ascii_lowercase().replace('-', "").as_str() {
            "sha1" => Ok(Self::Sha1),
            "sha256" => Ok(Self::Sha256),
            "sha384" => Ok(Self::Sha384),
            "sha512" => Ok(Self::Sha512),
            "sm3" => Ok(Self::Sm3),
            _ => Err(DigestError::Algorithm(text.chars().take(32).collect())),
        }
    }
}

/// Why a text or a byte string is not a digest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DigestError {
    /// The algorithm's name is not known.
    #[error("unknown digest algorithm {0:?}; expected sha1, sha256, sha384, sha512 or sm3")]
    Algorithm(String),
    /// There is no `algorithm:` before the hexadecimal digits.
    #[error("expected algorithm:hex, as in sha256:e3b0…")]
    Form,
    /// The value is not hexadecimal.
    #[error("the digest is not lower-case hexadecimal")]
    Hex,
    /// The value has the wrong length for the algorithm.
    #[error("a {algorithm} digest has {expected} bytes, found {found}")]
    Length {
        /// The algorithm named.
        algorithm: Algorithm,
        /// Its digest length in bytes.
        expected: usize,
        /// The length found.
        found: usize,
    },
}

/// A digest and the algorithm that made it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    bytes: [u8; 64],
}

impl Digest {
    /// Hashes `data`.
    pub fn of(algorithm: Algorithm, data: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(data);
        hasher.finish()
    }

    /// Hashes `data` with SHA-256.
    pub fn sha256(data: &[u8]) -> Self {
        Self::of(Algorithm::Sha256, data)
    }

    /// Takes the bytes of a digest that somebody else made.
    pub fn from_bytes(algorithm: Algorithm, bytes: &[u8]) -> Result<Self, DigestError> {
        let expected = algorithm.len();
        if bytes.len() != expected {
            return Err(DigestError::Length { algorithm, expected, found: bytes.len() });
        }
        let mut own = [0; 64];
        for (to, from) in own.iter_mut().zip(bytes) {
            *to = *from;
        }
        Ok(Self { algorithm, bytes: own })
    }

    /// All zeros: a register that nothing was extended into.
    pub const fn zero(algorithm: Algorithm) -> Self {
        Self { algorithm, bytes: [0; 64] }
    }

    /// The register after `self` was extended by `event`: `H(self || event)` (TCG PC Client PFP 1.05, section 2.3.4).
    pub fn extend(&self, event: &[u8]) -> Self {
        let mut hasher = Hasher::new(self.algorithm);
        hasher.update(self.as_bytes());
        hasher.update(event);
        hasher.finish()
    }

    /// The algorithm.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The digest's bytes, as many as the algorithm makes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.algorithm.len()).unwrap_or(&self.bytes)
    }

    /// The hexadecimal digits without the algorithm.
    pub fn hex(&self) -> String {
        hex::encode(self.as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (algorithm, digits) = text.split_once(':').ok_or(DigestError::Form)?;
        let algorithm = algorithm.parse()?;
        if digits.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(DigestError::Hex);
        }
        let bytes = hex::decode(digits).map_err(|_| DigestError::Hex)?;
        Self::from_bytes(algorithm, &bytes)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Hashes what arrives in pieces.
pub struct Hasher {
    algorithm: Algorithm,
    context: Context,
}

enum Context {
    Provider(digest::Context),
    Sm3(sm3::Sm3),
}

impl Hasher {
    /// Begins.
    pub fn new(algorithm: Algorithm) -> Self {
        let provider = |algorithm| Context::Provider(digest::Context::new(algorithm));
        let context = match algorithm {
            Algorithm::Sha1 => provider(&digest::SHA1_FOR_LEGACY_USE_ONLY),
            Algorithm::Sha256 => provider(&digest::SHA256),
            Algorithm::Sha384 => provider(&digest::SHA384),
            Algorithm::Sha512 => provider(&digest::SHA512),
            Algorithm::Sm3 => Context::Sm3(sm3::Sm3::new()),
        };
        Self { algorithm, context }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, data: &[u8]) {
        match &mut self.context {
            Context::Provider(context) => context.update(data),
            Context::Sm3(context) => context.update(data),
        }
    }

    /// Ends.
    pub fn finish(self) -> Digest {
        match self.context {
            Context::Provider(context) => padded(self.algorithm, context.finish().as_ref()),
            Context::Sm3(context) => padded(self.algorithm, &context.finalize()),
        }
    }
}

/// A digest that has the algorithm's length, because the algorithm made it.
fn padded(algorithm: Algorithm, value: &[u8]) -> Digest {
    let mut bytes = [0; 64];
    for (to, from) in bytes.iter_mut().zip(value) {
        *to = *from;
    }
    Digest { algorithm, bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_the_oci_one_and_reads_back() {
        let digest = Digest::sha256(b"");
        assert_eq!(
            digest.to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }

    #[test]
    fn sm3_hashes_as_the_standards_first_example() {
        let digest = Digest::of(Algorithm::Sm3, b"abc");
        assert_eq!(
            digest.to_string(),
            "sm3:66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"
        );
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }

    #[test]
    fn what_is_no_digest_is_refused_with_its_reason() {
        assert_eq!("e3b0".parse::<Digest>(), Err(DigestError::Form));
        assert_eq!("md5:00".parse::<Digest>(), Err(DigestError::Algorithm("md5".into())));
        assert_eq!("sha256:zz".parse::<Digest>(), Err(DigestError::Hex));
        assert_eq!(
            "sha384:00".parse::<Digest>(),
            Err(DigestError::Length { algorithm: Algorithm::Sha384, expected: 48, found: 1 })
        );
    }

    #[test]
    fn extending_hashes_the_register_before_the_event() {
        let zero = Digest::zero(Algorithm::Sha256);
        let event = Digest::sha256(b"event");
        let by_hand = [[0u8; 32].as_slice(), event.as_bytes()].concat();
        assert_eq!(zero.extend(event.as_bytes()), Digest::sha256(&by_hand));
    }
}

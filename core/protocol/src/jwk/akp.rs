//! Keys that are encapsulated to: ML-KEM-768 as upstream writes it, and our hybrid of P-256 and ML-KEM-768.
//!
//! Both are JWKs of type `AKP`, whose `alg` decides what the bytes of `pub` mean.
//! INVARIANT: the provider has encapsulated to each key once, so that no later encapsulation fails for the key's sake
//! (FIPS 203, section 7.2: the check of the encoded modulus is its own). SPEC: `docs/formats/kbs-hybrid.md`.

use aws_lc_rs::kem::{EncapsulationKey, ML_KEM_768};

use super::{Curve, EcKey, JwkError};
use crate::b64;

/// The `alg` of upstream's ML-KEM keys.
pub const ML_KEM_768_A192KW: &str = "ML-KEM-768+A192KW";
/// The `alg` of our hybrid keys.
pub const HYBRID: &str = "ECDH-ES+ML-KEM-768+A256KW";

/// The length of an encapsulation key of ML-KEM-768 (FIPS 203, table 3).
pub(crate) const ML_KEM_PUBLIC: usize = 1184;
/// The length of a ciphertext of ML-KEM-768 (FIPS 203, table 3).
pub(crate) const ML_KEM_CIPHERTEXT: usize = 1088;
/// The length of an uncompressed point on P-256.
pub(crate) const POINT: usize = 65;

/// An encapsulation key of ML-KEM-768.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MlKemKey(Vec<u8>);

impl MlKemKey {
    /// Takes an encoded key, and refuses what the provider does not encapsulate to.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, JwkError> {
        if bytes.len() != ML_KEM_PUBLIC {
            return Err(JwkError::Length { member: "pub", expected: ML_KEM_PUBLIC, found: bytes.len() });
        }
        let key = Self(bytes);
        key.to_provider().and_then(|key| key.encapsulate().ok()).ok_or(JwkError::MlKem)?;
        Ok(key)
    }

    /// The encoded key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn to_provider(&self) -> Option<EncapsulationKey> {
        EncapsulationKey::new(&ML_KEM_768, &self.0).ok()
    }
}

/// A point on P-256 and an encapsulation key of ML-KEM-768, which stand or fall together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HybridKey {
    pub(crate) point: EcKey,
    pub(crate) kem: MlKemKey,
}

impl HybridKey {
    /// Puts a key together. The point must be on P-256.
    pub fn new(point: EcKey, kem: MlKemKey) -> Result<Self, JwkError> {
        match point.curve() {
            Curve::P256 => Ok(Self { point, kem }),
            other => Err(JwkError::Curve(other.name().to_owned())),
        }
    }

    /// Takes the bytes of `pub`: the uncompressed point, then the encapsulation key.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, JwkError> {
        let expected = POINT.saturating_add(ML_KEM_PUBLIC);
        if bytes.len() != expected {
            return Err(JwkError::Length { member: "pub", expected, found: bytes.len() });
        }
        let (point, kem) = bytes.split_at_checked(POINT).ok_or(JwkError::Missing("pub"))?;
        Self::new(EcKey::from_point(Curve::P256, point)?, MlKemKey::from_bytes(kem.to_vec())?)
    }

    /// The bytes of `pub`.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.point.to_point()[..], self.kem.as_bytes()].concat()
    }
}

/// The JSON of which the thumbprint is made: the required members of an `AKP` key, in lexicographic order.
pub(super) fn thumbprint_text(algorithm: &str, public: &[u8]) -> String {
    format!(r#"{{"alg":"{algorithm}","kty":"AKP","pub":"{}"}}"#, b64::url(public))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::jwk::PublicKey;

    fn vector(form: &str) -> Value {
        let text = include_str!("../../testdata/kem.json");
        serde_json::from_str::<Value>(text).unwrap()[form]["jwk"].clone()
    }

    fn with(form: &str, member: &str, value: Value) -> Result<PublicKey, JwkError> {
        let mut key = vector(form);
        key[member] = value;
        PublicKey::from_json(&key)
    }

    #[test]
    fn the_vectors_keys_read_and_write_the_same() {
        for form in ["ml_kem_768", "hybrid"] {
            let key = PublicKey::from_json(&vector(form)).unwrap();
            assert_eq!(serde_json::to_value(&key).unwrap(), vector(form));
            assert_eq!(key.thumbprint().len(), 43);
            let text = serde_json::to_string(&key).unwrap();
            assert!(text.starts_with(r#"{"kty":"AKP","alg":""#), "{text}");
        }
        assert_ne!(
            PublicKey::from_json(&vector("hybrid")).unwrap().thumbprint(),
            PublicKey::from_json(&vector("ml_kem_768")).unwrap().thumbprint()
        );
    }

    #[test]
    fn each_defect_of_an_encapsulation_key_is_refused_with_its_reason() {
        for form in ["ml_kem_768", "hybrid"] {
            assert!(matches!(with(form, "alg", Value::Null), Err(JwkError::Missing("alg"))));
            assert!(matches!(with(form, "alg", json!("ML-KEM-512+A128KW")), Err(JwkError::Algorithm { .. })));
            assert!(matches!(with(form, "pub", Value::Null), Err(JwkError::Missing("pub"))));
            assert!(matches!(with(form, "pub", json!("%")), Err(JwkError::Base64("pub"))));
            assert!(matches!(with(form, "pub", json!("AAAA")), Err(JwkError::Length { member: "pub", .. })));
            assert!(matches!(with(form, "priv", json!("AAAA")), Err(JwkError::Private)));
        }
        let changed = |form: &str, at: usize, to: [u8; 2]| {
            let mut bytes = b64::from_url(vector(form)["pub"].as_str().unwrap()).unwrap();
            bytes[at..at + 2].copy_from_slice(&to);
            with(form, "pub", json!(b64::url(&bytes)))
        };
        // Two coefficients of 4095, which is above the modulus 3329.
        assert_eq!(changed("ml_kem_768", 0, [0xff, 0xff]), Err(JwkError::MlKem));
        assert_eq!(changed("hybrid", POINT, [0xff, 0xff]), Err(JwkError::MlKem));
        assert_eq!(changed("hybrid", 0, [2, 0]), Err(JwkError::OffCurve("P-256")));
        assert_eq!(changed("hybrid", 10, [0, 0]), Err(JwkError::OffCurve("P-256")));
    }

    #[test]
    fn the_other_algorithm_s_length_is_refused() {
        let alg = |form: &str, other: &str| with(form, "alg", vector(other)["alg"].clone());
        assert!(matches!(
            alg("hybrid", "ml_kem_768"),
            Err(JwkError::Length { expected: ML_KEM_PUBLIC, found: 1249, .. })
        ));
        assert!(matches!(alg("ml_kem_768", "hybrid"), Err(JwkError::Length { expected: 1249, .. })));
    }

    #[test]
    fn a_hybrid_key_has_its_point_on_p_256_only() {
        let PublicKey::Hybrid(key) = PublicKey::from_json(&vector("hybrid")).unwrap() else {
            panic!("not hybrid")
        };
        let other = crate::tee_key::TeeKey::generate_on(Curve::P521).unwrap().public();
        let PublicKey::Ec(point) = other else { panic!("not on a curve") };
        assert_eq!(HybridKey::new(point, key.kem), Err(JwkError::Curve("P-521".into())));
    }
}

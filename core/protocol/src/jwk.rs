//! Public keys that secrets are encrypted to, as JSON Web Keys (RFC 7517, RFC 7518 section 6).
//!
//! INVARIANT: an [`EcKey`] lies on its curve, an [`RsaKey`] is long enough and a [`MlKemKey`] can be encapsulated to;
//! all of it was checked when the key was made.
//! Left out: keys that verify signatures, which are `jws::VerifyingKey`, so that one cannot stand for the other.

mod akp;

use aws_lc_rs::agreement::{self, ParsedPublicKey, UnparsedPublicKey};
use aws_lc_rs::rsa::{
    OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey, PublicKeyComponents,
};
use coffer_core_digest::Digest;
use serde::{Deserialize, Serialize};

use crate::b64;

pub use akp::{HYBRID, HybridKey, ML_KEM_768_A192KW, MlKemKey};
pub(crate) use akp::{ML_KEM_CIPHERTEXT, POINT};

/// The `alg` of EC keys.
pub const ECDH_ES_A256KW: &str = "ECDH-ES+A256KW";
/// The `alg` of RSA keys.
pub const RSA_OAEP_256: &str = "RSA-OAEP-256";

const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// A curve of NIST SP 800-186.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// P-256.
    P256,
    /// P-521.
    P521,
}

impl Curve {
    /// The JWK name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P521 => "P-521",
        }
    }

    /// The length of a coordinate and of a scalar, in bytes.
    pub const fn field_len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P521 => 66,
        }
    }

    pub(crate) fn agreement(self) -> &'static agreement::Algorithm {
        match self {
            Self::P256 => &agreement::ECDH_P256,
            Self::P521 => &agreement::ECDH_P521,
        }
    }

    fn from_name(name: &str) -> Result<Self, JwkError> {
        match name {
            "P-256" => Ok(Self::P256),
            "P-521" => Ok(Self::P521),
            _ => Err(JwkError::Curve(short(name))),
        }
    }
}

/// Why a JWK is not a key that secrets are encrypted to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwkError {
    /// The key's kind is unknown.
    #[error("key type {0:?} is not supported; expected EC, RSA or AKP")]
    Kind(String),
    /// The curve is unknown.
    #[error("curve {0:?} is not supported; expected P-256 or P-521")]
    Curve(String),
    /// The algorithm is not for this kind of key, or is not safe.
    #[error("algorithm {found:?} is not supported for this key; expected {expected}")]
    Algorithm {
        /// The algorithm that the key's kind is used with.
        expected: &'static str,
        /// What the key says.
        found: String,
    },
    /// A member is missing.
    #[error("the key has no member {0:?}")]
    Missing(&'static str),
    /// A member is not base64url without padding.
    #[error("the key's member {0:?} is not base64url without padding")]
    Base64(&'static str),
    /// A coordinate has the wrong length.
    #[error("the key's member {member:?} has {found} bytes; expected {expected}")]
    Length {
        /// The member.
        member: &'static str,
        /// The curve's field length.
        expected: usize,
        /// The length found.
        found: usize,
    },
    /// The coordinates are not those of a point on the curve.
    #[error("the key is not a point on curve {0}")]
    OffCurve(&'static str),
    /// The modulus is too short or too long, or the exponent is unusable.
    #[error("the RSA key is not usable: {0}")]
    Rsa(&'static str),
    /// The encapsulation key is none.
    #[error("the key is not an encapsulation key of ML-KEM-768")]
    MlKem,
    /// The private part was sent too.
    #[error("the key holds its private part; it is no longer secret, make a new one")]
    Private,
    /// The JSON is not a key.
    #[error("not a JSON Web Key: {0}")]
    Json(String),
}

/// A key that secrets are encrypted to: `tee-pubkey` of the protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Members", into = "Members")]
pub enum PublicKey {
    /// Elliptic curve, for ECDH-ES+A256KW.
    Ec(EcKey),
    /// RSA, for RSA-OAEP-256.
    Rsa(RsaKey),
    /// ML-KEM-768 alone, for ML-KEM-768+A192KW.
    MlKem(MlKemKey),
    /// P-256 and ML-KEM-768 together, for ECDH-ES+ML-KEM-768+A256KW.
    Hybrid(HybridKey),
}

/// A point on a curve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EcKey {
    curve: Curve,
    x: Vec<u8>,
    y: Vec<u8>,
}

/// An RSA modulus and exponent, big endian without leading zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RsaKey {
    n: Vec<u8>,
    e: Vec<u8>,
}

/// The JSON members, in the order that upstream writes them.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Members {
    kty: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crv: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alg: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    y: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    e: Option<String>,
    #[serde(default, rename = "pub", skip_serializing_if = "Option::is_none")]
    public: Option<String>,
    #[serde(default, skip_serializing)]
    d: Option<serde::de::IgnoredAny>,
    #[serde(default, rename = "priv", skip_serializing)]
    private: Option<serde::de::IgnoredAny>,
}

impl PublicKey {
    /// Reads a key from JSON. Members that are not known are ignored (RFC 7517, section 4).
    pub fn from_json(value: &serde_json::Value) -> Result<Self, JwkError> {
        let members = Members::deserialize(value).map_err(|error| JwkError::Json(error.to_string()))?;
        Self::try_from(members)
    }

    /// The `alg` that it is used with.
    pub const fn algorithm(&self) -> &'static str {
        match self {
            Self::Ec(_) => ECDH_ES_A256KW,
            Self::Rsa(_) => RSA_OAEP_256,
            Self::MlKem(_) => ML_KEM_768_A192KW,
            Self::Hybrid(_) => HYBRID,
        }
    }

    /// The SHA-256 thumbprint in base64url (RFC 7638).
    pub fn thumbprint(&self) -> String {
        // RFC 7638, section 3.2: the required members only, in lexicographic order, without white space.
        let text = match self {
            Self::Ec(key) => return key.thumbprint(),
            Self::Rsa(key) => {
                format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, b64::url(&key.e), b64::url(&key.n))
            }
            Self::MlKem(key) => akp::thumbprint_text(ML_KEM_768_A192KW, key.as_bytes()),
            Self::Hybrid(key) => akp::thumbprint_text(HYBRID, &key.to_bytes()),
        };
        b64::url(Digest::sha256(text.as_bytes()).as_bytes())
    }
}

impl EcKey {
    /// As [`PublicKey::thumbprint`].
    pub(crate) fn thumbprint(&self) -> String {
        let (x, y) = self.coordinates();
        let text = format!(r#"{{"crv":"{}","kty":"EC","x":"{x}","y":"{y}"}}"#, self.curve.name());
        b64::url(Digest::sha256(text.as_bytes()).as_bytes())
    }

    /// Takes coordinates, and refuses what is not a point on the curve.
    pub fn from_coordinates(curve: Curve, x: Vec<u8>, y: Vec<u8>) -> Result<Self, JwkError> {
        let expected = curve.field_len();
        for (member, bytes) in [("x", &x), ("y", &y)] {
            if bytes.len() != expected {
                return Err(JwkError::Length { member, expected, found: bytes.len() });
            }
        }
        let key = Self { curve, x, y };
        let point = UnparsedPublicKey::new(curve.agreement(), key.to_point());
        let parsed = ParsedPublicKey::try_from(&point).map_err(|_| JwkError::OffCurve(curve.name()))?;
        match parsed.alg() == curve.agreement() {
            true => Ok(key),
            false => Err(JwkError::OffCurve(curve.name())),
        }
    }

    /// Takes an uncompressed point (SEC 1, section 2.3.3).
    pub(crate) fn from_point(curve: Curve, point: &[u8]) -> Result<Self, JwkError> {
        let coordinates = point.strip_prefix(&[4]).and_then(|rest| rest.split_at_checked(curve.field_len()));
        let (x, y) = coordinates.ok_or(JwkError::OffCurve(curve.name()))?;
        Self::from_coordinates(curve, x.to_vec(), y.to_vec())
    }

    /// The curve.
    pub fn curve(&self) -> Curve {
        self.curve
    }

    /// The uncompressed point (SEC 1, section 2.3.3).
    pub fn to_point(&self) -> Vec<u8> {
        [&[4][..], &self.x, &self.y].concat()
    }

    /// The coordinates in base64url.
    pub(crate) fn coordinates(&self) -> (String, String) {
        (b64::url(&self.x), b64::url(&self.y))
    }
}

impl RsaKey {
    /// Takes modulus and exponent, and refuses what the provider would not encrypt to.
    pub fn from_components(n: Vec<u8>, e: Vec<u8>) -> Result<Self, JwkError> {
        if !RSA_BYTES.contains(&n.len()) {
            return Err(JwkError::Rsa("the modulus has fewer than 2048 or more than 8192 bits"));
        }
        let key = Self { n, e };
        let provider = key.to_provider()?;
        if provider.key_size_bits() < 2048 {
            return Err(JwkError::Rsa("the modulus has fewer than 2048 bits"));
        }
        // The provider takes an even modulus and fails only when it encrypts: so encrypt once.
        let refused = |_| JwkError::Rsa("the provider does not encrypt to it");
        let trial = OaepPublicEncryptingKey::new(provider).map_err(refused)?;
        let mut room = vec![0; trial.ciphertext_size()];
        trial.encrypt(&OAEP_SHA256_MGF1SHA256, &[0; 32], &mut room, None).map_err(refused)?;
        Ok(key)
    }

    /// Modulus and exponent, big endian.
    pub(crate) fn components(&self) -> (&[u8], &[u8]) {
        (&self.n, &self.e)
    }

    pub(crate) fn to_provider(&self) -> Result<PublicEncryptingKey, JwkError> {
        let components = PublicKeyComponents { n: self.n.as_slice(), e: self.e.as_slice() };
        components.try_into().map_err(|_| JwkError::Rsa("the provider refuses modulus or exponent"))
    }
}

impl TryFrom<Members> for PublicKey {
    type Error = JwkError;

    fn try_from(members: Members) -> Result<Self, JwkError> {
        if members.d.is_some() || members.private.is_some() {
            return Err(JwkError::Private);
        }
        let bytes = |name: &'static str, member: &Option<String>| {
            let text = member.as_deref().ok_or(JwkError::Missing(name))?;
            b64::from_url(text).map_err(|_| JwkError::Base64(name))
        };
        let expect = |expected: &'static str| match &members.alg {
            Some(found) if found != expected => Err(JwkError::Algorithm { expected, found: short(found) }),
            _ => Ok(()),
        };
        match members.kty.as_str() {
            "EC" => {
                let curve = Curve::from_name(members.crv.as_deref().ok_or(JwkError::Missing("crv"))?)?;
                expect(ECDH_ES_A256KW)?;
                let key = EcKey::from_coordinates(curve, bytes("x", &members.x)?, bytes("y", &members.y)?)?;
                Ok(Self::Ec(key))
            }
            "RSA" => {
                expect(RSA_OAEP_256)?;
                Ok(Self::Rsa(RsaKey::from_components(bytes("n", &members.n)?, bytes("e", &members.e)?)?))
            }
            "AKP" => match members.alg.as_deref().ok_or(JwkError::Missing("alg"))? {
                ML_KEM_768_A192KW => Ok(Self::MlKem(MlKemKey::from_bytes(bytes("pub", &members.public)?)?)),
                HYBRID => Ok(Self::Hybrid(HybridKey::from_bytes(&bytes("pub", &members.public)?)?)),
                found => {
                    let expected = "ECDH-ES+ML-KEM-768+A256KW or ML-KEM-768+A192KW";
                    Err(JwkError::Algorithm { expected, found: short(found) })
                }
            },
            other => Err(JwkError::Kind(short(other))),
        }
    }
}

impl From<PublicKey> for Members {
    fn from(key: PublicKey) -> Self {
        let akp = |public: &[u8]| Self {
            kty: "AKP".into(),
            alg: Some(key.algorithm().into()),
            public: Some(b64::url(public)),
            ..Self::default()
        };
        match &key {
            PublicKey::MlKem(key) => akp(key.as_bytes()),
            PublicKey::Hybrid(key) => akp(&key.to_bytes()),
            PublicKey::Ec(key) => {
                let (x, y) = key.coordinates();
                Self {
                    kty: "EC".into(),
                    crv: Some(key.curve.name().into()),
                    alg: Some(ECDH_ES_A256KW.into()),
                    x: Some(x),
                    y: Some(y),
                    ..Self::default()
                }
            }
            PublicKey::Rsa(key) => Self {
                kty: "RSA".into(),
                alg: Some(RSA_OAEP_256.into()),
                n: Some(b64::url(&key.n)),
                e: Some(b64::url(&key.e)),
                ..Self::default()
            },
        }
    }
}

/// What a peer sent, as errors quote it.
pub(crate) fn short(text: &str) -> String {
    text.chars().take(32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn recorded() -> Value {
        json!({"kty":"EC","crv":"P-256","alg":"ECDH-ES+A256KW",
            "x":"nx4ILENzRM4U_IvOMV-6adbw7xotURxT0Y-cgP7MLys",
            "y":"VF1QbIEc9CfngCcoDe2bdiF6XxlA20nsBkUeefZepIo"})
    }

    fn with(member: &str, value: impl Into<Value>) -> Result<PublicKey, JwkError> {
        let mut key = recorded();
        key[member] = value.into();
        PublicKey::from_json(&key)
    }

    #[test]
    fn a_key_is_written_in_upstream_s_member_order() {
        let key = PublicKey::from_json(&recorded()).unwrap();
        assert_eq!(
            serde_json::to_string(&key).unwrap(),
            r#"{"kty":"EC","crv":"P-256","alg":"ECDH-ES+A256KW","x":"nx4ILENzRM4U_IvOMV-6adbw7xotURxT0Y-cgP7MLys","y":"VF1QbIEc9CfngCcoDe2bdiF6XxlA20nsBkUeefZepIo"}"#
        );
    }

    #[test]
    fn unknown_members_and_an_absent_algorithm_are_tolerated() {
        let plain = PublicKey::from_json(&recorded()).unwrap();
        assert_eq!(with("kid", "guest"), Ok(plain.clone()));
        assert_eq!(with("alg", Value::Null), Ok(plain));
    }

    #[test]
    fn each_defect_of_a_key_is_refused_with_its_reason() {
        assert_eq!(with("kty", "oct"), Err(JwkError::Kind("oct".into())));
        assert_eq!(with("crv", "P-384"), Err(JwkError::Curve("P-384".into())));
        assert_eq!(with("x", Value::Null), Err(JwkError::Missing("x")));
        assert_eq!(with("x", "%"), Err(JwkError::Base64("x")));
        assert_eq!(with("y", "AAAA"), Err(JwkError::Length { member: "y", expected: 32, found: 3 }));
        assert_eq!(with("d", "AAAA"), Err(JwkError::Private));
        assert_eq!(with("crv", "P-521"), Err(JwkError::Length { member: "x", expected: 66, found: 32 }));
        let x = recorded()["x"].clone();
        assert_eq!(with("y", x), Err(JwkError::OffCurve("P-256")));
        assert!(matches!(with("alg", "ES256"), Err(JwkError::Algorithm { .. })));
        assert!(matches!(with("kty", 1), Err(JwkError::Json(_))));
    }

    #[test]
    fn thumbprint_is_that_of_rfc_7638_section_3_1() {
        let key = PublicKey::from_json(&json!({
            "kty": "RSA",
            "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
            "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"
        }));
        assert!(matches!(key, Err(JwkError::Algorithm { expected: RSA_OAEP_256, .. })));
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let key = PublicKey::from_json(&json!({"kty": "RSA", "n": n, "e": "AQAB"})).unwrap();
        assert_eq!(key.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
        let written = serde_json::to_string(&key).unwrap();
        assert!(written.starts_with(r#"{"kty":"RSA","alg":"RSA-OAEP-256","n":"0vx7"#), "{written}");
    }

    #[test]
    fn unsafe_rsa_keys_are_refused() {
        let rsa = |n: Vec<u8>, e: &str, alg: &str| {
            PublicKey::from_json(&json!({"kty":"RSA","n":b64::url(&n),"e":e,"alg":alg}))
        };
        assert!(matches!(rsa(vec![0xff; 128], "AQAB", RSA_OAEP_256), Err(JwkError::Rsa(_))));
        assert!(matches!(rsa(vec![0xff; 2048], "AQAB", RSA_OAEP_256), Err(JwkError::Rsa(_))));
        assert!(matches!(rsa(vec![0xff; 256], "AA", RSA_OAEP_256), Err(JwkError::Rsa(_))));
        let even = [vec![0xff; 255], vec![0xfe]].concat();
        assert!(matches!(rsa(even, "AQAB", RSA_OAEP_256), Err(JwkError::Rsa(_))));
        assert!(rsa(vec![0xff; 256], "AQAB", RSA_OAEP_256).is_ok());
        assert!(matches!(rsa(vec![0xff; 256], "AQAB", "RSA1_5"), Err(JwkError::Algorithm { .. })));
    }
}

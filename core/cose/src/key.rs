//! Keys: which curve, which algorithm, in the forms that formats carry them.
//!
//! INVARIANT: a key is a point on its curve, because the provider parsed it before anything was verified with it.
//! The curve decides the algorithm, as the profiles of all formats read here have it (RFC 9053, section 2.1).

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED,
    ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED, ECDSA_P521_SHA512_FIXED_SIGNING, ED25519,
    EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _, ParsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::cbor::{Map, Value};

/// A signature algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// The algorithm with this identifier: those of RFC 9053 and the fully specified ones of RFC 9864.
    pub const fn from_id(id: i64) -> Option<Self> {
        match id {
            -7 | -9 => Some(Self::Es256),
            -35 | -51 => Some(Self::Es384),
            -36 | -52 => Some(Self::Es512),
            -8 | -19 => Some(Self::EdDsa),
            _ => None,
        }
    }

    /// Its identifier in RFC 9053.
    pub const fn id(self) -> i64 {
        match self {
            Self::Es256 => -7,
            Self::Es384 => -35,
            Self::Es512 => -36,
            Self::EdDsa => -8,
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Curve {
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
    /// NIST P-521.
    P521,
    /// Edwards 25519.
    Ed25519,
}

impl Curve {
    const ALL: [Self; 4] = [Self::P256, Self::P384, Self::P521, Self::Ed25519];

    /// The algorithm that its keys sign with.
    pub const fn algorithm(self) -> Algorithm {
        match self {
            Self::P256 => Algorithm::Es256,
            Self::P384 => Algorithm::Es384,
            Self::P521 => Algorithm::Es512,
            Self::Ed25519 => Algorithm::EdDsa,
        }
    }

    /// The name that JWK (RFC 7518) and people use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
            Self::Ed25519 => "Ed25519",
        }
    }

    /// The curve of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|curve| curve.name() == name)
    }

    /// The length of a coordinate in bytes.
    pub const fn coordinate(self) -> usize {
        match self {
            Self::P256 | Self::Ed25519 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// The curve whose keys have this length: a point without compression, or an Edwards key.
    pub fn of_length(length: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|curve| curve.key_length() == length)
    }

    const fn key_length(self) -> usize {
        match self {
            Self::Ed25519 => 32,
            // A byte that says "not compressed", then two coordinates.
            Self::P256 => 65,
            Self::P384 => 97,
            Self::P521 => 133,
        }
    }

    /// Its number in a COSE_Key (RFC 9053, section 7.1).
    const fn id(self) -> i64 {
        match self {
            Self::P256 => 1,
            Self::P384 => 2,
            Self::P521 => 3,
            Self::Ed25519 => 6,
        }
    }

    /// What stands before the key in a `SubjectPublicKeyInfo` (RFC 5480, RFC 8410).
    const fn spki_prefix(self) -> &'static [u8] {
        match self {
            Self::P256 => {
                b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\0"
            }
            Self::P384 => {
                b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\0"
            }
            Self::P521 => {
                b"\x30\x81\x9b\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x23\x03\x81\x86\0"
            }
            Self::Ed25519 => b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\0",
        }
    }

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED,
            Self::P384 => &ECDSA_P384_SHA384_FIXED,
            Self::P521 => &ECDSA_P521_SHA512_FIXED,
            Self::Ed25519 => &ED25519,
        }
    }
}

/// Why something is not a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The form is not that of a key.
    #[error("not a key: {0}")]
    Form(&'static str),
    /// The length is not that of the curve.
    #[error("a key on {} has {expected} bytes, found {found}", .curve.name())]
    Length {
        /// The curve.
        curve: Curve,
        /// Its key length.
        expected: usize,
        /// The length found.
        found: usize,
    },
    /// The point is not on the curve.
    #[error("the key is not a point on {}", .0.name())]
    OffCurve(Curve),
    /// The provider failed.
    #[error("the cryptographic provider failed at {0}")]
    Provider(&'static str),
}

/// A public key that verifies signatures.
#[derive(Clone)]
pub struct PublicKey {
    curve: Curve,
    bytes: Vec<u8>,
    parsed: Arc<ParsedPublicKey>,
}

impl PublicKey {
    /// A point as in SEC 1, section 2.3.3, without compression; for Ed25519 the 32 bytes of RFC 8032.
    pub fn from_point(curve: Curve, bytes: &[u8]) -> Result<Self, KeyError> {
        let (expected, found) = (curve.key_length(), bytes.len());
        if expected != found {
            return Err(KeyError::Length { curve, expected, found });
        }
        if curve != Curve::Ed25519 && bytes.first() != Some(&4) {
            return Err(KeyError::Form("the point is compressed"));
        }
        let parsed =
            ParsedPublicKey::new(curve.verification(), bytes).map_err(|_| KeyError::OffCurve(curve))?;
        Ok(Self { curve, bytes: bytes.to_vec(), parsed: Arc::new(parsed) })
    }

    /// Two coordinates, big endian. Leading zeros may be left out, as some writers do.
    pub fn from_coordinates(curve: Curve, x: &[u8], y: &[u8]) -> Result<Self, KeyError> {
        let expected = curve.coordinate();
        let mut point = vec![4];
        for coordinate in [x, y] {
            let missing = expected.checked_sub(coordinate.len());
            let missing = missing.ok_or(KeyError::Length { curve, expected, found: coordinate.len() })?;
            point.resize(point.len().saturating_add(missing), 0);
            point.extend_from_slice(coordinate);
        }
        Self::from_point(curve, &point)
    }

    /// A `SubjectPublicKeyInfo` in DER.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, KeyError> {
        let found =
            Curve::ALL.into_iter().find_map(|curve| Some((curve, der.strip_prefix(curve.spki_prefix())?)));
        let (curve, key) =
            found.ok_or(KeyError::Form("no SubjectPublicKeyInfo of P-256, P-384, P-521 or Ed25519"))?;
        Self::from_point(curve, key)
    }

    /// A `SubjectPublicKeyInfo` in PEM.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        Self::from_spki_der(&pem(text, &["PUBLIC KEY"])?)
    }

    /// A COSE_Key (RFC 9052, section 7).
    pub fn from_cose_key(key: &Value) -> Result<Self, KeyError> {
        let key = key.as_map().ok_or(KeyError::Form("a COSE_Key is a map"))?;
        let curve = key.at(-1).and_then(Value::as_i64);
        let curve = Curve::ALL.into_iter().find(|one| Some(one.id()) == curve);
        let curve = curve.ok_or(KeyError::Form("the COSE_Key names no curve that is known"))?;
        let coordinate = |label: i64| {
            let bytes = key.at(label).and_then(Value::as_bytes);
            bytes.ok_or(KeyError::Form("the COSE_Key lacks a coordinate"))
        };
        if let Some(algorithm) = key.at(3)
            && algorithm.as_i64().and_then(Algorithm::from_id) != Some(curve.algorithm())
        {
            return Err(KeyError::Form("the COSE_Key is for an algorithm that is not its curve's"));
        }
        match (key.at(1).and_then(Value::as_i64), curve) {
            (Some(1), Curve::Ed25519) => Self::from_point(curve, coordinate(-2)?),
            (Some(2), Curve::P256 | Curve::P384 | Curve::P521) => {
                Self::from_coordinates(curve, coordinate(-2)?, coordinate(-3)?)
            }
            _ => Err(KeyError::Form("the COSE_Key has a type that is not its curve's")),
        }
    }

    /// The key as COSE_Key.
    pub fn to_cose_key(&self) -> Value {
        let map = Map::new().with(-1, self.curve.id());
        let point = self.bytes.split_at_checked(1).map_or(&[][..], |(_, point)| point);
        match (self.curve, point.split_at_checked(self.curve.coordinate())) {
            (Curve::Ed25519, _) => map.with(1, 1).with(-2, self.bytes.as_slice()),
            (_, Some((x, y))) => map.with(1, 2).with(-2, x).with(-3, y),
            (_, None) => map,
        }
        .into()
    }

    /// The key as `SubjectPublicKeyInfo` in DER.
    pub fn to_spki_der(&self) -> Vec<u8> {
        [self.curve.spki_prefix(), &self.bytes].concat()
    }

    /// The curve.
    pub const fn curve(&self) -> Curve {
        self.curve
    }

    /// The algorithm that the key verifies.
    pub const fn algorithm(&self) -> Algorithm {
        self.curve.algorithm()
    }

    /// The point, or the Edwards key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether this key signed the message.
    pub(crate) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        self.parsed.verify_sig(message, signature).is_ok()
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        (self.curve, &self.bytes) == (other.curve, &other.bytes)
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey").field("curve", &self.curve).finish_non_exhaustive()
    }
}

/// A private key that makes signatures. It is not shown and not copied.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    public: PublicKey,
}

impl SigningKey {
    /// A new key.
    pub fn generate(curve: Curve) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::generate(signing(curve)?);
        Self::of(curve, pair.map_err(|_| KeyError::Provider("generating a key"))?)
    }

    /// A private key in PKCS #8 or in the form of RFC 5915, on P-256, P-384 or P-521, in DER.
    pub fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        for curve in [Curve::P256, Curve::P384, Curve::P521] {
            let algorithm = signing(curve)?;
            let pair = EcdsaKeyPair::from_pkcs8(algorithm, der);
            if let Ok(pair) = pair.or_else(|_| EcdsaKeyPair::from_private_key_der(algorithm, der)) {
                return Self::of(curve, pair);
            }
        }
        Err(KeyError::Form("no private key on P-256, P-384 or P-521"))
    }

    /// The same in PEM.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        Self::from_der(&pem(text, &["PRIVATE KEY", "EC PRIVATE KEY"])?)
    }

    fn of(curve: Curve, pair: EcdsaKeyPair) -> Result<Self, KeyError> {
        let public = PublicKey::from_point(curve, pair.public_key().as_ref())?;
        Ok(Self { pair, public })
    }

    /// The public key.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signature = self.pair.sign(&SystemRandom::new(), message);
        signature.map(|made| made.as_ref().to_vec()).map_err(|_| KeyError::Provider("signing"))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public).finish_non_exhaustive()
    }
}

fn signing(curve: Curve) -> Result<&'static EcdsaSigningAlgorithm, KeyError> {
    match curve {
        Curve::P256 => Ok(&ECDSA_P256_SHA256_FIXED_SIGNING),
        Curve::P384 => Ok(&ECDSA_P384_SHA384_FIXED_SIGNING),
        Curve::P521 => Ok(&ECDSA_P521_SHA512_FIXED_SIGNING),
        Curve::Ed25519 => Err(KeyError::Form("Ed25519 keys verify here, but do not sign")),
    }
}

/// The first block under one of these labels (RFC 7468).
fn pem(text: &str, labels: &[&str]) -> Result<Vec<u8>, KeyError> {
    for label in labels {
        let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
        let body = text.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end));
        if let Some((body, _)) = body {
            let digits: String = body.split_ascii_whitespace().collect();
            return STANDARD.decode(digits).map_err(|_| KeyError::Form("the PEM block is not base64"));
        }
    }
    Err(KeyError::Form("no PEM block of a key"))
}

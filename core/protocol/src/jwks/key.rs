//! One key that verifies the signatures of others: P-256, P-384, Ed25519 or RSA.
//!
//! It is another type than `jws::VerifyingKey`, which only our own kinds of keys are, so that widening what is taken
//! from others widens nothing of what our admins and our tokens are verified with.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
};
use coffer_core_digest::Digest;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::b64;
use crate::jwk::{RsaKey, short};
use crate::jws::{JwsError, VerifyingKey};

/// A signature algorithm (RFC 7518, section 3.1; RFC 8037, section 3.1). There is no `none` and no HMAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SignatureAlgorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
    /// RSA PKCS #1 v1.5 with SHA-256.
    Rs256,
    /// RSA-PSS with SHA-256.
    Ps256,
}

impl SignatureAlgorithm {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Es256, Self::Es384, Self::EdDsa, Self::Rs256, Self::Ps256];

    /// The name in `alg`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
        }
    }

    /// The algorithm of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Material {
    Ours(VerifyingKey),
    /// The uncompressed point.
    P384(Vec<u8>),
    Rsa {
        key: RsaKey,
        /// The one scheme that the JWK names; without it both are the key's.
        only: Option<SignatureAlgorithm>,
    },
}

/// A public key that verifies the signatures of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureKey(Material);

#[derive(Deserialize)]
struct Members {
    kty: String,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
}

/// `SubjectPublicKeyInfo` of P-384 and P-256 up to the point, and of Ed25519 up to the key (RFC 5480, RFC 8410).
const SPKI_P384: [u8; 23] = [
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81,
    0x04, 0x00, 0x22, 0x03, 0x62, 0x00,
];
const SPKI_P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const SPKI_ED25519: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

impl From<VerifyingKey> for SignatureKey {
    fn from(key: VerifyingKey) -> Self {
        Self(Material::Ours(key))
    }
}

impl SignatureKey {
    /// Reads a JWK. Members that are not known are ignored (RFC 7517, section 4).
    pub fn from_jwk(value: &Value) -> Result<Self, JwsError> {
        let members = Members::deserialize(value)?;
        let bytes = |member: &Option<String>| {
            let text = member.as_deref().ok_or(JwsError::Key("a member is missing"))?;
            b64::from_url(text).map_err(|_| JwsError::Key("a member is not base64url"))
        };
        match (members.kty.as_str(), members.crv.as_deref()) {
            ("EC", Some("P-384")) => {
                named(&members, "ES384")?;
                let point = [&[4][..], &bytes(&members.x)?, &bytes(&members.y)?].concat();
                let parsed = ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, &point);
                match parsed.is_ok() && point.len() == 97 {
                    true => Ok(Self(Material::P384(point))),
                    false => Err(JwsError::Key("not a point on P-384")),
                }
            }
            ("RSA", _) => {
                let key = RsaKey::from_components(bytes(&members.n)?, bytes(&members.e)?);
                let key = key.map_err(|_| JwsError::Key("not an RSA key of 2048 to 8192 bits"))?;
                let only = match members.alg.as_deref() {
                    None => None,
                    Some("RS256") => Some(SignatureAlgorithm::Rs256),
                    Some("PS256") => Some(SignatureAlgorithm::Ps256),
                    Some(found) => {
                        return Err(JwsError::Algorithm { expected: "RS256 or PS256", found: short(found) });
                    }
                };
                Ok(Self(Material::Rsa { key, only }))
            }
            ("EC" | "OKP", _) => Ok(Self(Material::Ours(VerifyingKey::deserialize(value)?))),
            _ => Err(JwsError::Key("expected EC on P-256 or P-384, OKP on Ed25519, or RSA")),
        }
    }

    /// Whether the key is one for an algorithm.
    pub fn is_for(&self, algorithm: SignatureAlgorithm) -> bool {
        match &self.0 {
            Material::Ours(key) => key.algorithm() == algorithm.name(),
            Material::P384(_) => algorithm == SignatureAlgorithm::Es384,
            Material::Rsa { only: Some(only), .. } => *only == algorithm,
            Material::Rsa { only: None, .. } => {
                matches!(algorithm, SignatureAlgorithm::Rs256 | SignatureAlgorithm::Ps256)
            }
        }
    }

    /// Verifies a signature in the form that JWS has it. The algorithm must be one of the key's.
    pub fn verify(
        &self,
        algorithm: SignatureAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), JwsError> {
        if !self.is_for(algorithm) {
            let found = algorithm.name().to_owned();
            return Err(JwsError::Algorithm { expected: self.kind(), found });
        }
        match &self.0 {
            Material::Ours(key) => key.verify(message, signature),
            Material::P384(point) => ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point)
                .map_err(|_| JwsError::Key("the provider refuses it"))?
                .verify_sig(message, signature)
                .map_err(|_| JwsError::Signature),
            Material::Rsa { key, .. } => {
                let (n, e) = key.components();
                let scheme = match algorithm {
                    SignatureAlgorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
                    _ => &RSA_PKCS1_2048_8192_SHA256,
                };
                let verified = PublicKeyComponents { n, e }.verify(scheme, message, signature);
                verified.map_err(|_| JwsError::Signature)
            }
        }
    }

    /// The SHA-256 thumbprint in base64url (RFC 7638).
    pub fn thumbprint(&self) -> String {
        let text = match &self.0 {
            Material::Ours(key) => return key.thumbprint(),
            Material::P384(point) => {
                let (x, y) = halves(point);
                format!(r#"{{"crv":"P-384","kty":"EC","x":"{x}","y":"{y}"}}"#)
            }
            Material::Rsa { key, .. } => {
                let (n, e) = key.components();
                format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, b64::url(e), b64::url(n))
            }
        };
        b64::url(Digest::sha256(text.as_bytes()).as_bytes())
    }

    /// The key as `SubjectPublicKeyInfo` in DER, as a certificate has it.
    pub fn spki_der(&self) -> Result<Vec<u8>, JwsError> {
        Ok(match &self.0 {
            Material::Ours(key) => {
                let prefix = if key.algorithm() == "ES256" { &SPKI_P256[..] } else { &SPKI_ED25519[..] };
                [prefix, &key.to_raw()].concat()
            }
            Material::P384(point) => [&SPKI_P384[..], point].concat(),
            Material::Rsa { key, .. } => {
                let provider = key.to_provider().map_err(|_| JwsError::Key("the provider refuses it"))?;
                let der = provider.as_der().map_err(|_| JwsError::Provider("writing the key"))?;
                der.as_ref().to_vec()
            }
        })
    }

    /// The members of its JWK.
    pub(super) fn to_members(&self) -> Map<String, Value> {
        let of = |pairs: &[(&str, String)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), Value::from(value.clone()))).collect()
        };
        match &self.0 {
            Material::Ours(key) => match serde_json::to_value(key) {
                Ok(Value::Object(members)) => members,
                // Unreachable: the key's form is an object of texts.
                _ => Map::new(),
            },
            Material::P384(point) => {
                let (x, y) = halves(point);
                of(&[
                    ("kty", "EC".into()),
                    ("crv", "P-384".into()),
                    ("alg", "ES384".into()),
                    ("x", x),
                    ("y", y),
                ])
            }
            Material::Rsa { key, only } => {
                let (n, e) = key.components();
                let mut members: Map<String, Value> =
                    of(&[("kty", "RSA".into()), ("n", b64::url(n)), ("e", b64::url(e))]);
                if let Some(only) = only {
                    members.insert("alg".into(), only.name().into());
                }
                members
            }
        }
    }

    fn kind(&self) -> &'static str {
        match &self.0 {
            Material::Ours(key) => key.algorithm(),
            Material::P384(_) => "ES384",
            Material::Rsa { only: Some(only), .. } => only.name(),
            Material::Rsa { only: None, .. } => "RS256 or PS256",
        }
    }
}

fn named(members: &Members, expected: &'static str) -> Result<(), JwsError> {
    match &members.alg {
        Some(found) if found != expected => Err(JwsError::Algorithm { expected, found: short(found) }),
        _ => Ok(()),
    }
}

/// The coordinates of an uncompressed point in base64url.
fn halves(point: &[u8]) -> (String, String) {
    let coordinates = point.get(1..).unwrap_or_default();
    let (x, y) = coordinates.split_at_checked(coordinates.len() / 2).unwrap_or_default();
    (b64::url(x), b64::url(y))
}

//! Encryption to the guest's key: JWE in its flattened JSON form (RFC 7516, section 7.2.2).
//!
//! ECDH-ES+A256KW, RSA-OAEP-256, ML-KEM-768+A192KW and our hybrid with A256GCM, and nothing else: `zip`, `crit`,
//! unprotected headers, other algorithms, and ephemeral keys off the curve or of another curve are refused, each with
//! its reason. Left out: opening RSA, because our guests make no such keys; [`recipients`] does that for owners.

mod kem;
pub mod recipients;
mod wrapping;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::digest;
use coffer_core_secret::{NoRandomness, Secret, SecretBytes};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::b64;
use crate::jwk::{
    ECDH_ES_A256KW, EcKey, HYBRID, JwkError, ML_KEM_768_A192KW, PublicKey, RSA_OAEP_256, short,
};
use crate::kmac::Kmac256;
use crate::tee_key::{EcPrivate, EphemeralKey, Kind, TeeKey};
use wrapping::{unwrap, unwrap_192, wrap, wrap_192, wrap_rsa};

/// The one content encryption.
pub const A256GCM: &str = "A256GCM";
const KEY_LEN: usize = 32;
const IV_LEN: usize = 12;
const TAG_LEN: usize = 16;

/// Why a JWE is refused, or could not be made.
#[derive(Debug, thiserror::Error)]
pub enum JweError {
    /// Not the JSON of a flattened JWE.
    #[error("not a JWE in flattened JSON form: {0}")]
    Json(#[from] serde_json::Error),
    /// A part is not base64url without padding.
    #[error("the JWE's {0} is not base64url without padding")]
    Base64(&'static str),
    /// A part has the wrong length.
    #[error("the JWE's {part} has {found} bytes; expected {expected}")]
    Length {
        /// The part.
        part: &'static str,
        /// The length that the algorithm asks for.
        expected: usize,
        /// The length found.
        found: usize,
    },
    /// There is a header that the tag does not cover.
    #[error("the JWE has an unprotected header; everything must be in the protected one")]
    UnprotectedHeader,
    /// More recipients than an honest message has, or none.
    #[error("the JWE has {found} recipients; expected 1 to {most}")]
    Recipients {
        /// The most that are read.
        most: usize,
        /// How many there are.
        found: usize,
    },
    /// A key in DER is not one that JWEs are encrypted to.
    #[error("the key is not one that a JWE is encrypted to: {0}")]
    Key(&'static str),
    /// The content is compressed (RFC 7516, section 4.1.3), which leaks and bombs.
    #[error("the JWE is compressed (zip), which is not accepted")]
    Compressed,
    /// An extension must be understood (RFC 7516, section 4.1.13).
    #[error("the JWE has critical extensions (crit); none is known")]
    Critical,
    /// The key management algorithm is not supported.
    #[error("key management algorithm {found:?} is not accepted; expected {expected}")]
    Algorithm {
        /// What the key is used with.
        expected: &'static str,
        /// What the header says.
        found: String,
    },
    /// The content encryption is not supported.
    #[error("content encryption {0:?} is not accepted; expected A256GCM")]
    Encryption(String),
    /// The ephemeral key is missing or is no usable key.
    #[error("the JWE's ephemeral key (epk) is refused: {0}")]
    EphemeralKey(#[source] JwkError),
    /// The ephemeral key is of another curve than ours.
    #[error("the JWE's ephemeral key is on {found}; our key is on {expected}")]
    EphemeralCurve {
        /// Our curve.
        expected: &'static str,
        /// Theirs.
        found: &'static str,
    },
    /// The encapsulated key is missing.
    #[error("the JWE's header has no encapsulated key (ek)")]
    NoEncapsulation,
    /// This program was assembled without KMAC256.
    #[error("this program has no KMAC256, which {ML_KEM_768_A192KW} needs; use {HYBRID} or {ECDH_ES_A256KW}")]
    NoKmac,
    /// The content key does not unwrap: it was made for another key.
    #[error("the JWE was not encrypted to this key, or its encrypted key was changed")]
    Unwrap,
    /// The tag does not fit.
    #[error("the JWE was changed: its authentication tag does not fit")]
    Tag,
    /// Random bytes could not be had.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// The provider failed at a step that does not fail with valid keys.
    #[error("encrypting to the key failed at {0}")]
    Provider(&'static str),
}

/// An encrypted message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Members")]
pub struct Jwe {
    protected: String,
    encrypted_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    aad: Option<String>,
    iv: String,
    ciphertext: String,
    tag: String,
}

#[derive(Deserialize)]
struct Members {
    protected: String,
    encrypted_key: String,
    #[serde(default)]
    aad: Option<String>,
    iv: String,
    ciphertext: String,
    tag: String,
    #[serde(default)]
    header: Option<Value>,
    #[serde(default)]
    unprotected: Option<Value>,
    #[serde(default)]
    recipients: Option<Value>,
}

impl TryFrom<Members> for Jwe {
    type Error = JweError;

    fn try_from(members: Members) -> Result<Self, JweError> {
        let Members { protected, encrypted_key, aad, iv, ciphertext, tag, header, unprotected, recipients } =
            members;
        match (header, unprotected, recipients) {
            (None, None, None) => Ok(Self { protected, encrypted_key, aad, iv, ciphertext, tag }),
            _ => Err(JweError::UnprotectedHeader),
        }
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Header {
    alg: String,
    enc: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epk: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ek: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    apu: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    apv: Option<String>,
}

impl Header {
    /// The key that wraps the content key, agreed with the ephemeral key.
    fn kek(&self, key: &EcPrivate) -> Result<Secret<[u8; KEY_LEN]>, JweError> {
        let epk = self.epk.as_ref().ok_or(JweError::EphemeralKey(JwkError::Missing("epk")))?;
        let epk = match PublicKey::from_json(epk) {
            Ok(PublicKey::Ec(epk)) => epk,
            Ok(PublicKey::Rsa(_)) => return Err(JweError::EphemeralKey(JwkError::Kind("RSA".into()))),
            Ok(_) => return Err(JweError::EphemeralKey(JwkError::Kind("AKP".into()))),
            Err(error) => return Err(JweError::EphemeralKey(error)),
        };
        let info = |name, text: &Option<String>| part(name, text.as_deref().unwrap_or_default());
        derive_kek(key, &epk, &info("apu", &self.apu)?, &info("apv", &self.apv)?)
    }
}

/// The ephemeral key as upstream writes it: without `alg`.
#[derive(Serialize)]
struct Ephemeral {
    crv: &'static str,
    kty: &'static str,
    x: String,
    y: String,
}

/// Encrypts to keys of every form that the program has the means for.
#[derive(Clone, Copy, Default)]
pub struct Sealer {
    kmac: Option<Kmac256>,
}

impl Sealer {
    /// For every form but upstream's ML-KEM.
    pub const fn new() -> Self {
        Self { kmac: None }
    }

    /// For upstream's ML-KEM, too.
    #[must_use]
    pub const fn with_kmac256(self, kmac: Kmac256) -> Self {
        Self { kmac: Some(kmac) }
    }

    /// Encrypts to a key.
    pub fn seal(&self, key: &PublicKey, plaintext: &[u8]) -> Result<Jwe, JweError> {
        let cek = Secret::<[u8; KEY_LEN]>::random()?;
        match key {
            PublicKey::Ec(key) => {
                let ephemeral = EphemeralKey::generate_on(key.curve());
                let ephemeral = ephemeral.ok_or(JweError::Provider("the ephemeral key"))?;
                let header = ec_header(ephemeral.public())?;
                let z = ephemeral.agree(key).ok_or(JweError::Provider("the key agreement"))?;
                let kek = concat_kdf(&z, ECDH_ES_A256KW, &[], &[], 256);
                encrypt(header, &wrap(&kek, &cek)?, &cek, plaintext)
            }
            PublicKey::Rsa(key) => encrypt(header(RSA_OAEP_256), &wrap_rsa(key, &cek)?, &cek, plaintext),
            PublicKey::MlKem(key) => {
                let (ek, kek) = kem::to_ml_kem(key, self.kmac.ok_or(JweError::NoKmac)?)?;
                let header = Header { ek: Some(b64::url(&ek)), ..header(ML_KEM_768_A192KW) };
                encrypt(header, &wrap_192(&kek, &cek)?, &cek, plaintext)
            }
            PublicKey::Hybrid(key) => {
                let (ek, kek) = kem::to_hybrid(key)?;
                let header = Header { ek: Some(b64::url(&ek)), ..header(HYBRID) };
                encrypt(header, &wrap(&kek, &cek)?, &cek, plaintext)
            }
        }
    }
}

/// As [`Sealer::seal`] of a program without KMAC256.
pub fn seal(key: &PublicKey, plaintext: &[u8]) -> Result<Jwe, JweError> {
    Sealer::new().seal(key, plaintext)
}

impl TeeKey {
    /// Opens what was encrypted to the public part.
    pub fn open(&self, jwe: &Jwe) -> Result<SecretBytes, JweError> {
        let cek = match &self.0 {
            Kind::Ec(key) => unwrap(&jwe.kek(key)?, &jwe.wrapped()?)?,
            Kind::MlKem(key, kmac) => {
                let kek = kem::from_ml_kem(key, &jwe.encapsulation(ML_KEM_768_A192KW)?, *kmac)?;
                unwrap_192(&kek, &jwe.wrapped()?)?
            }
            Kind::Hybrid(key) => {
                unwrap(&kem::from_hybrid(key, &jwe.encapsulation(HYBRID)?)?, &jwe.wrapped()?)?
            }
        };
        jwe.decrypt(&cek)
    }
}

impl Jwe {
    /// Reads the flattened JSON form.
    pub fn from_json(bytes: &[u8]) -> Result<Self, JweError> {
        let members: Members = serde_json::from_slice(bytes)?;
        members.try_into()
    }

    /// Writes the flattened JSON form.
    pub fn to_json(&self) -> Result<Vec<u8>, JweError> {
        Ok(serde_json::to_vec(self)?)
    }

    fn wrapped(&self) -> Result<Vec<u8>, JweError> {
        part("encrypted_key", &self.encrypted_key)
    }

    /// The header's encapsulated key.
    fn encapsulation(&self, algorithm: &'static str) -> Result<Vec<u8>, JweError> {
        part("ek", &self.header(algorithm)?.ek.ok_or(JweError::NoEncapsulation)?)
    }

    fn kek(&self, key: &EcPrivate) -> Result<Secret<[u8; KEY_LEN]>, JweError> {
        self.header(ECDH_ES_A256KW)?.kek(key)
    }

    fn header(&self, expected: &'static str) -> Result<Header, JweError> {
        let bytes = part("protected header", &self.protected)?;
        let members: Map<String, Value> = serde_json::from_slice(&bytes)?;
        if members.contains_key("zip") {
            return Err(JweError::Compressed);
        }
        if members.contains_key("crit") {
            return Err(JweError::Critical);
        }
        // Read again as a struct, which refuses a member that is there twice (RFC 7516, section 4).
        let header: Header = serde_json::from_slice(&bytes)?;
        if header.alg != expected {
            return Err(JweError::Algorithm { expected, found: short(&header.alg) });
        }
        if header.enc != A256GCM {
            return Err(JweError::Encryption(short(&header.enc)));
        }
        Ok(header)
    }

    fn decrypt(&self, cek: &Secret<[u8; KEY_LEN]>) -> Result<SecretBytes, JweError> {
        let covered = aad(&self.protected, self.aad.as_deref());
        decrypt_content(cek, &covered, &self.iv, &self.ciphertext, &self.tag)
    }
}

/// Opens the content; all but the key in base64url.
fn decrypt_content(
    cek: &Secret<[u8; KEY_LEN]>,
    covered: &[u8],
    iv: &str,
    ciphertext: &str,
    tag: &str,
) -> Result<SecretBytes, JweError> {
    let iv = exact::<IV_LEN>("iv", &part("iv", iv)?)?;
    let tag = exact::<TAG_LEN>("tag", &part("tag", tag)?)?;
    let mut text = part("ciphertext", ciphertext)?;
    text.extend_from_slice(&tag);
    let key =
        UnboundKey::new(&AES_256_GCM, cek.expose()).map_err(|_| JweError::Provider("the content key"))?;
    let length = LessSafeKey::new(key)
        .open_in_place(Nonce::assume_unique_for_key(iv), Aad::from(covered), &mut text)
        .map_err(|_| JweError::Tag)?
        .len();
    text.truncate(length);
    Ok(SecretBytes::new(text))
}

fn ec_header(point: &EcKey) -> Result<Header, JweError> {
    let (x, y) = point.coordinates();
    let epk = serde_json::to_value(Ephemeral { crv: point.curve().name(), kty: "EC", x, y })?;
    Ok(Header { epk: Some(epk), ..header(ECDH_ES_A256KW) })
}

fn header(algorithm: &str) -> Header {
    Header { alg: algorithm.into(), enc: A256GCM.into(), ..Header::default() }
}

fn encrypt(
    header: Header,
    encrypted_key: &[u8],
    cek: &Secret<[u8; KEY_LEN]>,
    plaintext: &[u8],
) -> Result<Jwe, JweError> {
    let protected = b64::url(&serde_json::to_vec(&header)?);
    let iv = *Secret::<[u8; IV_LEN]>::random()?.expose();
    let (ciphertext, tag) = encrypt_content(cek, iv, &aad(&protected, None), plaintext)?;
    Ok(Jwe {
        protected,
        encrypted_key: b64::url(encrypted_key),
        aad: None,
        iv: b64::url(&iv),
        ciphertext: b64::url(&ciphertext),
        tag: b64::url(&tag),
    })
}

fn encrypt_content(
    cek: &Secret<[u8; KEY_LEN]>,
    iv: [u8; IV_LEN],
    aad: &[u8],
    plaintext: &[u8],
) -> Result<(Vec<u8>, Vec<u8>), JweError> {
    let failed = |_| JweError::Provider("the content");
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, cek.expose()).map_err(failed)?);
    let mut text = plaintext.to_vec();
    let tag = key
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(iv), Aad::from(aad), &mut text)
        .map_err(failed)?;
    Ok((text, tag.as_ref().to_vec()))
}

/// What the tag covers beside the ciphertext (RFC 7516, section 5.1, step 14).
fn aad(protected: &str, aad: Option<&str>) -> Vec<u8> {
    match aad {
        None => protected.as_bytes().to_vec(),
        Some(aad) => format!("{protected}.{aad}").into_bytes(),
    }
}

fn derive_kek(
    own: &EcPrivate,
    peer: &EcKey,
    apu: &[u8],
    apv: &[u8],
) -> Result<Secret<[u8; KEY_LEN]>, JweError> {
    let (expected, found) = (own.curve(), peer.curve());
    if expected != found {
        return Err(JweError::EphemeralCurve { expected: expected.name(), found: found.name() });
    }
    let z = own.agree(peer).ok_or(JweError::Provider("the key agreement"))?;
    Ok(concat_kdf(&z, ECDH_ES_A256KW, apu, apv, 256))
}

/// One round of the Concat KDF with SHA-256 (RFC 7518, section 4.6.2; NIST SP 800-56A, section 5.8.1). One round
/// gives up to 256 bits, which is what every algorithm here asks for.
fn concat_kdf(z: &SecretBytes, algorithm: &str, apu: &[u8], apv: &[u8], bits: u32) -> Secret<[u8; KEY_LEN]> {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(&1u32.to_be_bytes());
    hash.update(z.expose());
    for field in [algorithm.as_bytes(), apu, apv] {
        hash.update(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
        hash.update(field);
    }
    hash.update(&bits.to_be_bytes());
    let mut key = [0; KEY_LEN];
    for (to, from) in key.iter_mut().zip(hash.finish().as_ref()) {
        *to = *from;
    }
    Secret::new(key)
}

fn part(name: &'static str, text: &str) -> Result<Vec<u8>, JweError> {
    b64::from_url(text).map_err(|_| JweError::Base64(name))
}

fn exact<const N: usize>(part: &'static str, bytes: &[u8]) -> Result<[u8; N], JweError> {
    bytes.try_into().map_err(|_| JweError::Length { part, expected: N, found: bytes.len() })
}

#[cfg(test)]
impl Jwe {
    /// The two keys inside, for comparison with a recorded exchange.
    pub(crate) fn keys_for_test(&self, key: &TeeKey) -> ([u8; KEY_LEN], [u8; KEY_LEN]) {
        let Kind::Ec(key) = &key.0 else { panic!("not on a curve") };
        let kek = self.kek(key).unwrap();
        let cek = unwrap(&kek, &self.wrapped().unwrap()).unwrap();
        (*kek.expose(), *cek.expose())
    }
}

#[cfg(test)]
mod tests;

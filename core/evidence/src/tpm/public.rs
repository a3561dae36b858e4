//! `TPMT_PUBLIC` (Part 2, section 12.2.4) of RSA and ECC keys.

use coffer_core_digest::{Algorithm, Digest};

use super::read::Reader;
use super::signature::left_padded;
use super::{TpmError, spki};

const ALG_RSA: u16 = 0x0001;
const ALG_ECC: u16 = 0x0023;
const ALG_NULL: u16 = 0x0010;
const ALG_RSAES: u16 = 0x0015;
const ALG_ECDAA: u16 = 0x001a;
const MAX_DIGEST: u16 = 64;
const MAX_RSA: u16 = 512;
const MAX_ECC: u16 = 66;

/// `TPMA_OBJECT` (Part 2, section 8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes(pub u32);

impl Attributes {
    /// The key cannot leave its TPM.
    pub const FIXED_TPM: u32 = 1 << 1;
    /// The key cannot be given another parent.
    pub const FIXED_PARENT: u32 = 1 << 4;
    /// The TPM made the private part.
    pub const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
    /// Use needs the authorization value.
    pub const USER_WITH_AUTH: u32 = 1 << 6;
    /// The key works only on structures that the TPM made.
    pub const RESTRICTED: u32 = 1 << 16;
    /// The key decrypts.
    pub const DECRYPT: u32 = 1 << 17;
    /// The key signs.
    pub const SIGN: u32 = 1 << 18;

    /// Whether all of these bits are set.
    pub const fn has(self, bits: u32) -> bool {
        self.0 & bits == bits
    }
}

/// An elliptic curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
}

impl Curve {
    /// The length of a coordinate in bytes.
    pub const fn width(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }
}

/// What makes the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyParameters {
    /// RSA.
    Rsa {
        /// The modulus, big-endian. Empty in a template.
        modulus: Vec<u8>,
        /// The public exponent.
        exponent: u32,
    },
    /// ECC.
    Ecc {
        /// The curve.
        curve: Curve,
        /// The point's x. Empty in a template.
        x: Vec<u8>,
        /// The point's y. Empty in a template.
        y: Vec<u8>,
    },
}

/// The public part of a TPM's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Public {
    /// What hashes the key's name.
    pub name_algorithm: Algorithm,
    /// What the key may do.
    pub attributes: Attributes,
    /// The digest of the authorization policy, or nothing.
    pub auth_policy: Vec<u8>,
    /// The `TPM_ALG_ID` of the signing scheme with its hash, if the key is bound to one.
    pub scheme: Option<(u16, Algorithm)>,
    /// The key.
    pub key: KeyParameters,
    encoded: Vec<u8>,
}

impl Public {
    /// Reads one whole `TPMT_PUBLIC`.
    pub fn parse(bytes: &[u8]) -> Result<Self, TpmError> {
        let mut reader = Reader::new("TPMT_PUBLIC", bytes);
        let kind = reader.u16("type")?;
        let name_algorithm = reader.hash("nameAlg")?;
        let attributes = Attributes(reader.u32("objectAttributes")?);
        let auth_policy = reader.sized("authPolicy", MAX_DIGEST)?.to_vec();
        let (scheme, key) = match kind {
            ALG_RSA => read_rsa(&mut reader)?,
            ALG_ECC => read_ecc(&mut reader)?,
            _ => return Err(reader.value("type", "RSA (1) or ECC (0x23)", kind.into())),
        };
        reader.end()?;
        Ok(Self { name_algorithm, attributes, auth_policy, scheme, key, encoded: bytes.to_vec() })
    }

    /// Reads one whole `TPM2B_PUBLIC`: the same with its size before it.
    pub fn parse_sized(bytes: &[u8]) -> Result<Self, TpmError> {
        let mut reader = Reader::new("TPM2B_PUBLIC", bytes);
        let inner = reader.sized("size", u16::MAX)?;
        reader.end()?;
        Self::parse(inner)
    }

    /// The bytes that were parsed.
    pub fn as_bytes(&self) -> &[u8] {
        &self.encoded
    }

    /// The key's name: the name algorithm's id and the hash of the public area (Part 1, section 16).
    pub fn name(&self) -> Vec<u8> {
        let mut name = super::alg_id(self.name_algorithm).to_be_bytes().to_vec();
        name.extend_from_slice(Digest::of(self.name_algorithm, &self.encoded).as_bytes());
        name
    }

    /// Whether only a TPM's own statements can bear this key's signature, and only one TPM can make it.
    pub const fn is_restricted_signing(&self) -> bool {
        self.attributes.has(Attributes::FIXED_TPM | Attributes::RESTRICTED | Attributes::SIGN)
            && !self.attributes.has(Attributes::DECRYPT)
    }

    /// The key as `SubjectPublicKeyInfo` (RFC 5280, section 4.1.2.7).
    pub fn to_spki_der(&self) -> Result<Vec<u8>, TpmError> {
        let bad = |field, expected, found: usize| TpmError::Value {
            structure: "TPMT_PUBLIC",
            field,
            expected,
            found: u64::try_from(found).unwrap_or(u64::MAX),
        };
        match &self.key {
            KeyParameters::Rsa { modulus, exponent } => match modulus.iter().all(|&byte| byte == 0) {
                true => Err(bad("unique", "a modulus", modulus.len())),
                false => Ok(spki::rsa(modulus, *exponent)),
            },
            KeyParameters::Ecc { curve, x, y } => {
                let padded = |number: &[u8]| {
                    left_padded(number, curve.width())
                        .filter(|_| !number.is_empty())
                        .ok_or_else(|| bad("unique", "a coordinate of the curve's width", number.len()))
                };
                Ok(spki::ec(*curve, &padded(x)?, &padded(y)?))
            }
        }
    }
}

type Parsed = (Option<(u16, Algorithm)>, KeyParameters);

fn read_rsa(reader: &mut Reader<'_>) -> Result<Parsed, TpmError> {
    read_symmetric(reader)?;
    let scheme = read_scheme(reader)?;
    let bits = reader.u16("keyBits")?;
    let exponent = match reader.u32("exponent")? {
        0 => 65537,
        exponent => exponent,
    };
    let modulus = reader.sized("unique", MAX_RSA)?;
    if !modulus.is_empty() && modulus.len() != usize::from(bits / 8) {
        let found = u64::try_from(modulus.len()).unwrap_or(u64::MAX);
        return Err(reader.value("unique", "a modulus of keyBits bits", found));
    }
    Ok((scheme, KeyParameters::Rsa { modulus: modulus.to_vec(), exponent }))
}

fn read_ecc(reader: &mut Reader<'_>) -> Result<Parsed, TpmError> {
    read_symmetric(reader)?;
    let scheme = read_scheme(reader)?;
    let curve = match reader.u16("curveID")? {
        0x0003 => Curve::P256,
        0x0004 => Curve::P384,
        other => return Err(reader.value("curveID", "NIST P-256 (3) or P-384 (4)", other.into())),
    };
    if reader.u16("kdf")? != ALG_NULL {
        reader.hash("kdf.hash")?;
    }
    let x = reader.sized("unique.x", MAX_ECC)?.to_vec();
    let y = reader.sized("unique.y", MAX_ECC)?.to_vec();
    Ok((scheme, KeyParameters::Ecc { curve, x, y }))
}

/// `TPMT_SYM_DEF_OBJECT`: of no interest here, but its length depends on its content.
fn read_symmetric(reader: &mut Reader<'_>) -> Result<(), TpmError> {
    if reader.u16("symmetric")? != ALG_NULL {
        reader.u16("symmetric.keyBits")?;
        reader.u16("symmetric.mode")?;
    }
    Ok(())
}

/// `TPMT_RSA_SCHEME` and `TPMT_ECC_SCHEME`.
fn read_scheme(reader: &mut Reader<'_>) -> Result<Option<(u16, Algorithm)>, TpmError> {
    match reader.u16("scheme")? {
        ALG_NULL | ALG_RSAES => Ok(None),
        id => {
            let hash = reader.hash("scheme.hash")?;
            if id == ALG_ECDAA {
                reader.u16("scheme.count")?;
            }
            Ok(Some((id, hash)))
        }
    }
}

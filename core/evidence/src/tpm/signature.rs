//! `TPMT_SIGNATURE` (Part 2, section 11.3.4): RSASSA, RSAPSS and ECDSA.

use coffer_core_digest::Algorithm;

use super::read::Reader;
use super::{TpmError, spki};

/// `MAX_RSA_KEY_BYTES` of the largest key that anyone uses in a TPM.
const MAX_RSA: u16 = 512;
const MAX_ECC: u16 = 66;

/// A signature scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// RSASSA-PKCS1-v1_5.
    RsaSsa,
    /// RSASSA-PSS.
    RsaPss,
    /// ECDSA.
    Ecdsa,
}

impl Scheme {
    /// The scheme's `TPM_ALG_ID`.
    pub const fn id(self) -> u16 {
        match self {
            Self::RsaSsa => 0x0014,
            Self::RsaPss => 0x0016,
            Self::Ecdsa => 0x0018,
        }
    }

    /// The scheme's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RsaSsa => "rsassa",
            Self::RsaPss => "rsapss",
            Self::Ecdsa => "ecdsa",
        }
    }
}

/// A signature, its scheme and its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signature {
    /// RSASSA or RSAPSS.
    Rsa {
        /// Which of the two.
        scheme: Scheme,
        /// What hashed the message.
        hash: Algorithm,
        /// The signature.
        bytes: Vec<u8>,
    },
    /// ECDSA.
    Ecdsa {
        /// What hashed the message.
        hash: Algorithm,
        /// `r`, big-endian.
        r: Vec<u8>,
        /// `s`, big-endian.
        s: Vec<u8>,
    },
}

impl Signature {
    /// Reads one whole `TPMT_SIGNATURE`.
    pub fn parse(bytes: &[u8]) -> Result<Self, TpmError> {
        let mut reader = Reader::new("TPMT_SIGNATURE", bytes);
        let id = reader.u16("sigAlg")?;
        let signature = match id {
            0x0014 => Self::read_rsa(&mut reader, Scheme::RsaSsa)?,
            0x0016 => Self::read_rsa(&mut reader, Scheme::RsaPss)?,
            0x0018 => Self::Ecdsa {
                hash: reader.hash("hash")?,
                r: reader.sized("signatureR", MAX_ECC)?.to_vec(),
                s: reader.sized("signatureS", MAX_ECC)?.to_vec(),
            },
            _ => return Err(reader.value("sigAlg", "RSASSA, RSAPSS or ECDSA", id.into())),
        };
        reader.end()?;
        Ok(signature)
    }

    fn read_rsa(reader: &mut Reader<'_>, scheme: Scheme) -> Result<Self, TpmError> {
        Ok(Self::Rsa { scheme, hash: reader.hash("hash")?, bytes: reader.sized("sig", MAX_RSA)?.to_vec() })
    }

    /// The scheme.
    pub const fn scheme(&self) -> Scheme {
        match self {
            Self::Rsa { scheme, .. } => *scheme,
            Self::Ecdsa { .. } => Scheme::Ecdsa,
        }
    }

    /// What hashed the message, and the quoted registers.
    pub const fn hash(&self) -> Algorithm {
        match self {
            Self::Rsa { hash, .. } | Self::Ecdsa { hash, .. } => *hash,
        }
    }

    /// The signature as crypto libraries take it: RSA as it is; ECDSA as `ECDSA-Sig-Value` in DER (RFC 3279,
    /// section 2.2.3).
    pub fn encoded(&self) -> Vec<u8> {
        match self {
            Self::Rsa { bytes, .. } => bytes.clone(),
            Self::Ecdsa { r, s, .. } => spki::pair(r, s),
        }
    }
}

/// The number in exactly `width` bytes. Leading zeros do not change it; a larger number has no such form.
pub(super) fn left_padded(number: &[u8], width: usize) -> Option<Vec<u8>> {
    let significant = number.iter().position(|&byte| byte != 0).unwrap_or(number.len());
    let digits = number.get(significant..)?;
    let mut padded = vec![0; width.checked_sub(digits.len())?];
    padded.extend_from_slice(digits);
    Some(padded)
}

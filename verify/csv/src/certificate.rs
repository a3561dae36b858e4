//! Hygon's certificates: two fixed layouts without dates, extensions or lengths to be lied about.
//!
//! SPEC: the layouts are those that Hygon's guest library publishes: 832 bytes for its own two keys (HRK, HSK), 2084 for
//! the keys of one chip (CEK, PEK). Numbers are little endian throughout, coordinates and signatures too.
//! Left out: the owner's certificate (OCA), which vouches for who owns a platform and not for what it is.

use crate::sm2::{PublicKey, Signature};

/// Bytes in a certificate of HRK or HSK.
pub const CA_LEN: usize = 832;
/// Bytes in a certificate of CEK or PEK.
pub const CHIP_LEN: usize = 2084;
const CA_SIGNED: usize = 0x240;
const CHIP_SIGNED: usize = 1044;
/// One of two slots for signatures: usage, algorithm, signature, reserved.
const SLOT: usize = 520;
/// The identifier of the curve SM2 in a key.
const GROUP_SM2: u32 = 3;
/// SM2 signatures.
pub(crate) const ALGORITHM_SM2_SIGN: u32 = 4;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Hygon's root key.
    Root,
    /// Hygon's signing key.
    Signing,
    /// The key of one chip.
    Chip,
    /// The key of one platform, which signs reports.
    Platform,
}

impl Usage {
    /// The number in a certificate.
    pub const fn number(self) -> u32 {
        match self {
            Self::Root => 0,
            Self::Signing => 0x13,
            Self::Chip => 0x1004,
            Self::Platform => 0x1002,
        }
    }

    /// Hygon's abbreviation.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "HRK",
            Self::Signing => "HSK",
            Self::Chip => "CEK",
            Self::Platform => "PEK",
        }
    }
}

/// Why bytes are not a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not as long as its layout.
    #[error("a certificate of this kind has {expected} bytes, found {found}")]
    Length {
        /// The layout's length.
        expected: usize,
        /// What was found.
        found: usize,
    },
    /// A field has a value that it cannot have.
    #[error("{field} is {found:#x}; expected {expected}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What was found.
        found: u32,
    },
    /// The name that signatures are bound to is not text.
    #[error("the user id is not text of at most 254 bytes")]
    UserId,
    /// The key is not a point of the curve.
    #[error("the public key is not a point of SM2")]
    Key,
}

/// A certificate.
#[derive(Clone, Debug)]
pub struct Certificate {
    usage: u32,
    key: PublicKey,
    key_id: [u8; 16],
    signer_id: [u8; 16],
    firmware: [u8; 2],
    signed: Vec<u8>,
    /// Usage of the signer's key, algorithm, signature.
    signatures: Vec<(u32, u32, Signature)>,
}

impl Certificate {
    /// Reads a certificate of HRK or HSK.
    pub fn parse_ca(bytes: &[u8]) -> Result<Self, CertificateError> {
        let field = Fields::new(bytes, CA_LEN)?;
        expect("version", field.u32(0), 1, "1")?;
        Ok(Self {
            usage: field.u32(36),
            key: field.key(64, 212)?,
            key_id: field.array(4),
            signer_id: field.array(20),
            firmware: [0; 2],
            signed: field.slice(0, CA_SIGNED).to_vec(),
            // Only the root key signs these, always with SM2.
            signatures: vec![(Usage::Root.number(), ALGORITHM_SM2_SIGN, field.signature(CA_SIGNED))],
        })
    }

    /// Reads a certificate of CEK or PEK.
    pub fn parse_chip(bytes: &[u8]) -> Result<Self, CertificateError> {
        let field = Fields::new(bytes, CHIP_LEN)?;
        expect("version", field.u32(0), 1, "1")?;
        expect("algorithm", field.u32(12), ALGORITHM_SM2_SIGN, "4 (SM2 signatures)")?;
        let slot = |at: usize| {
            (field.u32(at), field.u32(at.saturating_add(4)), field.signature(at.saturating_add(8)))
        };
        Ok(Self {
            usage: field.u32(8),
            key: field.key(16, 164)?,
            key_id: [0; 16],
            signer_id: field.array(420),
            firmware: field.array(4),
            signed: field.slice(0, CHIP_SIGNED).to_vec(),
            signatures: vec![slot(CHIP_SIGNED), slot(CHIP_SIGNED.saturating_add(SLOT))],
        })
    }

    /// Whether the key is for this.
    pub fn is_for(&self, usage: Usage) -> bool {
        self.usage == usage.number()
    }

    /// The number that says what the key is for.
    pub const fn usage(&self) -> u32 {
        self.usage
    }

    /// The key.
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The version of the firmware that made it, for keys of a chip: major, minor.
    pub const fn firmware(&self) -> [u8; 2] {
        self.firmware
    }

    /// Whether `issuer`'s key signed it, in the role that the issuer's certificate gives that key.
    pub fn is_signed_by(&self, issuer: &Self) -> bool {
        // HRK and HSK name their signer's key; the other certificates leave that field empty.
        let named = self.usage > Usage::Signing.number() || self.signer_id == issuer.key_id;
        let by = |(usage, algorithm, signature): &(u32, u32, Signature)| {
            *usage == issuer.usage
                && *algorithm == ALGORITHM_SM2_SIGN
                && issuer.key.verify(&self.signed, signature)
        };
        named && self.signatures.iter().any(by)
    }
}

fn expect(
    field: &'static str,
    found: u32,
    wanted: u32,
    expected: &'static str,
) -> Result<(), CertificateError> {
    match found == wanted {
        true => Ok(()),
        false => Err(CertificateError::Field { field, expected, found }),
    }
}

/// Fields of a layout whose length was checked. What is beyond the end would be zeros; no offset here is.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn new(bytes: &'a [u8], expected: usize) -> Result<Self, CertificateError> {
        match bytes.len() == expected {
            true => Ok(Self(bytes)),
            false => Err(CertificateError::Length { expected, found: bytes.len() }),
        }
    }

    fn slice(&self, at: usize, length: usize) -> &'a [u8] {
        self.0.get(at..at.saturating_add(length)).unwrap_or_default()
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        self.slice(at, N).try_into().unwrap_or([0; N])
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    fn signature(&self, at: usize) -> Signature {
        Signature::from_fields(self.slice(at, 72), self.slice(at.saturating_add(72), 72))
    }

    /// A key at `at` (group, x, y), whose user id is at `user`.
    fn key(&self, at: usize, user: usize) -> Result<PublicKey, CertificateError> {
        expect("the key's group", self.u32(at), GROUP_SM2, "3 (SM2)")?;
        let size = usize::from(u16::from_le_bytes(self.array(user)));
        let id = self.slice(user.saturating_add(2), 254).get(..size);
        let id = id.and_then(|id| std::str::from_utf8(id).ok()).ok_or(CertificateError::UserId)?;
        let x = self.slice(at.saturating_add(4), 72);
        let y = self.slice(at.saturating_add(76), 72);
        PublicKey::from_fields(id, x, y).ok_or(CertificateError::Key)
    }
}

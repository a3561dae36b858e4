//! The attestation report, in its two layouts.
//!
//! SPEC: the layouts are those that Hygon's guest library publishes. The first hides each field behind a random word
//! that stands in the report; the second, of firmware from API 1.4 on, is plain and has registers.
//! Left out: the MAC over the signer's certificate. Its key stands in the report, so it protects the guest that asked,
//! and attesters give the certificate back changed.

use coffer_core_digest::{Algorithm, Digest};

use crate::sm2::Signature;

/// Bytes that the device gives, whatever the layout.
pub const REPORT_LEN: usize = 4096;
const EXTENDED_MAGIC: [u8; 16] = *b"ATTESTATION_EXT\0";
/// Where the random word of the first layout stands.
const MASK: usize = 188;
const SIGNED_V1: usize = 180;
const SIGNED_V2: usize = 1024;

/// Why bytes are not a report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// Not as long as what the device gives.
    #[error("a report has {REPORT_LEN} bytes, found {0}")]
    Length(usize),
    /// Neither of the layouts.
    #[error("magic {magic} with flags {flags:#x} is no layout that is known here")]
    Layout {
        /// The magic, in hexadecimal.
        magic: String,
        /// The flags beside it.
        flags: u32,
    },
}

/// Which layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Masked fields, no registers.
    V1,
    /// Plain fields and registers.
    V2,
}

impl Version {
    /// As upstream's claims write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1 => "1",
            Self::V2 => "2",
        }
    }
}

/// What the owner asked of the firmware at launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy(pub u32);

impl Policy {
    /// `width` bits from `first` on; both are constants of the layout.
    pub const fn bits(self, first: u32, width: u32) -> u32 {
        (self.0 >> (first & 31)) & !(u32::MAX << (width & 31))
    }

    /// The host may not debug the guest.
    pub const fn nodbg(self) -> bool {
        self.bits(0, 1) == 1
    }

    /// The guest's registers are encrypted.
    pub const fn es(self) -> bool {
        self.bits(2, 1) == 1
    }

    /// The guest may not be sent to another platform.
    pub const fn nosend(self) -> bool {
        self.bits(3, 1) == 1
    }

    /// The guest's memory is isolated by the hardware.
    pub const fn csv3(self) -> bool {
        self.bits(6, 1) == 1
    }
}

/// A report with its fields as the firmware meant them.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which layout.
    pub version: Version,
    /// The digest of the session's key.
    pub user_pubkey_digest: [u8; 32],
    /// The name that the owner gave the guest.
    pub vm_id: [u8; 16],
    /// The version that the owner gave the guest.
    pub vm_version: [u8; 16],
    /// What the guest asked to have signed.
    pub report_data: [u8; 64],
    /// The guest's nonce.
    pub mnonce: [u8; 16],
    /// The measurement at launch, SM3.
    pub measure: [u8; 32],
    /// The owner's policy.
    pub policy: Policy,
    /// What key signed.
    pub sig_usage: u32,
    /// How.
    pub sig_algo: u32,
    /// The word that masks the first layout.
    pub anonce: u32,
    /// The second layout's further fields.
    pub extension: Option<Extension>,
    signed: Vec<u8>,
    signature: Signature,
}

/// What only the second layout has.
#[derive(Clone, Debug)]
pub struct Extension {
    /// The firmware's build.
    pub build: u32,
    /// The version of the registers.
    pub rtmr_version: u16,
    /// Not used yet.
    pub reserved0: [u8; 14],
    /// The registers; the first equals the measurement.
    pub rtmr: [[u8; 32]; 5],
    /// Not used yet.
    pub reserved1: Vec<u8>,
}

impl Report {
    /// Reads what the device gave.
    pub fn parse(magic: &[u8], flags: u32, data: &[u8]) -> Result<Self, ReportError> {
        if data.len() != REPORT_LEN {
            return Err(ReportError::Length(data.len()));
        }
        let version = match (magic == EXTENDED_MAGIC, flags) {
            (true, 0) => Version::V1,
            (true, 1) => Version::V2,
            (false, _) if magic.len() == 16 && magic.iter().all(|byte| *byte == 0) => Version::V1,
            _ => return Err(ReportError::Layout { magic: hex::encode(magic), flags }),
        };
        let anonce = match version {
            Version::V1 => u32::from_le_bytes(array(data, MASK)),
            Version::V2 => 0,
        };
        let plain = unmask(data, anonce);
        let signed = match version {
            Version::V1 => SIGNED_V1,
            Version::V2 => SIGNED_V2,
        };
        let at = match version {
            Version::V1 => 192_usize,
            Version::V2 => 1024,
        };
        Ok(Self {
            version,
            user_pubkey_digest: array(&plain, 0),
            vm_id: array(&plain, 32),
            vm_version: array(&plain, 48),
            report_data: array(&plain, 64),
            mnonce: array(&plain, 128),
            measure: array(&plain, 144),
            policy: Policy(u32::from_le_bytes(array(&plain, 176))),
            sig_usage: u32::from_le_bytes(array(&plain, 180)),
            sig_algo: u32::from_le_bytes(array(&plain, 184)),
            anonce,
            extension: (version == Version::V2).then(|| Extension {
                build: u32::from_le_bytes(array(data, 188)),
                rtmr_version: u16::from_le_bytes(array(data, 192)),
                reserved0: array(data, 194),
                rtmr: [208, 240, 272, 304, 336].map(|register| array(data, register)),
                reserved1: slice(data, 368, 656).to_vec(),
            }),
            signed: slice(data, 0, signed).to_vec(),
            signature: Signature::from_fields(slice(data, at, 72), slice(data, at.saturating_add(72), 72)),
        })
    }

    /// What is signed: the bytes as they stand in the report, masked where they are.
    pub fn signed(&self) -> &[u8] {
        &self.signed
    }

    /// The signature.
    pub const fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The registers by name.
    pub fn registers(&self) -> Vec<(String, Digest)> {
        let digest = |bytes: &[u8; 32]| {
            Digest::from_bytes(Algorithm::Sm3, bytes).unwrap_or(Digest::zero(Algorithm::Sm3))
        };
        let mut registers = vec![("measure".to_owned(), digest(&self.measure))];
        if let Some(extension) = &self.extension {
            let named = (0..)
                .zip(&extension.rtmr)
                .map(|(number, value): (u32, _)| (format!("rtmr{number}"), digest(value)));
            registers.extend(named);
        }
        registers
    }
}

fn slice(bytes: &[u8], at: usize, length: usize) -> &[u8] {
    bytes.get(at..at.saturating_add(length)).unwrap_or_default()
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    slice(bytes, at, N).try_into().unwrap_or([0; N])
}

/// Each word of the report is combined with the mask; fields begin at words.
fn unmask(data: &[u8], anonce: u32) -> Vec<u8> {
    data.iter().zip(anonce.to_le_bytes().into_iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()
}

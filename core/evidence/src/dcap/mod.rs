//! Intel's quotes, version 3 to 5, over SGX enclaves and TDX trust domains, and their KBS wire forms.
//!
//! Layouts follow Intel's "SGX ECDSA QuoteLibReference DCAP API" (version 3) and "TDX DCAP Quoting Library API"
//! (versions 4 and 5), appendices A.3 and A.4. Reading believes nothing; judging is `verify/dcap`. Left out: the
//! EPID quotes of version 1 and 2, and keys on other curves than P-256, which no quoting enclave makes.

mod read;
mod report;
#[cfg(test)]
mod tests;
mod wire;

pub use report::{EnclaveReport, LocalTdReport, Td15, Td15Ex, TdAttributes, TdReport};
pub use wire::{DcapWireError, MAX_QUOTE, SgxEvidence, TdxEvidence, wire_of_raw};

use crate::Tee;
use read::Reader;

/// ECDSA over SHA-256 with a key on P-256: the one kind of attestation key.
const ECDSA_P256: u16 = 2;
const TEE_SGX: u32 = 0;
const TEE_TDX: u32 = 0x81;
/// Certification data that is itself a report of the quoting enclave.
const QE_REPORT: u16 = 6;

/// Why bytes are not a quote.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum DcapError {
    /// A field runs past the end.
    #[error("{structure}: {field} needs {expected} bytes, {found} are left")]
    Truncated {
        /// The structure.
        structure: &'static str,
        /// The field.
        field: &'static str,
        /// Bytes needed.
        expected: usize,
        /// Bytes left.
        found: usize,
    },
    /// Something follows inside a structure whose length is given.
    #[error("{structure}: {found} bytes follow its last field")]
    Trailing {
        /// The structure.
        structure: &'static str,
        /// Bytes left.
        found: usize,
    },
    /// Another version.
    #[error("the quote has version {0}; expected 3, 4 or 5")]
    Version(u16),
    /// Another kind of attestation key.
    #[error("the attestation key is of type {0}; expected 2, ECDSA on P-256")]
    KeyType(u16),
    /// A TEE that quotes of this version are not made for.
    #[error("TEE type {found:#x} does not go with version {version} and this body")]
    TeeType {
        /// The quote's version.
        version: u16,
        /// The type found.
        found: u32,
    },
    /// A body that is not known, or whose size is not its type's.
    #[error("a body of type {kind} with {size} bytes is not known")]
    Body {
        /// The type found.
        kind: u16,
        /// The size found.
        size: u32,
    },
    /// The certification data is not of the type that must stand there.
    #[error("certification data of type {found}; expected {expected}")]
    Certification {
        /// What would do.
        expected: &'static str,
        /// The type found.
        found: u16,
    },
}

impl DcapError {
    /// The last segment of a stable code for this defect.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Truncated { .. } => "truncated",
            Self::Trailing { .. } => "trailing",
            Self::Version(_) => "version",
            Self::KeyType(_) => "key-type",
            Self::TeeType { .. } => "tee-type",
            Self::Body { .. } => "body",
            Self::Certification { .. } => "certification-data",
        }
    }
}

/// The header, 48 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// 3, 4 or 5.
    pub version: u16,
    /// The kind of attestation key.
    pub key_type: u16,
    /// The TEE, as the header names it.
    pub tee_type: u32,
    /// Reserved; in version 3 the security versions of quoting and provisioning enclave.
    pub reserved: [u8; 4],
    /// Who made the quoting enclave.
    pub vendor_id: [u8; 16],
    /// The platform's id, and four bytes of zeros.
    pub user_data: [u8; 20],
}

impl Header {
    /// Intel's quoting enclaves.
    pub const INTEL: [u8; 16] =
        [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];
}

/// What is quoted.
#[derive(Clone, Debug, PartialEq, Eq)]
// One is made for each attestation, so the difference in size costs nothing.
#[allow(clippy::large_enum_variant)]
pub enum Body {
    /// An enclave.
    Sgx(EnclaveReport),
    /// A trust domain.
    Td(TdReport),
}

/// Who vouches for the attestation key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authentication<'a> {
    /// The quote's signature: r and s.
    pub signature: [u8; 64],
    /// The attestation key: x and y on P-256.
    pub attestation_key: [u8; 64],
    /// The quoting enclave's report, as it is signed.
    pub qe_report_bytes: &'a [u8],
    /// The same, read.
    pub qe_report: EnclaveReport,
    /// The signature over that report by the platform's key: r and s.
    pub qe_report_signature: [u8; 64],
    /// What the quoting enclave hashed together with the attestation key.
    pub qe_authentication: &'a [u8],
    /// Whose key signed the report.
    pub certification: Certification<'a>,
}

/// What names the platform's key (PCK).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certification<'a> {
    /// Type 1 to 3: the platform's provisioning id, plain or encrypted, and its TCB: a name, no certificate.
    Ppid {
        /// The type.
        kind: u16,
        /// The data.
        data: &'a [u8],
    },
    /// Type 4: the leaf certificate.
    Leaf(&'a [u8]),
    /// Type 5: the certificates, leaf first, in PEM as quoting enclaves write them.
    Chain(&'a [u8]),
    /// Type 7: a platform manifest, for a platform that is not registered yet.
    Manifest(&'a [u8]),
}

impl<'a> Certification<'a> {
    /// The data, whatever they are.
    pub const fn data(&self) -> &'a [u8] {
        match self {
            Self::Ppid { data, .. } | Self::Leaf(data) | Self::Chain(data) | Self::Manifest(data) => data,
        }
    }

    fn read(reader: &mut Reader<'a>) -> Result<Self, DcapError> {
        let kind = reader.u16("the certification data's type")?;
        let data = reader.sized("the certification data")?;
        Ok(match kind {
            1..=3 => Self::Ppid { kind, data },
            4 => Self::Leaf(data),
            5 => Self::Chain(data),
            7 => Self::Manifest(data),
            found => return Err(DcapError::Certification { expected: "1 to 5 or 7", found }),
        })
    }
}

/// A quote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote<'a> {
    signed: &'a [u8],
    /// Type and size of the body, which version 5 names.
    pub body_kind: Option<(u16, u32)>,
    /// The header.
    pub header: Header,
    /// What is quoted.
    pub body: Body,
    /// Who vouches for it.
    pub authentication: Authentication<'a>,
}

impl<'a> Quote<'a> {
    /// Reads a quote. What follows it is not looked at: attesters hand out whole buffers.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DcapError> {
        let mut reader = Reader::new("the quote", bytes);
        let header = header(&mut reader)?;
        let (body_kind, body) = body(&mut reader, &header)?;
        // The signature covers header and body: all that was read till here.
        let signed = bytes.get(..bytes.len().saturating_sub(reader.left())).unwrap_or_default();
        let authentication = Authentication::read(header.version, reader.sized("the signature data")?)?;
        Ok(Self { signed, body_kind, header, body, authentication })
    }

    /// What the attestation key signed.
    pub const fn signed(&self) -> &'a [u8] {
        self.signed
    }

    /// The TEE.
    pub const fn tee(&self) -> Tee {
        match self.body {
            Body::Sgx(_) => Tee::Sgx,
            Body::Td(_) => Tee::Tdx,
        }
    }
}

fn header(reader: &mut Reader<'_>) -> Result<Header, DcapError> {
    let version = reader.u16("the version")?;
    if !(3..=5).contains(&version) {
        return Err(DcapError::Version(version));
    }
    let header = Header {
        version,
        key_type: reader.u16("the attestation key's type")?,
        tee_type: reader.u32("the TEE type")?,
        reserved: reader.array("a reserved field")?,
        vendor_id: reader.array("the vendor")?,
        user_data: reader.array("the user data")?,
    };
    match header.key_type {
        ECDSA_P256 => Ok(header),
        other => Err(DcapError::KeyType(other)),
    }
}

fn body(reader: &mut Reader<'_>, header: &Header) -> Result<(Option<(u16, u32)>, Body), DcapError> {
    let unfit = DcapError::TeeType { version: header.version, found: header.tee_type };
    if header.version < 5 {
        let body = match (header.version, header.tee_type) {
            (_, TEE_SGX) => Body::Sgx(EnclaveReport::read(reader)?),
            (4, TEE_TDX) => Body::Td(TdReport::read(reader)?),
            _ => return Err(unfit),
        };
        return Ok((None, body));
    }
    let kind = reader.u16("the body's type")?;
    let size = reader.u32("the body's size")?;
    let (expected, tee) = match kind {
        1 => (EnclaveReport::LEN, TEE_SGX),
        2 => (TdReport::LEN, TEE_TDX),
        3 => (TdReport::LEN_15, TEE_TDX),
        4 => (TdReport::LEN_15_EX, TEE_TDX),
        _ => return Err(DcapError::Body { kind, size }),
    };
    if usize::try_from(size) != Ok(expected) {
        return Err(DcapError::Body { kind, size });
    }
    if header.tee_type != tee {
        return Err(unfit);
    }
    let body = match kind {
        1 => Body::Sgx(EnclaveReport::read(reader)?),
        2 => Body::Td(TdReport::read(reader)?),
        3 => Body::Td(TdReport::read_15(reader)?),
        _ => Body::Td(TdReport::read_15_ex(reader)?),
    };
    Ok((Some((kind, size)), body))
}

impl<'a> Authentication<'a> {
    fn read(version: u16, bytes: &'a [u8]) -> Result<Self, DcapError> {
        let mut outer = Reader::new("the signature data", bytes);
        let signature = outer.array("the quote's signature")?;
        let attestation_key = outer.array("the attestation key")?;
        let mut inner = outer.clone();
        if version > 3 {
            // From version 4 on, all that follows is wrapped as certification data of type 6.
            match outer.u16("the certification data's type")? {
                QE_REPORT => {}
                found => return Err(DcapError::Certification { expected: "6", found }),
            }
            inner = Reader::new("the quoting enclave's data", outer.sized("the certification data")?);
            outer.end()?;
        }
        let qe_report_bytes = inner.take("the quoting enclave's report", EnclaveReport::LEN)?;
        let qe_report = EnclaveReport::parse(qe_report_bytes)?;
        let qe_report_signature = inner.array("the report's signature")?;
        let size = inner.u16("the authentication data's size")?;
        let qe_authentication = inner.take("the authentication data", size.into())?;
        let certification = Certification::read(&mut inner)?;
        inner.end()?;
        Ok(Self {
            signature,
            attestation_key,
            qe_report_bytes,
            qe_report,
            qe_report_signature,
            qe_authentication,
            certification,
        })
    }
}

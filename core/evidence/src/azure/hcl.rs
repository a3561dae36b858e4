//! The paravisor's report: a header, the platform's report, and the runtime data in JSON.
//!
//! SPEC: Microsoft, "Guest attestation for confidential VMs", attestation report format; all numbers little-endian.
//! The report is 32 bytes of header, 1184 bytes that hold the platform's report, 20 bytes of header and the data.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use coffer_core_digest::{Algorithm, Digest};
use serde::Deserialize;
use serde_json::Value;

/// `HCLA`.
const SIGNATURE: [u8; 4] = *b"HCLA";
const HEADER: usize = 32;
/// As long as a report of SNP; shorter reports are followed by zeros.
const PLATFORM: usize = 1184;
/// `TDREPORT_STRUCT`.
const TD_REPORT: usize = 1024;
/// The TPM's index has 2600 bytes.
const MAX_REPORT: usize = 16 << 10;
const MAX_KEYS: usize = 16;

/// Base64 for addresses, with or without padding.
pub(super) const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why bytes are no report of the paravisor.
#[derive(Debug, thiserror::Error)]
pub enum HclError {
    /// Too short or too long.
    #[error("the HCL report: {what} ends at {end}, and there are {found} bytes")]
    Length {
        /// The part.
        what: &'static str,
        /// Where it ends.
        end: usize,
        /// The bytes there are.
        found: usize,
    },
    /// A field has a value whose meaning is not known.
    #[error("the HCL report: {field} is {found:#x}; expected {expected}")]
    Value {
        /// The field.
        field: &'static str,
        /// What is known.
        expected: &'static str,
        /// What was found.
        found: u32,
    },
    /// The runtime data is not the JSON that it should be.
    #[error("the runtime data: {0}")]
    Runtime(String),
}

/// The platform whose report is inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// AMD SEV-SNP.
    Snp,
    /// Intel TDX.
    Tdx,
}

/// A report of the paravisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HclReport {
    version: u32,
    platform: Platform,
    hash: Algorithm,
    report: Vec<u8>,
    runtime_data: Vec<u8>,
}

impl HclReport {
    /// Reads a report. What follows the runtime data is not part of it.
    pub fn parse(bytes: &[u8]) -> Result<Self, HclError> {
        let length = |what, end| HclError::Length { what, end, found: bytes.len() };
        if bytes.len() > MAX_REPORT {
            return Err(length("the longest", MAX_REPORT));
        }
        let mut rest = bytes;
        let mut ends = 0_usize;
        let mut take = |what: &'static str, count: usize| {
            ends = ends.saturating_add(count);
            let (taken, after) = rest.split_at_checked(count).ok_or(length(what, ends))?;
            rest = after;
            Ok::<&[u8], HclError>(taken)
        };
        let header = words::<8>(take("the header", HEADER)?);
        let platform_report = take("the platform's report", PLATFORM)?;
        let runtime = words::<5>(take("the header of the runtime data", 20)?);

        let [signature, version, _size, _request, status, ..] = header;
        let [size, runtime_version, kind, hash, length_of_data] = runtime;
        let value = |field, expected, found| HclError::Value { field, expected, found };
        if signature != u32::from_le_bytes(SIGNATURE) {
            return Err(value("the signature", "HCLA", signature));
        }
        if !(1..=2).contains(&version) {
            return Err(value("the version", "1 or 2", version));
        }
        if status != 0 {
            return Err(value("the status", "0, success", status));
        }
        if runtime_version != 1 {
            return Err(value("the version of the runtime data", "1", runtime_version));
        }
        let platform = match kind {
            2 => Platform::Snp,
            4 => Platform::Tdx,
            other => return Err(value("the report's type", "2 for SNP or 4 for TDX", other)),
        };
        let hash = match hash {
            1 => Algorithm::Sha256,
            2 => Algorithm::Sha384,
            3 => Algorithm::Sha512,
            other => return Err(value("the hash of the runtime data", "1, 2 or 3", other)),
        };
        // The size counts its own header.
        if size.checked_sub(20) != Some(length_of_data) {
            return Err(value("the size of the runtime data", "20 more than the length of its claims", size));
        }
        let count = usize::try_from(length_of_data).unwrap_or(usize::MAX);
        let runtime_data = take("the runtime data", count)?.to_vec();
        let used = match platform {
            Platform::Snp => PLATFORM,
            Platform::Tdx => TD_REPORT,
        };
        let report = platform_report.get(..used).unwrap_or_default().to_vec();
        Ok(Self { version, platform, hash, report, runtime_data })
    }

    /// The layout's version.
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// The platform.
    pub const fn platform(&self) -> Platform {
        self.platform
    }

    /// The platform's report: 1184 bytes for SNP, for TDX a `TDREPORT_STRUCT` of 1024, which only that machine can
    /// check.
    pub fn platform_report(&self) -> &[u8] {
        &self.report
    }

    /// The runtime data, byte for byte.
    pub fn runtime_data(&self) -> &[u8] {
        &self.runtime_data
    }

    /// The hash that the platform's report data begins with.
    pub fn runtime_hash(&self) -> Digest {
        Digest::of(self.hash, &self.runtime_data)
    }

    /// What the runtime data says.
    pub fn runtime_claims(&self) -> Result<RuntimeClaims, HclError> {
        RuntimeClaims::parse(&self.runtime_data)
    }
}

fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let mut words = [0; N];
    for (word, four) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*four);
    }
    words
}

/// An RSA key, its numbers big-endian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RsaKey {
    /// The modulus.
    pub modulus: Vec<u8>,
    /// The public exponent.
    pub exponent: Vec<u8>,
}

/// What the paravisor says of its guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeClaims {
    /// The TPM's attestation key, `HCLAkPub`.
    pub attestation_key: RsaKey,
    /// What the guest asked to be put into the report.
    pub user_data: Option<Vec<u8>>,
    /// How the virtual machine is configured, as the paravisor says it.
    pub configuration: Option<Value>,
}

#[derive(Deserialize)]
struct RuntimeJson {
    keys: Vec<KeyJson>,
    #[serde(rename = "vm-configuration")]
    configuration: Option<Value>,
    #[serde(rename = "user-data")]
    user_data: Option<String>,
}

#[derive(Deserialize)]
struct KeyJson {
    kid: String,
    kty: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
}

impl RuntimeClaims {
    /// Reads the JSON. Exactly one key may be the attestation key.
    pub fn parse(json: &[u8]) -> Result<Self, HclError> {
        const NAME: &str = "HCLAkPub";
        let wrong = |why: String| HclError::Runtime(why);
        let RuntimeJson { keys, configuration, user_data } =
            serde_json::from_slice(json).map_err(|cause| wrong(cause.to_string()))?;
        if keys.len() > MAX_KEYS {
            return Err(wrong(format!("{} keys; at most {MAX_KEYS}", keys.len())));
        }
        let named: Vec<&KeyJson> = keys.iter().filter(|key| key.kid == NAME).collect();
        let [key] = named.as_slice() else {
            return Err(wrong(format!("expected one key {NAME}, found {}", named.len())));
        };
        if key.kty != "RSA" {
            return Err(wrong(format!("{NAME} is of type {:?}; expected RSA", key.kty)));
        }
        let number = |name: &str, text: &str| {
            let bytes = LENIENT.decode(text).map_err(|cause| wrong(format!("{NAME}.{name}: {cause}")))?;
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            Ok::<Vec<u8>, HclError>(bytes.get(zeros..).unwrap_or_default().to_vec())
        };
        let attestation_key = RsaKey { modulus: number("n", &key.n)?, exponent: number("e", &key.e)? };
        let user_data = user_data.map(hex::decode).transpose();
        let user_data = user_data.map_err(|cause| wrong(format!("user-data: {cause}")))?;
        Ok(Self { attestation_key, user_data, configuration })
    }
}

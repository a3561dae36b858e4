//! `TPMS_ATTEST` (Part 2, section 10.12.8): what a TPM signs.

use super::pcr::{self, PcrSelection};
use super::read::Reader;
use super::{GENERATED, TpmError};

/// The largest digest or name that any field here may hold: an algorithm id and 64 bytes.
const MAX_NAME: u16 = 66;
const MAX_DIGEST: u16 = 64;

/// `TPM_ST_ATTEST_QUOTE`.
const ST_QUOTE: u16 = 0x8018;

/// A signed statement of a TPM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attest {
    /// The qualified name of the key that signed.
    pub qualified_signer: Vec<u8>,
    /// The caller's qualifying data.
    pub extra_data: Vec<u8>,
    /// The TPM's clock.
    pub clock: ClockInfo,
    /// The TPM's firmware version, in the maker's form.
    pub firmware_version: u64,
    /// What is attested.
    pub body: AttestBody,
}

/// `TPMS_CLOCK_INFO` (Part 2, section 10.11.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockInfo {
    /// Milliseconds that the TPM was powered.
    pub clock: u64,
    /// How often it was reset.
    pub reset_count: u32,
    /// How often it was resumed or hibernated since.
    pub restart_count: u32,
    /// Whether no greater clock value was reported before.
    pub safe: u8,
}

/// What a statement is about. Only quotes are evidence here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttestBody {
    /// `TPMS_QUOTE_INFO` (Part 2, section 10.12.1).
    Quote {
        /// The registers that were quoted, by bank.
        selections: Vec<PcrSelection>,
        /// The hash over their values.
        pcr_digest: Vec<u8>,
    },
}

impl Attest {
    /// Reads one whole `TPMS_ATTEST`.
    pub fn parse(bytes: &[u8]) -> Result<Self, TpmError> {
        let mut reader = Reader::new("TPMS_ATTEST", bytes);
        let found = reader.u32("magic")?;
        if found != GENERATED {
            return Err(TpmError::Magic { found });
        }
        let kind = reader.u16("type")?;
        if kind != ST_QUOTE {
            return Err(reader.value("type", "TPM_ST_ATTEST_QUOTE (0x8018)", kind.into()));
        }
        let qualified_signer = reader.sized("qualifiedSigner", MAX_NAME)?.to_vec();
        let extra_data = reader.sized("extraData", MAX_NAME)?.to_vec();
        let clock = ClockInfo {
            clock: reader.u64("clock")?,
            reset_count: reader.u32("resetCount")?,
            restart_count: reader.u32("restartCount")?,
            safe: reader.u8("safe")?,
        };
        let firmware_version = reader.u64("firmwareVersion")?;
        let selections = pcr::read_selections(&mut reader)?;
        let pcr_digest = reader.sized("pcrDigest", MAX_DIGEST)?.to_vec();
        reader.end()?;
        let body = AttestBody::Quote { selections, pcr_digest };
        Ok(Self { qualified_signer, extra_data, clock, firmware_version, body })
    }
}

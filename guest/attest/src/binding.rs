//! Init-data bound to the platform: its digest is extended into a register that nobody has touched, or compared with
//! the field that the host had to fill at launch.
//!
//! The event that `core/evidence` defines says what is extended in each bank, so that guest, prediction and judge
//! cannot differ.

use coffer_core_channel::Refusal;
use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::eventlog::{Event, init_data_event};
use coffer_sys_tpm::{Tpm, TpmError};
use coffer_sys_tsm::TsmError;

/// The register that holds init-data (KBS protocol, init-data: `PCR8 = sha256(0³² ‖ digest)`).
const REGISTER: u8 = 8;

/// Why init-data is not bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The field that the host fills at launch has another value: the host started another guest than the owner's.
    #[error("{name} was to hold the digest of init-data from the start, and holds something else")]
    Field {
        /// The field.
        name: &'static str,
        /// What it must hold, in hexadecimal.
        expected: String,
        /// What it holds.
        found: String,
    },
    /// The machine gives no report in which the field could be read.
    #[error("the machine gives no report of itself: {0}")]
    Report(#[source] TsmError),
    /// What the machine gives is no such report.
    #[error("the machine gives no report of itself: {0}")]
    NoReport(String),
    /// Something was extended before us, so the register would prove nothing.
    #[error("register {register} already holds {found}, so init-data cannot be bound to it")]
    AlreadyBound {
        /// The register.
        register: u32,
        /// Its value.
        found: Box<Digest>,
    },
    /// After the extension the register does not hold what it must.
    #[error(
        "register {register} does not hold init-data after the extension: expected {expected}, found {found}"
    )]
    NotBound {
        /// The register.
        register: u32,
        /// What it must hold.
        expected: Box<Digest>,
        /// What it holds.
        found: Box<Digest>,
    },
    /// The TPM has no SHA-256 bank.
    #[error("the TPM has no SHA-256 bank, in which init-data is bound")]
    NoBank,
    /// The TPM failed.
    #[error("init-data could not be bound: {0}")]
    Tpm(#[from] TpmError),
}

impl BindError {
    /// What the host is told.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let (code, expected, found, remedy) = match self {
            Self::Field { expected, found, .. } => (
                "init-data.not-bound",
                Some(expected.clone()),
                Some(found.clone()),
                "Start the machine with the digest of this init-data (`coffer run` does), and attach no other.",
            ),
            Self::Report(_) | Self::NoReport(_) => (
                "init-data.report",
                None,
                None,
                "Start a confidential machine whose guest kernel has the driver of its TEE.",
            ),
            Self::AlreadyBound { found, .. } => (
                "init-data.already-bound",
                Some(Digest::zero(found.algorithm()).to_string()),
                Some(found.to_string()),
                "Start the machine afresh: a guest binds its init-data once, and nothing may do so before it.",
            ),
            Self::NotBound { expected, found, .. } => (
                "init-data.not-bound",
                Some(expected.to_string()),
                Some(found.to_string()),
                "The TPM lies or is shared. Start the machine with a TPM of its own.",
            ),
            Self::NoBank => {
                ("init-data.no-bank", None, None, "Give the machine a TPM 2.0 with a SHA-256 bank.")
            }
            Self::Tpm(_) => (
                "init-data.tpm",
                None,
                None,
                "Give the machine a working TPM 2.0 (`coffer doctor` says what is missing).",
            ),
        };
        Refusal {
            code: code.into(),
            message: self.to_string(),
            expected,
            found,
            remedy: Some(remedy.into()),
            attempt: None,
        }
    }
}

/// Extends the digest of init-data into its register, in every bank, and reads it back. Gives
/// the event for the log that is sent.
pub(crate) fn extend_init_data(tpm: &mut Tpm, digest: &Digest) -> Result<Event, BindError> {
    let banks = tpm.banks()?;
    if !banks.contains(&Algorithm::Sha256) {
        return Err(BindError::NoBank);
    }
    for &bank in &banks {
        let found = read(tpm, bank)?;
        if found != Digest::zero(bank) {
            return Err(BindError::AlreadyBound { register: REGISTER.into(), found: Box::new(found) });
        }
    }
    let event = init_data_event(digest, &banks);
    tpm.pcr_extend(REGISTER, &event.digests)?;
    for event in &event.digests {
        let bank = event.algorithm();
        let (expected, found) = (Digest::zero(bank).extend(event.as_bytes()), read(tpm, bank)?);
        if expected != found {
            return Err(BindError::NotBound {
                register: REGISTER.into(),
                expected: Box::new(expected),
                found: Box::new(found),
            });
        }
    }
    Ok(event)
}

fn read(tpm: &mut Tpm, bank: Algorithm) -> Result<Digest, BindError> {
    tpm.pcr_read(bank, &[REGISTER])?.remove(&REGISTER).ok_or(BindError::NoBank)
}

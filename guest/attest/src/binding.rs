//! Init-data bound to the platform: its digest is extended into a register that nobody has touched.
//!
//! The event that `core/evidence` defines says what is extended in each bank, so that guest, prediction and judge
//! cannot differ.

use coffer_core_channel::Refusal;
use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::eventlog::{Event, init_data_event};
use coffer_sys_tpm::{Tpm, TpmError};

/// The register that holds init-data (KBS protocol, init-data: `PCR8 = sha256(0³² ‖ digest)`).
const REGISTER: u8 = 8;

/// Why init-data is not bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Something was extended before us, so the register would prove nothing.
    #[error("register {REGISTER} already holds {found}, so init-data cannot be bound to it")]
    AlreadyBound {
        /// Its value.
        found: Box<Digest>,
    },
    /// After the extension the register does not hold what it must.
    #[error(
        "register {REGISTER} does not hold init-data after the extension: expected {expected}, found {found}"
    )]
    NotBound {
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
            Self::AlreadyBound { found } => (
                "init-data.already-bound",
                Some(Digest::zero(Algorithm::Sha256).to_string()),
                Some(found.to_string()),
                "Start the machine afresh: a guest binds its init-data once, and nothing may do so before it.",
            ),
            Self::NotBound { expected, found } => (
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

/// Proof that init-data was bound: the event to add to the log that is sent.
#[derive(Clone, Debug)]
pub struct Bound(Event);

impl Bound {
    /// The event.
    #[must_use]
    pub const fn event(&self) -> &Event {
        &self.0
    }
}

/// Extends the digest of init-data into its register, in every bank, and reads it back.
///
/// # Errors
/// When the register was used before, or does not follow.
pub fn bind_init_data(tpm: &mut Tpm, digest: &Digest) -> Result<Bound, BindError> {
    let banks = tpm.banks()?;
    if !banks.contains(&Algorithm::Sha256) {
        return Err(BindError::NoBank);
    }
    for &bank in &banks {
        let found = read(tpm, bank)?;
        if found != Digest::zero(bank) {
            return Err(BindError::AlreadyBound { found: Box::new(found) });
        }
    }
    let event = init_data_event(digest, &banks);
    tpm.pcr_extend(REGISTER, &event.digests)?;
    for event in &event.digests {
        let bank = event.algorithm();
        let (expected, found) = (Digest::zero(bank).extend(event.as_bytes()), read(tpm, bank)?);
        if expected != found {
            return Err(BindError::NotBound { expected: Box::new(expected), found: Box::new(found) });
        }
    }
    Ok(Bound(event))
}

fn read(tpm: &mut Tpm, bank: Algorithm) -> Result<Digest, BindError> {
    tpm.pcr_read(bank, &[REGISTER])?.remove(&REGISTER).ok_or(BindError::NoBank)
}

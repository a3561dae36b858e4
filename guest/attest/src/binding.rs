//! Init-data bound to the platform: its digest is extended into a register that nobody has touched.

use coffer_core_channel::Refusal;
use coffer_core_digest::{Algorithm, Digest};
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

/// A digest in a register's length: cut, or padded with zeros at the right.
fn fitted(digest: &Digest, bank: Algorithm) -> Digest {
    let mut bytes = digest.as_bytes().to_vec();
    bytes.resize(bank.len(), 0);
    Digest::from_bytes(bank, &bytes).unwrap_or(Digest::zero(bank))
}

/// Extends the digest of init-data into its register, in every bank, and reads it back.
///
/// # Errors
/// When the register was used before, or does not follow.
pub fn bind_init_data(tpm: &mut Tpm, digest: &Digest) -> Result<(), BindError> {
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
    let digests: Vec<Digest> = banks.iter().map(|&bank| fitted(digest, bank)).collect();
    tpm.pcr_extend(REGISTER, &digests)?;
    for (bank, event) in banks.into_iter().zip(digests) {
        let (expected, found) = (Digest::zero(bank).extend(event.as_bytes()), read(tpm, bank)?);
        if expected != found {
            return Err(BindError::NotBound { expected: Box::new(expected), found: Box::new(found) });
        }
    }
    Ok(())
}

fn read(tpm: &mut Tpm, bank: Algorithm) -> Result<Digest, BindError> {
    tpm.pcr_read(bank, &[REGISTER])?.remove(&REGISTER).ok_or(BindError::NoBank)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_digest_is_cut_and_a_short_one_padded() {
        let long = Digest::of(Algorithm::Sha384, b"x");
        assert_eq!(fitted(&long, Algorithm::Sha256).as_bytes(), &long.as_bytes()[..32]);
        let short = Digest::sha256(b"x");
        let padded = fitted(&short, Algorithm::Sha384);
        assert_eq!(&padded.as_bytes()[..32], short.as_bytes());
        assert_eq!(&padded.as_bytes()[32..], &[0; 16]);
    }
}

//! Why a secret was not sealed or not given back.

use crate::TpmError;

/// Why a secret was not sealed or not given back.
#[derive(Debug, thiserror::Error)]
pub enum SealingError {
    /// The TPM refused, or gave no answer.
    #[error(transparent)]
    Tpm(TpmError),
    /// The storage key is another one.
    #[error(
        "the secret was sealed by another TPM, or this TPM was cleared since; \
         move back to that machine, or restore from a backup (nothing was changed)"
    )]
    OtherTpm,
    /// The storage key is right, and the object is not.
    #[error("the sealed object was changed since it was made; restore its file from a copy")]
    Foreign,
    /// The registers have other values.
    #[error(
        "the TPM gives the secret only for the boot state that it was sealed in, and PCRs {pcrs:?} now have other \
         values; boot that software again, or restore from a backup and seal anew"
    )]
    Registers {
        /// The registers.
        pcrs: Vec<u8>,
    },
    /// A register cannot be used.
    #[error("PCR {0} is not in the TPM's SHA-256 bank; choose others, or enable that bank in the firmware")]
    NoRegister(u8),
    /// Somebody between us and the TPM changed bytes, or it is no TPM.
    #[error("the TPM's side sent {0}; something between this program and the TPM changes what is sent")]
    Tampered(&'static str),
    /// What should be kept is too long or nothing.
    #[error("a TPM seals 1 to 128 bytes, found {0}")]
    Length(usize),
    /// The file is not a sealed object.
    #[error("this is no sealed object of ours ({0}); restore its file from a copy")]
    Form(&'static str),
    /// No random bytes.
    #[error("the system's random number source failed; nothing was sealed")]
    NoRandomness,
}

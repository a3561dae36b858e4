//! TPM 2.0 structures that evidence carries, parsed from hostile bytes.
//!
//! Layouts follow the TPM 2.0 Library, Part 2: Structures. Each `parse` takes the whole structure and
//! refuses trailing bytes. Left out: structures that no quote needs (symmetric objects, sensitive areas).

mod attest;
mod pcr;
mod public;
mod read;
mod signature;
mod spki;

#[cfg(test)]
mod tests;

pub use attest::{Attest, AttestBody, ClockInfo};
pub use pcr::{PCR_COUNT, PcrSelection, pcr_digest};
pub use public::{Attributes, Curve, KeyParameters, Public};
pub use signature::{Scheme, Signature};
pub use spki::KeyKind;

use coffer_core_digest::Algorithm;

/// `TPM_GENERATED_VALUE`: only a TPM signs a structure that begins with it, if the key is restricted.
pub const GENERATED: u32 = 0xff54_4347;

/// Why bytes are not the TPM structure that they should be.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum TpmError {
    /// The bytes end within a field.
    #[error("{structure} ends in its field {field}: {expected} bytes expected, {found} left")]
    Truncated {
        /// The structure.
        structure: &'static str,
        /// The field.
        field: &'static str,
        /// How many bytes the field needs.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// Bytes follow the structure's end.
    #[error("{structure} is followed by {found} bytes that do not belong to it")]
    Trailing {
        /// The structure.
        structure: &'static str,
        /// How many.
        found: usize,
    },
    /// The attestation does not begin with `TPM_GENERATED_VALUE`, so no TPM made it.
    #[error("the attestation begins with {found:#010x}, not with {GENERATED:#010x}")]
    Magic {
        /// What it begins with.
        found: u32,
    },
    /// A field has a value that the structure does not allow, or that is of no use in evidence.
    #[error("{structure}: {field} is {found:#x}; expected {expected}")]
    Value {
        /// The structure.
        structure: &'static str,
        /// The field.
        field: &'static str,
        /// What is allowed.
        expected: &'static str,
        /// What was found.
        found: u64,
    },
}

/// The algorithm's `TPM_ALG_ID` (Part 2, section 6.3).
pub const fn alg_id(algorithm: Algorithm) -> u16 {
    match algorithm {
        Algorithm::Sha1 => 0x0004,
        Algorithm::Sha256 => 0x000b,
        Algorithm::Sha384 => 0x000c,
        Algorithm::Sha512 => 0x000d,
        Algorithm::Sm3 => 0x0012,
    }
}

/// The hash algorithm of a `TPM_ALG_ID`, if it is one of ours.
pub const fn algorithm(id: u16) -> Option<Algorithm> {
    match id {
        0x0004 => Some(Algorithm::Sha1),
        0x000b => Some(Algorithm::Sha256),
        0x000c => Some(Algorithm::Sha384),
        0x000d => Some(Algorithm::Sha512),
        0x0012 => Some(Algorithm::Sm3),
        _ => None,
    }
}

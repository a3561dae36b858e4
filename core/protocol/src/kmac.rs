//! KMAC256 (NIST SP 800-185), which upstream's ML-KEM form derives with and our provider does not have.
//!
//! It is the assembling program's to bring: the guest does without, so that its trusted base is no larger for it.

/// `KMAC256(key, input, 8 × the output's length, "")`, written to the output.
pub type Kmac256 = fn(key: &[u8], input: &[u8], output: &mut [u8]);

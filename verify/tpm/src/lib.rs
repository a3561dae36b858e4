//! The judge for TPM 2.0 quotes.

//! TPM 2.0 structures that evidence carries, parsed from hostile bytes.

//! The judge for Nitro Enclaves attestation documents.

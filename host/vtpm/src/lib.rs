//! A software TPM whose attestation key is certified by this installation's root.

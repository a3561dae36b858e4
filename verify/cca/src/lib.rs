//! The judge for Arm CCA attestation tokens.

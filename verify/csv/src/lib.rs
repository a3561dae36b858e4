//! The judge for Hygon CSV attestation reports.

//! The judge for SEV-SNP attestation reports.

//! SEV-SNP attestation reports as the firmware makes them and as the KBS protocol carries them.
//!
//! Layouts follow the SEV-SNP Firmware ABI (AMD 56860), tables 3, 10, 11 and 23; the table of certificates the GHCB
//! specification (AMD 56421), section 4.1.8.1. [`Report`] holds the signed bytes; every field is read from them, so
//! nothing else than what was signed can be said. Left out: judging, which is `verify/snp`.

mod certificates;
mod report;
mod wire;

#[cfg(test)]
mod tests;

pub use certificates::{CertificateEntry, CertificateKind, parse_certificate_table};
pub use report::{Cpuid, REPORT_LENGTH, Report, SIGNED_LENGTH, SigningKey, Tcb, TcbLayout, Version};
pub use wire::{SnpEvidence, report_from_json, report_to_json, wire_of_raw};

/// Why bytes or JSON are no SNP evidence.
#[derive(Debug, thiserror::Error)]
pub enum SnpError {
    /// The report does not have its one length.
    #[error("a report has {REPORT_LENGTH} bytes, found {0}")]
    Length(usize),
    /// The report's version is not one whose layout is known.
    #[error("report version {0}; expected 2 to 5")]
    Version(u32),
    /// The JSON does not have the form that peers give a report.
    #[error("the evidence does not have the snp form: {0}")]
    Form(#[from] serde_json::Error),
    /// The table of certificates points outside itself, or does not end.
    #[error("the table of certificates: {0}")]
    Table(&'static str),
    /// More or longer certificates than any platform sends.
    #[error("{what}: at most {limit}, found {found}")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        limit: usize,
        /// What was found.
        found: usize,
    },
    /// The raw report beside the JSON one is not base64.
    #[error("report: {0}")]
    Base64(String),
}

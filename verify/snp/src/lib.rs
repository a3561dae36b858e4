//! The judge for SEV-SNP attestation reports.
//!
//! It checks that a key which AMD certified for this chip (VCEK), or for this cloud provider (VLEK), signed the report
//! at the firmware level that the report claims, for this challenge and this key. Policy bits, the launch measurement
//! and the firmware level itself are claims: whether they are the wanted ones is for `verify/appraisal`.
//! Left out: fetching. A certificate that the host does not provide is asked for as collateral.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod binding;
mod cache;
pub mod claims;
mod examine;
mod product;
mod revocation;
mod roots;
mod vek;

#[cfg(test)]
mod tests;

use coffer_core_evidence::Tee;
use coffer_core_evidence::snp::{SnpError, SnpEvidence};
use coffer_verify_api::{Check, Claims, Fault, Judgement, Question, Verified, Verifier};

pub use examine::Examination;
pub use product::product_of;
pub use revocation::Revocation;
pub use roots::{Root, Roots};

/// The judge of `snp` evidence.
#[derive(Debug)]
pub struct SnpJudge {
    roots: Roots,
    revocation: Revocation,
    stale_seconds: i64,
    keys: cache::Cache<vek::Vek>,
    lists: cache::Cache<revocation::List>,
}

impl SnpJudge {
    /// A judge that believes keys certified under these roots.
    pub fn new(roots: Roots, revocation: Revocation) -> Self {
        let (keys, lists) = (cache::Cache::new(4096), cache::Cache::new(32));
        Self { roots, revocation, stale_seconds: 0, keys, lists }
    }

    /// Heeds revocation lists for so long after their end. Within that time nobody learns of what was revoked
    /// meanwhile; it is for sites that cannot fetch often.
    #[must_use]
    pub fn insecure_accept_stale_collateral(mut self, seconds: u32) -> Self {
        self.stale_seconds = i64::from(seconds);
        self
    }

    /// A judge that believes AMD, for the products that are known, and asks for no revocation lists.
    pub fn amd() -> Self {
        Self::new(Roots::amd(), Revocation::NotChecked)
    }
}

impl Verifier for SnpJudge {
    fn tee(&self) -> Tee {
        Tee::Snp
    }

    fn verify(&self, question: &Question<'_>) -> Result<Judgement, Fault> {
        let evidence = match SnpEvidence::parse(question.evidence) {
            Ok(evidence) => evidence,
            Err(cause) => return Ok(Judgement::Rejected(vec![unreadable(&cause)])),
        };
        let mut checks = vec![Check::passed("snp.evidence.format", "The evidence has the snp form")];
        checks.extend(binding::report_data(&evidence.report, &question.report_data.field()));
        if let Some(digest) = question.init_data {
            checks.push(binding::init_data(&evidence.report, digest));
        }

        let SnpEvidence { report, certificates } = &evidence;
        let mut examined = match self.examine(report, certificates, question.collateral, question.at) {
            Ok(examined) => examined,
            // What is refused whatever the missing document says, is refused now.
            Err(_) if checks.iter().any(Check::has_failed) => return Ok(Judgement::Rejected(checks)),
            Err(missing) => return Err(missing),
        };
        checks.append(&mut examined.checks);
        if checks.iter().any(Check::has_failed) {
            return Ok(Judgement::Rejected(checks));
        }
        let claims = Claims {
            tee: Tee::Snp,
            hardware: true,
            registers: claims::registers(report),
            events: Vec::new(),
            posture: claims::posture(report, &examined),
            json: claims::json(report, &examined),
        };
        Ok(match Verified::from_checks(claims, checks) {
            Ok(verified) => Judgement::Verified(verified),
            Err(reasons) => Judgement::Rejected(reasons),
        })
    }
}

/// Why evidence cannot be read: its form, its length or its version.
pub fn unreadable(cause: &SnpError) -> Check {
    const SOURCE: &str = "SEV-SNP Firmware ABI (AMD 56860), table 23";
    match cause {
        SnpError::Version(found) => Check::failed("snp.report.version", "The report's layout is not known")
            .expected("version 2, 3, 4 or 5")
            .found(format!("version {found}"))
            .source(SOURCE)
            .remedy("update the broker, if the platform's firmware is newer than it"),
        SnpError::Length(found) => Check::failed("snp.report.length", "The report is cut, or is no report")
            .expected("1184 bytes")
            .found(format!("{found} bytes"))
            .source(SOURCE),
        other => Check::failed("snp.evidence.format", "The evidence cannot be read")
            .expected("snp evidence of the KBS protocol")
            .found(other.to_string())
            .source("KBS protocol 0.4, evidence of snp")
            .remedy("use an attester that sends attestation_report and cert_chain"),
    }
}

//! The judges for SNP and TDX guests under Azure's paravisor.
//!
//! The chain of reasons: the platform vouches for the paravisor's report, which hashes the runtime data, which names
//! the virtual TPM's attestation key, which signed a quote over the registers for this challenge and this key. The
//! platform's report is judged by `verify/snp` or `verify/tdx`. Left out: the certificates that Azure issues for
//! attestation keys, because the platform's own proof says more.

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

mod claims;
mod paravisor;
mod quote;
mod snp;
mod tdx;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use coffer_core_evidence::Tee;
use coffer_verify_api::{Check, Claims, Fault, Judgement, Question, Verified, Verifier};
use coffer_verify_snp::SnpJudge;
use coffer_verify_tdx::TdxJudge;

/// The judge of `az-snp-vtpm` evidence.
#[derive(Clone, Debug)]
pub struct AzureSnpJudge {
    snp: Arc<SnpJudge>,
}

impl AzureSnpJudge {
    /// A judge that leaves the platform's report to `snp`, which may be shared with others.
    pub const fn new(snp: Arc<SnpJudge>) -> Self {
        Self { snp }
    }
}

/// The judge of `az-tdx-vtpm` evidence.
#[derive(Clone, Debug)]
pub struct AzureTdxJudge {
    tdx: Arc<TdxJudge>,
}

impl AzureTdxJudge {
    /// A judge that leaves the TD quote to `tdx`, which may be shared with others.
    pub const fn new(tdx: Arc<TdxJudge>) -> Self {
        Self { tdx }
    }
}

impl Verifier for AzureSnpJudge {
    fn tee(&self) -> Tee {
        Tee::AzSnpVtpm
    }

    fn verify(&self, question: &Question<'_>) -> Result<Judgement, Fault> {
        self.judge(question, question.report_data.digest().as_bytes())
    }
}

impl Verifier for AzureTdxJudge {
    fn tee(&self) -> Tee {
        Tee::AzTdxVtpm
    }

    fn verify(&self, question: &Question<'_>) -> Result<Judgement, Fault> {
        self.judge(question, question.report_data.digest().as_bytes())
    }
}

/// Claims that no check speaks against are proven.
fn proven(claims: Claims, checks: Vec<Check>) -> Judgement {
    if checks.iter().any(Check::has_failed) {
        return Judgement::Rejected(checks);
    }
    match Verified::from_checks(claims, checks) {
        Ok(verified) => Judgement::Verified(verified),
        Err(reasons) => Judgement::Rejected(reasons),
    }
}

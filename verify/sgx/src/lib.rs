//! The judge for SGX quotes: which enclave, made by whom, for which session.
//!
//! Signatures, certificates and TCB levels are `verify/dcap`'s. Left out: whether the enclave is the wanted one and
//! whether debug and the TCB status are acceptable, which is `verify/appraisal`.

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

#[cfg(test)]
mod tests;

use std::sync::Arc;

use coffer_core_evidence::Tee;
use coffer_core_evidence::dcap::{Body, Quote, SgxEvidence};
use coffer_verify_api::{Check, Fault, Judgement, Question, Verified, Verifier};
use coffer_verify_dcap::{Dcap, Expected};

const LAYOUT: &str = "Intel SGX ECDSA QuoteLibReference DCAP API, appendix A.4";

/// The judge of `sgx` evidence.
#[derive(Clone, Debug)]
pub struct SgxJudge {
    dcap: Arc<Dcap>,
}

impl SgxJudge {
    /// A judge that follows signatures with `dcap`, which may be shared with the judge for TDX.
    pub const fn new(dcap: Arc<Dcap>) -> Self {
        Self { dcap }
    }
}

impl Verifier for SgxJudge {
    fn tee(&self) -> Tee {
        Tee::Sgx
    }

    fn verify(&self, question: &Question<'_>) -> Result<Judgement, Fault> {
        let rejected = |check: Check| Ok(Judgement::Rejected(vec![check]));
        let evidence = match SgxEvidence::parse(question.evidence) {
            Ok(evidence) => evidence,
            Err(cause) => {
                let failed = Check::failed("sgx.evidence.format", "The evidence cannot be read");
                let expected = "sgx evidence of the KBS protocol: quote in base64";
                return rejected(failed.expected(expected).found(cause.to_string()));
            }
        };
        let quote = match Quote::parse(&evidence.quote) {
            Ok(quote) => quote,
            Err(cause) => {
                let code = format!("sgx.quote.{}", cause.code());
                let failed = Check::failed(code, "The quote cannot be read");
                return rejected(failed.found(cause.to_string()).source(LAYOUT));
            }
        };
        let Body::Sgx(report) = &quote.body else {
            let failed = Check::failed("sgx.quote.tee-type", "The quote is of a trust domain");
            let failed = failed.expected("a quote of an enclave");
            return rejected(failed.found(format!("TEE type {:#x}", quote.header.tee_type)).source(LAYOUT));
        };

        // All that can be refused without collateral is refused before any is asked for.
        let expected = Expected::Session(question.report_data);
        let mut checks = coffer_verify_dcap::report_data("sgx", &report.report_data, expected);
        if let Some(digest) = question.init_data {
            checks.push(coffer_verify_dcap::init_data("sgx", "CONFIGID", &report.config_id, digest));
        }
        let signed = self.dcap.signatures("sgx", &quote, question.collateral, question.at);
        checks.extend(signed.checks.iter().cloned());
        if checks.iter().any(Check::has_failed) {
            return Ok(Judgement::Rejected(checks));
        }
        let appraised = self.dcap.appraise("sgx", &quote, &signed, question.collateral, question.at)?;
        checks.extend(appraised.checks);
        let Some(verdict) = appraised.verdict else { return Ok(Judgement::Rejected(checks)) };
        let claims = claims::claims(&quote, report, &verdict);
        Ok(match Verified::from_checks(claims, checks) {
            Ok(verified) => Judgement::Verified(verified),
            Err(reasons) => Judgement::Rejected(reasons),
        })
    }
}

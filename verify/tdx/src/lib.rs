//! The judge for TDX quotes: what a trust domain is, and whether its event log leads to its registers.
//!
//! Signatures, certificates and TCB levels are `verify/dcap`'s. Left out: whether the registers are the wanted ones
//! and whether debug, migration, service TDs and the TCB status are acceptable, which is `verify/appraisal`.

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
mod details;
mod log;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use coffer_core_digest::Digest;
use coffer_core_evidence::Tee;
use coffer_core_evidence::dcap::{Body, Quote, TdAttributes, TdReport, TdxEvidence};
use coffer_verify_api::{
    Check, Claims, Collateral, Fault, Judgement, Question, Timestamp, Verified, Verifier,
};
use coffer_verify_dcap::{Dcap, Expected};

pub use details::uefi_event_log;

/// The judge of `tdx` evidence.
#[derive(Clone, Debug)]
pub struct TdxJudge {
    dcap: Arc<Dcap>,
}

/// What is asked of a TD quote that stands inside other evidence.
pub struct Inner<'a> {
    /// What codes begin with: `az-tdx-vtpm`.
    pub prefix: &'a str,
    /// The quote.
    pub quote: &'a [u8],
    /// What its report data must hold.
    pub report_data: Expected<'a>,
    /// The digest of the init-data, if MRCONFIGID must hold it.
    pub init_data: Option<&'a Digest>,
    /// The event log of RTMR0 to RTMR3, if there is one.
    pub event_log: Option<&'a [u8]>,
    /// Where documents are found.
    pub collateral: &'a dyn Collateral,
    /// The time.
    pub at: Timestamp,
}

/// What is said of a TD quote: the checks, and its claims if none of them failed.
pub struct Judged {
    /// The checks that were made.
    pub checks: Vec<Check>,
    /// What the quote says; none if a check failed. `tee` is [`Tee::Tdx`].
    pub claims: Option<Claims>,
}

impl TdxJudge {
    /// A judge that follows signatures with `dcap`, which may be shared with the judge for SGX.
    pub const fn new(dcap: Arc<Dcap>) -> Self {
        Self { dcap }
    }

    /// Judges a quote inside other evidence.
    pub fn judge_quote(&self, inner: &Inner<'_>) -> Result<Judged, Fault> {
        let refused = |checks| Ok(Judged { checks, claims: None });
        let prefix = inner.prefix;
        let quote = match Quote::parse(inner.quote) {
            Ok(quote) => quote,
            Err(cause) => {
                let code = format!("{prefix}.quote.{}", cause.code());
                let failed = Check::failed(code, "The quote cannot be read").found(cause.to_string());
                return refused(vec![failed.source(LAYOUT)]);
            }
        };
        let Body::Td(report) = &quote.body else {
            let failed = Check::failed(format!("{prefix}.quote.tee-type"), "The quote is of an SGX enclave")
                .expected("a quote of a trust domain")
                .found(format!("TEE type {:#x}", quote.header.tee_type));
            return refused(vec![failed.source(LAYOUT)]);
        };

        // All that can be refused without collateral is refused before any is asked for.
        let mut checks = coffer_verify_dcap::report_data(prefix, &report.report_data, inner.report_data);
        checks.push(attributes(prefix, report));
        if let Some(digest) = inner.init_data {
            checks.push(coffer_verify_dcap::init_data(prefix, "MRCONFIGID", &report.mr_config_id, digest));
        }
        let signed = self.dcap.signatures(prefix, &quote, inner.collateral, inner.at);
        checks.extend(signed.checks.iter().cloned());
        // What is not genuine already is not worth the work on a log of a megabyte that anybody may send.
        let events = match (checks.iter().any(Check::has_failed), inner.event_log) {
            (_, None) => None,
            (true, Some(_)) => {
                checks.push(log::not_read(prefix));
                None
            }
            (false, Some(bytes)) => {
                let (events, found) = log::replay(prefix, bytes, report);
                checks.push(found);
                events
            }
        };
        if checks.iter().any(Check::has_failed) {
            return refused(checks);
        }

        let appraised = self.dcap.appraise(prefix, &quote, &signed, inner.collateral, inner.at)?;
        checks.extend(appraised.checks);
        let Some(verdict) = appraised.verdict.filter(|_| !checks.iter().any(Check::has_failed)) else {
            return refused(checks);
        };
        let claims = claims::claims(&quote, report, &verdict, events);
        Ok(Judged { checks, claims: Some(claims) })
    }
}

const LAYOUT: &str = "Intel TDX DCAP Quoting Library API, appendix A.3";

/// Bits that the module's specification reserves mean something that this judge does not know.
fn attributes(prefix: &str, report: &TdReport) -> Check {
    const SOURCE: &str = "Intel TDX Module ABI specification 348551, TD ATTRIBUTES";
    let code = format!("{prefix}.td.attributes");
    let found = hex::encode(report.td_attributes.0);
    match report.td_attributes.has(TdAttributes::RESERVED) {
        false => Check::passed(code, "The TD has no attribute that is not known").found(found).source(SOURCE),
        true => Check::failed(code, "The TD has attributes that are not known")
            .expected("zeros in the reserved bits")
            .found(found)
            .source(SOURCE),
    }
}

impl Verifier for TdxJudge {
    fn tee(&self) -> Tee {
        Tee::Tdx
    }

    fn verify(&self, question: &Question<'_>) -> Result<Judgement, Fault> {
        let evidence = match TdxEvidence::parse(question.evidence) {
            Ok(evidence) => evidence,
            Err(cause) => {
                let failed = Check::failed("tdx.evidence.format", "The evidence cannot be read")
                    .expected("tdx evidence of the KBS protocol: quote and cc_eventlog in base64")
                    .found(cause.to_string());
                return Ok(Judgement::Rejected(vec![failed]));
            }
        };
        let judged = self.judge_quote(&Inner {
            prefix: "tdx",
            quote: &evidence.quote,
            report_data: Expected::Session(question.report_data),
            init_data: question.init_data,
            event_log: evidence.cc_eventlog.as_deref(),
            collateral: question.collateral,
            at: question.at,
        })?;
        let Some(claims) = judged.claims else { return Ok(Judgement::Rejected(judged.checks)) };
        Ok(match Verified::from_checks(claims, judged.checks) {
            Ok(verified) => Judgement::Verified(verified),
            Err(reasons) => Judgement::Rejected(reasons),
        })
    }
}

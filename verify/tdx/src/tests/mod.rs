//! Claims about the judge.

mod synthetic;
mod vectors;

use std::sync::Arc;

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::ReportData;
use coffer_core_evidence::dcap::TdxEvidence;
use coffer_verify_api::{
    Check, Claims, Collateral, Fault, Judgement, Question, Timestamp, Verified, Verifier,
};
use coffer_verify_dcap::Dcap;

use crate::TdxJudge;

/// The report data that has exactly these bytes.
fn bound_to(field: &[u8]) -> ReportData {
    ReportData::from_runtime_hash(Digest::from_bytes(Algorithm::Sha512, field).unwrap())
}

struct Asked<'a> {
    quote: Vec<u8>,
    log: Option<Vec<u8>>,
    report_data: ReportData,
    init_data: Option<Digest>,
    collateral: &'a dyn Collateral,
    at: i64,
}

fn ask(judge: &TdxJudge, asked: &Asked<'_>) -> Result<Judgement, Fault> {
    let evidence = TdxEvidence { quote: asked.quote.clone(), cc_eventlog: asked.log.clone() }.to_wire();
    judge.verify(&Question {
        evidence: &evidence,
        report_data: &asked.report_data,
        init_data: asked.init_data.as_ref(),
        collateral: asked.collateral,
        at: Timestamp::from_second(asked.at).unwrap(),
    })
}

fn accepted(judge: &TdxJudge, asked: &Asked<'_>) -> Verified<Claims> {
    match ask(judge, asked).unwrap() {
        Judgement::Verified(verified) => verified,
        Judgement::Rejected(checks) => panic!("rejected: {:#?}", causes(&checks)),
    }
}

/// The codes of the causes of a refusal.
fn refused(judge: &TdxJudge, asked: &Asked<'_>) -> Vec<String> {
    match ask(judge, asked).unwrap() {
        Judgement::Verified(_) => panic!("accepted"),
        Judgement::Rejected(checks) => codes(&checks),
    }
}

fn causes(checks: &[Check]) -> Vec<&Check> {
    checks.iter().flat_map(Check::causes).collect()
}

fn codes(checks: &[Check]) -> Vec<String> {
    let mut codes: Vec<String> = causes(checks).into_iter().map(|check| check.code.clone()).collect();
    codes.dedup();
    codes
}

fn judge_of(roots: Vec<Vec<u8>>) -> TdxJudge {
    TdxJudge::new(Arc::new(Dcap::new(roots).unwrap()))
}

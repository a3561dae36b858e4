//! Claims about the judge, on evidence made here and on evidence of real TPMs.

mod synthetic;
mod vectors;

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::ReportData;
use coffer_core_evidence::eventlog::Event;
use coffer_verify_api::{Check, Claims, Judgement, NoCollateral, Question, Timestamp, Verified};
use serde_json::Value;

use crate::{TpmJudge, TrustAnchor};

/// 2026-11-20.
const NOW: i64 = 1_795_132_800;

fn software(root: Vec<u8>) -> TpmJudge {
    TpmJudge::new(vec![TrustAnchor { certificate: root, hardware: false }])
}

/// Judges with this qualifying data, without init-data.
fn judge(judge: &TpmJudge, evidence: &Value, qualifying_data: &[u8]) -> Judgement {
    judge_with(judge, evidence, qualifying_data, None)
}

fn judge_with(
    judge: &TpmJudge,
    evidence: &Value,
    qualifying_data: &[u8],
    init_data: Option<&Digest>,
) -> Judgement {
    let report_data = ReportData::from_runtime_hash(Digest::zero(Algorithm::Sha256));
    let at = Timestamp::from_second(NOW).unwrap();
    let question = Question { evidence, report_data: &report_data, init_data, collateral: &NoCollateral, at };
    judge.judge(&question, &[qualifying_data.to_vec()])
}

fn accepted(judgement: Judgement) -> Verified<Claims> {
    match judgement {
        Judgement::Verified(verified) => verified,
        Judgement::Rejected(reasons) => panic!("rejected: {reasons:#?}"),
    }
}

/// The claimed events that were extended. Those that were not are beside them, proven by nothing.
fn measured(claims: &Claims) -> Vec<&Event> {
    claims.events.iter().filter(|event| event.is_extended()).collect()
}

/// The codes of the causes, each once.
fn causes(judgement: Judgement) -> Vec<String> {
    let Judgement::Rejected(reasons) = judgement else { panic!("accepted") };
    let mut codes: Vec<String> =
        reasons.iter().flat_map(Check::causes).map(|check| check.code.clone()).collect();
    codes.dedup();
    codes
}

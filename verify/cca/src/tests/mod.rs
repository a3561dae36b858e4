//! Claims about the judge, on tokens made here and on published ones.

mod claims;
mod synthetic;
mod vectors;

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::ReportData;
use coffer_core_evidence::cca::CcaEvidence;
use coffer_verify_api::{
    Check, Claims, Judgement, NoCollateral, Question, Timestamp, Verified, Verifier as _,
};
use serde_json::Value;

use crate::{CcaJudge, TrustAnchors};

/// Judges a token for this report data.
fn ask(judge: &CcaJudge, token: &[u8], report_data: Digest, init_data: Option<&Digest>) -> Judgement {
    let evidence = CcaEvidence::from_token(token.to_vec()).unwrap().to_value();
    ask_value(judge, &evidence, report_data, init_data)
}

fn ask_value(
    judge: &CcaJudge,
    evidence: &Value,
    report_data: Digest,
    init_data: Option<&Digest>,
) -> Judgement {
    let report_data = ReportData::from_runtime_hash(report_data);
    // Nothing in a token has a time.
    let at = Timestamp::from_second(1_795_132_800).unwrap();
    let question = Question { evidence, report_data: &report_data, init_data, collateral: &NoCollateral, at };
    judge.verify(&question).unwrap()
}

fn judge(anchors: &[u8]) -> CcaJudge {
    CcaJudge::new(TrustAnchors::from_json(anchors).unwrap())
}

/// A hash of 64 bytes stands in the challenge as it is.
fn whole(challenge: &[u8]) -> Digest {
    Digest::from_bytes(Algorithm::Sha512, challenge).unwrap()
}

fn accepted(judgement: Judgement) -> Verified<Claims> {
    match judgement {
        Judgement::Verified(verified) => verified,
        Judgement::Rejected(reasons) => panic!("rejected: {reasons:#?}"),
    }
}

/// The codes of the causes, each once.
fn causes(judgement: Judgement) -> Vec<String> {
    let Judgement::Rejected(reasons) = judgement else { panic!("accepted") };
    let mut codes: Vec<String> =
        reasons.iter().flat_map(Check::causes).map(|check| check.code.clone()).collect();
    codes.dedup();
    codes
}

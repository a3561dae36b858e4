//! Claims about the judge, on documents made here and on documents of real enclaves.

mod synthetic;
mod vectors;

use coffer_core_digest::Digest;
use coffer_core_evidence::ReportData;
use coffer_verify_api::{
    Check, Claims, Judgement, NoCollateral, Question, Timestamp, Verified, Verifier as _,
};
use serde_json::Value;

use crate::NitroJudge;

/// 2026-11-20.
const NOW: i64 = 1_795_132_800;

/// One question, with what a test changes of it.
#[derive(Clone, Copy)]
struct Asked<'a> {
    report_data: Digest,
    init_data: Option<&'a Digest>,
    at: i64,
}

impl Asked<'_> {
    fn about(self, judge: &NitroJudge, evidence: &Value) -> Judgement {
        let report_data = ReportData::from_runtime_hash(self.report_data);
        let at = Timestamp::from_second(self.at).unwrap();
        let init_data = self.init_data;
        let question =
            Question { evidence, report_data: &report_data, init_data, collateral: &NoCollateral, at };
        judge.verify(&question).unwrap()
    }
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

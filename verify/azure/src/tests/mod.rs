//! Claims about the judges, on evidence of Azure's machines and on evidence made here.

mod synthetic;
mod vectors;

use std::sync::{Arc, OnceLock};

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::ReportData;
use coffer_core_evidence::azure::AzureEvidence;
use coffer_verify_api::{
    Check, Claims, Collateral, Fault, Judgement, NoCollateral, Question, Timestamp, Verified,
};
use serde_json::Value;

use crate::{AzureSnpJudge, AzureTdxJudge};

/// 2026-11-20.
const NOW: i64 = 1_795_132_800;

/// A question with these bytes instead of a session's hash.
struct Asked<'a> {
    evidence: &'a Value,
    nonce: &'a [u8],
    init_data: Option<&'a Digest>,
    collateral: &'a dyn Collateral,
    at: i64,
}

impl<'a> Asked<'a> {
    fn new(evidence: &'a Value, nonce: &'a [u8]) -> Self {
        Self { evidence, nonce, init_data: None, collateral: &NoCollateral, at: NOW }
    }

    fn question<T>(&self, judge: impl FnOnce(&Question<'_>) -> T) -> T {
        // The judges are asked with bytes, because recorded nonces are no hashes.
        let report_data = ReportData::from_runtime_hash(Digest::zero(Algorithm::Sha384));
        judge(&Question {
            evidence: self.evidence,
            report_data: &report_data,
            init_data: self.init_data,
            collateral: self.collateral,
            at: Timestamp::from_second(self.at).unwrap(),
        })
    }

    fn snp(&self, judge: &AzureSnpJudge) -> Result<Judgement, Fault> {
        self.question(|question| judge.judge(question, self.nonce))
    }

    fn tdx(&self, judge: &AzureTdxJudge) -> Result<Judgement, Fault> {
        self.question(|question| judge.judge(question, self.nonce))
    }
}

fn accepted(judgement: Result<Judgement, Fault>) -> Verified<Claims> {
    match judgement.unwrap() {
        Judgement::Verified(verified) => verified,
        Judgement::Rejected(reasons) => panic!("rejected: {reasons:#?}"),
    }
}

/// The codes of the causes, in their order; what is missing if nothing could be said.
fn causes(judgement: Result<Judgement, Fault>) -> String {
    match judgement {
        Ok(Judgement::Verified(_)) => String::new(),
        Ok(Judgement::Rejected(reasons)) => {
            let mut codes: Vec<&str> =
                reasons.iter().flat_map(Check::causes).map(|check| check.code.as_str()).collect();
            codes.dedup();
            codes.join(" ")
        }
        Err(missing) => missing.to_string(),
    }
}

/// A judge of SNP that believes AMD.
fn amd() -> &'static AzureSnpJudge {
    static JUDGE: OnceLock<AzureSnpJudge> = OnceLock::new();
    JUDGE.get_or_init(|| AzureSnpJudge::new(Arc::new(coffer_verify_snp::SnpJudge::amd())))
}

/// A judge of TDX that believes Intel.
fn intel() -> AzureTdxJudge {
    let dcap = coffer_verify_dcap::Dcap::intel().unwrap();
    AzureTdxJudge::new(Arc::new(coffer_verify_tdx::TdxJudge::new(Arc::new(dcap))))
}

/// The same evidence with one change.
fn changed(evidence: &AzureEvidence, change: impl FnOnce(&mut AzureEvidence)) -> Value {
    let mut changed = evidence.clone();
    change(&mut changed);
    let mut value = changed.to_value();
    value["version"] = evidence.version.max(1).into();
    value
}

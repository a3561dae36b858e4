//! Evidence from a real platform.

#![allow(clippy::unwrap_used, reason = "tests")]

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::ReportData;
use coffer_verify_api::{
    Check, CollateralKey, Fault, Judgement, NoCollateral, Question, Timestamp, Verifier as _,
};
use coffer_verify_csv::{Certificate, CsvEvidence, CsvJudge, Report, Usage, Version};
use serde_json::Value;

fn vector(name: &str) -> Option<Vec<u8>> {
    let folder = std::env::var("COFFER_VECTORS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors").into());
    let read = std::fs::read(format!("{folder}/csv/{name}")).ok();
    if read.is_none() {
        println!("skipped: no vectors");
    }
    read
}

fn ask<'a>(evidence: &'a Value, report_data: &'a ReportData) -> Question<'a> {
    let at = Timestamp::from_second(1_795_132_800).unwrap();
    Question { evidence, report_data, init_data: None, collateral: &NoCollateral, at }
}

#[test]
fn hygons_root_certifies_itself() {
    let Some(bytes) = vector("hrk.cert") else { return };
    let root = Certificate::parse_ca(&bytes).unwrap();
    assert!(root.is_for(Usage::Root));
    assert!(root.is_signed_by(&root));
    for at in (0..720).step_by(7) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let valid = Certificate::parse_ca(&changed).is_ok_and(|changed| changed.is_signed_by(&changed));
        assert!(!valid, "byte {at}");
    }
}

#[test]
fn the_platform_key_of_a_real_platform_signed_its_report() {
    let Some(text) = vector("csv_evidence.json") else { return };
    let value: Value = serde_json::from_slice(&text).unwrap();
    let evidence = CsvEvidence::parse(&value).unwrap();
    assert_eq!(evidence.serial, "KPA64911240507");
    let report = Report::parse(&evidence.magic, evidence.flags, &evidence.report).unwrap();
    assert_eq!(report.version, Version::V1);
    assert_eq!((report.sig_usage, report.sig_algo), (0x1002, 4));
    assert_eq!(report.report_data, [0; 64]);
    assert_eq!(report.policy.0, 0x45);
    assert_eq!(hex::encode(report.mnonce), "ad998a845c45cf30944d1c285629e768");
    let pek = Certificate::parse_chip(&evidence.pek).unwrap();
    assert!(pek.is_for(Usage::Platform));
    assert!(pek.key().verify(report.signed(), report.signature()));
}

#[test]
fn without_the_certificates_of_its_chip_the_evidence_is_unavailable_and_not_rejected() {
    let Some(text) = vector("csv_evidence.json") else { return };
    let value: Value = serde_json::from_slice(&text).unwrap();
    // The report is bound to 64 zeros, as a digest of zeros is.
    let zeros = ReportData::from_runtime_hash(Digest::zero(Algorithm::Sha384));
    match CsvJudge::new().verify(&ask(&value, &zeros)) {
        Err(Fault::CollateralUnavailable(keys)) => {
            assert_eq!(keys, [CollateralKey::HygonHskCek("KPA64911240507".into())]);
        }
        Ok(Judgement::Verified(_)) => panic!("accepted without a chain"),
        Ok(Judgement::Rejected(checks)) => {
            panic!("{:?}", checks.iter().flat_map(Check::causes).collect::<Vec<_>>())
        }
        Err(other) => panic!("{other}"),
    }
    let other = ReportData::from_runtime_hash(Digest::sha256(b"another challenge"));
    let Ok(Judgement::Rejected(checks)) = CsvJudge::new().verify(&ask(&value, &other)) else {
        panic!("not rejected")
    };
    let codes: Vec<_> = checks.iter().flat_map(Check::causes).map(|check| check.code.as_str()).collect();
    assert_eq!(codes, ["csv.report.freshness"]);
}

#[test]
fn a_changed_byte_of_the_signed_part_is_refused_for_its_signature() {
    let Some(text) = vector("csv_evidence.json") else { return };
    let value: Value = serde_json::from_slice(&text).unwrap();
    let zeros = ReportData::from_runtime_hash(Digest::zero(Algorithm::Sha384));
    for at in (0..180).step_by(17).chain([192, 223, 264]) {
        let mut changed = value.clone();
        let byte = &mut changed["attestation_report"]["data"][at];
        *byte = (byte.as_u64().unwrap() ^ 1).into();
        let Ok(Judgement::Rejected(checks)) = CsvJudge::new().verify(&ask(&changed, &zeros)) else {
            panic!("byte {at} is not refused")
        };
        let codes: Vec<_> = checks.iter().flat_map(Check::causes).map(|check| check.code.as_str()).collect();
        assert_eq!(codes.first(), Some(&"csv.report.signature"), "byte {at}");
    }
}

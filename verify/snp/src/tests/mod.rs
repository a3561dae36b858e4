//! Claims about the judge, on reports of real processors and on reports made here.

mod synthetic;
mod vectors;

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::ReportData;
use coffer_core_evidence::snp::{CertificateEntry, CertificateKind, Report};
use coffer_verify_api::{Check, Collateral, NoCollateral, Timestamp};

use crate::{Examination, SnpJudge};

/// 2026-11-20.
const NOW: i64 = 1_795_132_800;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn vcek(der: &[u8]) -> Vec<CertificateEntry> {
    vec![CertificateEntry { kind: CertificateKind::Vcek, data: der.to_vec() }]
}

fn vlek(der: &[u8]) -> Vec<CertificateEntry> {
    vec![CertificateEntry { kind: CertificateKind::Vlek, data: der.to_vec() }]
}

/// The codes of the causes, in their order, each once.
fn causes(checks: &[Check]) -> Vec<&str> {
    let mut codes: Vec<&str> =
        checks.iter().flat_map(Check::causes).map(|check| check.code.as_str()).collect();
    codes.dedup();
    codes
}

/// What the handshake would have had to hash for this report to be bound to it.
fn report_data(report: &Report) -> ReportData {
    let digest = Digest::from_bytes(Algorithm::Sha512, report.report_data()).unwrap();
    ReportData::from_runtime_hash(digest)
}

fn examine(judge: &SnpJudge, report: &Report, certificates: &[CertificateEntry], second: i64) -> Examination {
    examine_with(judge, report, certificates, &NoCollateral, second)
}

fn examine_with(
    judge: &SnpJudge,
    report: &Report,
    certificates: &[CertificateEntry],
    collateral: &dyn Collateral,
    second: i64,
) -> Examination {
    judge.examine(report, certificates, collateral, at(second)).unwrap()
}

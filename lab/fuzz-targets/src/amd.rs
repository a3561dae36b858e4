//! AMD and Azure: reports, tables of certificates, keys' certificates, and what a paravisor puts around a report.

use std::sync::LazyLock;

use coffer_core_evidence::azure::{AzureEvidence, AzureQuote, HclReport, PlatformProof, RuntimeClaims};
use coffer_core_evidence::snp::{
    CertificateEntry, CertificateKind, Report, SnpEvidence, parse_certificate_table, report_from_json,
    report_to_json, wire_of_raw,
};
use coffer_verify_api::{Check, NoCollateral, Timestamp};
use coffer_verify_snp::SnpJudge;

/// A certificate of a chip's key, of a test authority, and the report that it goes with.
const CERTIFICATE: &[u8] = include_bytes!("../seeds/snp-vek.der");
const REPORT: &[u8] = include_bytes!("../seeds/snp-report.bin");

/// Reads a raw report with a table of certificates behind it, and writes both as JSON.
pub fn snp_report(data: &[u8]) {
    let _ = parse_certificate_table(data);
    let (report, table) = data.split_at_checked(1184).unwrap_or((data, &[]));
    let Ok(read) = Report::parse(report) else { return };
    let _ = report_from_json(&report_to_json(&read)).unwrap();
    if let Ok(evidence) = wire_of_raw(report, table) {
        assert_eq!(SnpEvidence::parse(&evidence).unwrap().report, read);
    }
}

/// Reads SNP evidence in JSON.
pub fn snp_evidence(data: &[u8]) {
    let Ok(value) = serde_json::from_slice(data) else { return };
    let Ok(evidence) = SnpEvidence::parse(&value) else { return };
    assert_eq!(SnpEvidence::parse(&evidence.to_value()).unwrap().report, evidence.report);
    let _ = judged(&evidence.report, evidence.certificates);
}

/// Reads a certificate of a key. Nobody has AMD's roots to sign one that is accepted.
pub fn snp_certificate(data: &[u8]) {
    let report = Report::parse(REPORT).unwrap();
    for kind in [CertificateKind::Vcek, CertificateKind::Vlek] {
        let _ = judged(&report, vec![CertificateEntry { kind, data: data.to_vec() }]);
    }
}

fn judged(report: &Report, certificates: Vec<CertificateEntry>) -> Option<()> {
    static JUDGE: LazyLock<SnpJudge> = LazyLock::new(SnpJudge::amd);
    let at = Timestamp::from_second(1_795_132_800).unwrap();
    let examined = JUDGE.examine(report, &certificates, &NoCollateral, at).ok()?;
    assert!(examined.checks.iter().any(Check::has_failed), "a report that AMD never signed was accepted");
    Some(())
}

/// Reads evidence of Azure's machines, or a paravisor's report alone.
pub fn azure_evidence(data: &[u8]) {
    let _ = RuntimeClaims::parse(data);
    if let Ok(report) = HclReport::parse(data) {
        let _ = (report.runtime_claims(), report.runtime_hash(), Report::parse(report.platform_report()));
    }
    let Ok(value) = serde_json::from_slice(data) else { return };
    for read in [AzureEvidence::parse_snp(&value), AzureEvidence::parse_tdx(&value)].into_iter().flatten() {
        let written = read.to_value();
        let again = match read.proof {
            PlatformProof::Snp(_) => AzureEvidence::parse_snp(&written),
            PlatformProof::Tdx(_) => AzureEvidence::parse_tdx(&written),
        };
        assert_eq!(again.unwrap(), AzureEvidence { version: 2, ..read.clone() });
        azure_evidence(&read.hcl_report);
    }
}

pub(crate) fn report_seeds() -> Vec<Vec<u8>> {
    let mut table = 0x63da758d_e664_4564_adc5_f4b93be8accd_u128.to_be_bytes().to_vec();
    table.extend([48, 0, 0, 0, 4, 0, 0, 0]);
    table.extend([0; 24]);
    table.extend([1, 2, 3, 4]);
    let mut older = REPORT.to_vec();
    older[0] = 2;
    vec![[REPORT, &table].concat(), older, table]
}

pub(crate) fn report_json_seeds() -> Vec<Vec<u8>> {
    let report = Report::parse(REPORT).unwrap();
    let vcek = CertificateEntry { kind: CertificateKind::Vcek, data: CERTIFICATE.to_vec() };
    let evidence = SnpEvidence { report, certificates: vec![vcek] };
    let older = wire_of_raw(&report_seeds().remove(1), &[]).unwrap();
    vec![serde_json::to_vec(&evidence.to_value()).unwrap(), serde_json::to_vec(&older).unwrap()]
}

pub(crate) fn certificate_seeds() -> Vec<Vec<u8>> {
    vec![CERTIFICATE.to_vec()]
}

pub(crate) fn azure_seeds() -> Vec<Vec<u8>> {
    let runtime = br#"{"keys":[{"kid":"HCLAkPub","key_ops":["sign"],"kty":"RSA","e":"AQAB","n":"AAECAw"}],"user-data":"00"}"#;
    let length = runtime.len() as u32;
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let hcl = [
        b"HCLA".to_vec(),
        words(&[1, 1236 + length, 2, 0, 0, 0, 0]),
        REPORT.to_vec(),
        words(&[20 + length, 1, 2, 1, length]),
        runtime.to_vec(),
    ];
    let hcl = hcl.concat();
    let message = crate::evidence::attest_seeds().remove(0);
    let quote = AzureQuote { signature: vec![1; 4], message, pcrs: vec![vec![2; 32]; 24] };
    let of = |proof| AzureEvidence { version: 2, quote: quote.clone(), hcl_report: hcl.clone(), proof };
    let written = |proof| serde_json::to_vec(&of(proof).to_value()).unwrap();
    let certificate = PlatformProof::Snp(Some(CERTIFICATE.to_vec()));
    vec![hcl.clone(), runtime.to_vec(), written(certificate), written(PlatformProof::Tdx(vec![4, 0, 2, 0]))]
}

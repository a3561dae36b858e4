//! Reports of real processors: Milan, Genoa and Turin, of chips' keys and of a provider's.

use std::path::PathBuf;

use coffer_core_evidence::snp::{SnpError, wire_of_raw};
use coffer_verify_api::{
    Claims, CollateralKey, Document, Fault, Judgement, Question, Shelf, Verified, Verifier as _,
};
use serde_json::Value;

use super::*;

fn vector(path: &str) -> Option<Vec<u8>> {
    let folder = std::env::var("COFFER_VECTORS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors").into());
    let found = std::fs::read(PathBuf::from(folder).join(path)).ok();
    let Some(bytes) = found else {
        println!("skipped: no vectors ({path})");
        return None;
    };
    match path.ends_with(".hex") {
        true => Some(hex::decode(bytes.trim_ascii()).unwrap()),
        false => Some(bytes),
    }
}

/// A report that is genuine at a time.
struct Case {
    report: &'static str,
    certificate: &'static str,
    kind: CertificateKind,
    at: i64,
    product: &'static str,
    version: u32,
    measurement: &'static str,
    /// `fmc`, if there is one, boot loader, TEE, SNP, microcode.
    tcb: &'static [u64],
    debug: bool,
    vmpl: u8,
}

const CASE: Case = Case {
    report: "snp/virtee_report_milan.hex",
    certificate: "snp/virtee_vcek_milan.der",
    kind: CertificateKind::Vcek,
    at: NOW,
    product: "Milan",
    version: 2,
    measurement: "7a1e5c266c0108dbc9bb94fa92695132",
    tcb: &[3, 0, 8, 115],
    debug: false,
    vmpl: 0,
};

const CASES: [Case; 7] = [
    CASE,
    Case {
        report: "snp/oak_milan_oc_release_report.bin",
        certificate: "snp/oak_milan_oc_release_vcek.der",
        version: 3,
        measurement: "195b01b74976a1faba13bd85eaf78795",
        tcb: &[4, 0, 24, 219],
        ..CASE
    },
    Case {
        report: "snp/trustee_test-report.bin",
        certificate: "snp/trustee_test-vcek.der",
        measurement: "a1f3930413247bb38cfc171579ea3c12",
        ..CASE
    },
    Case {
        report: "snp/gosev_attestation.bin",
        certificate: "snp/gosev_vcek.testcer.der",
        measurement: "b07af9620f3b839b47996422ddec6058",
        tcb: &[2, 0, 5, 68],
        // Genuine, and debugged: for the appraisal to refuse.
        debug: true,
        ..CASE
    },
    Case {
        report: "snp/trustee_test-vlek-report.bin",
        certificate: "snp/trustee_test-vlek.der",
        kind: CertificateKind::Vlek,
        // The key's certificate ended on 2025-12-10.
        at: 1_750_000_000,
        version: 3,
        measurement: "8922ebbdd00ec2c541f36a6e7a82a877",
        tcb: &[4, 0, 24, 217],
        vmpl: 1,
        ..CASE
    },
    Case {
        report: "snp/oak_genoa_oc_report.bin",
        certificate: "snp/oak_genoa_oc_vcek.der",
        product: "Genoa",
        version: 5,
        measurement: "c57729018b0a6fb90dc17bb138b0aa35",
        tcb: &[10, 0, 25, 84],
        ..CASE
    },
    Case {
        report: "snp/oak_turin_oc_report.bin",
        certificate: "snp/oak_turin_oc_vcek.der",
        product: "Turin",
        version: 5,
        measurement: "f924dd18f168df60fbea937f0b086284",
        tcb: &[0, 1, 0, 2, 71],
        ..CASE
    },
];

/// A case with its bytes.
struct Loaded {
    report: Vec<u8>,
    certificates: Vec<CertificateEntry>,
}

impl Case {
    fn load(&self) -> Option<Loaded> {
        let (report, data) = (vector(self.report)?, vector(self.certificate)?);
        Some(Loaded { report, certificates: vec![CertificateEntry { kind: self.kind.clone(), data }] })
    }
}

fn evidence(report: &[u8], certificates: &[CertificateEntry]) -> Value {
    let mut evidence = wire_of_raw(report, &[]).unwrap();
    let chain = certificates
        .iter()
        .map(|entry| serde_json::json!({"cert_type": entry.kind.name(), "data": entry.data}));
    evidence["cert_chain"] = chain.collect();
    evidence
}

fn judged(
    evidence: &Value,
    report: &[u8],
    collateral: &dyn Collateral,
    second: i64,
) -> Result<Judgement, Fault> {
    let report_data = Report::parse(report).map(|report| report_data(&report)).unwrap();
    let question =
        Question { evidence, report_data: &report_data, init_data: None, collateral, at: at(second) };
    SnpJudge::amd().verify(&question)
}

fn accepted(judgement: Judgement) -> Verified<Claims> {
    match judgement {
        Judgement::Verified(verified) => verified,
        Judgement::Rejected(reasons) => panic!("rejected: {reasons:#?}"),
    }
}

#[test]
fn reports_of_every_product_are_genuine_with_the_facts_they_are_known_for() {
    for case in &CASES {
        let Some(Loaded { report, certificates }) = case.load() else { return };
        let evidence = evidence(&report, &certificates);
        let verified = accepted(judged(&evidence, &report, &NoCollateral, case.at).unwrap());
        let claims = verified.get();
        let said = |name: &str| claims.json[name].clone();
        assert!(claims.registers["measurement"].hex().starts_with(case.measurement), "{}", case.report);
        assert_eq!(claims.posture.debug, Some(case.debug), "{}", case.report);
        assert_eq!(claims.posture.vmpl, Some(case.vmpl), "{}", case.report);
        assert_eq!(claims.posture.generation.as_deref(), Some(case.product), "{}", case.report);
        assert_eq!(said("version"), case.version, "{}", case.report);
        let mut components = claims.posture.tcb.clone().unwrap().components;
        let names: &[&str] = &["fmc", "bootloader", "tee", "snp", "microcode"];
        let levels: Vec<u64> = names.iter().filter_map(|name| components.remove(*name)).collect();
        assert_eq!(levels, case.tcb, "{}", case.report);
        assert_eq!(said("policy_debug_allowed"), case.debug);
        assert_eq!(claims.posture.chip.is_some(), case.kind == CertificateKind::Vcek, "{}", case.report);
    }
}

#[test]
fn the_provider_of_a_vlek_is_claimed_and_no_chip() {
    let Some(Loaded { report, certificates }) = CASES[4].load() else { return };
    let evidence = evidence(&report, &certificates);
    let verified = accepted(judged(&evidence, &report, &NoCollateral, CASES[4].at).unwrap());
    assert_eq!(verified.get().json["csp_id"], "CN=cc-us-east-2.amazonaws.com");
    assert_eq!(verified.get().json["signing_key"], "vlek");
    let Ok(Judgement::Rejected(late)) = judged(&evidence, &report, &NoCollateral, NOW) else {
        panic!("accepted")
    };
    assert_eq!(causes(&late), ["snp.vek.validity"]);
}

#[test]
fn turin_names_its_chip_with_eight_bytes() {
    let Some(Loaded { report, certificates }) = CASES[6].load() else { return };
    let evidence = evidence(&report, &certificates);
    let verified = accepted(judged(&evidence, &report, &NoCollateral, NOW).unwrap());
    assert_eq!(verified.get().posture.chip.as_deref(), Some("3b42092f69c656d3"));
    assert_eq!(verified.get().json["reported_tcb_fmc"], 0);
}

#[test]
fn upstreams_evidence_is_genuine_as_it_was_sent() {
    let Some(text) = vector("snp/trustee_e2e_evidence.json") else { return };
    let evidence: Value = serde_json::from_slice(&text).unwrap();
    let parsed = coffer_core_evidence::snp::SnpEvidence::parse(&evidence).unwrap();
    let verified = accepted(judged(&evidence, parsed.report.as_bytes(), &NoCollateral, NOW).unwrap());
    assert_eq!(verified.get().posture.generation.as_deref(), Some("Genoa"));
    assert_eq!(verified.get().json["version"], 3);
    // What was read is written as it was.
    assert_eq!(parsed.to_value(), evidence);
}

#[test]
fn a_certificate_that_was_not_sent_is_asked_for_by_the_chip_and_taken_from_the_shelf() {
    for case in CASES.iter().filter(|case| case.kind == CertificateKind::Vcek) {
        let Some(Loaded { report, certificates }) = case.load() else { return };
        let evidence = evidence(&report, &[]);
        let Err(Fault::CollateralUnavailable(keys)) = judged(&evidence, &report, &NoCollateral, case.at)
        else {
            panic!("{} judged without a certificate", case.report)
        };
        let wanted = keys
            .iter()
            .find(|key| matches!(key, CollateralKey::AmdVcek { product, .. } if product == case.product))
            .unwrap();
        let CollateralKey::AmdVcek { chip, .. } = wanted else { unreachable!() };
        assert_eq!(chip.len(), if case.product == "Turin" { 8 } else { 64 });
        let mut shelf = Shelf::default();
        shelf.put(wanted.clone(), Document::new(certificates[0].data.clone(), Vec::new()).into());
        accepted(judged(&evidence, &report, &shelf, case.at).unwrap());
    }
}

#[test]
fn a_report_for_another_challenge_is_refused_even_before_the_certificate_is_there() {
    let Some(Loaded { report, .. }) = CASE.load() else { return };
    let report_data = ReportData::from_runtime_hash(Digest::sha256(b"another challenge"));
    let evidence = evidence(&report, &[]);
    let question = Question {
        evidence: &evidence,
        report_data: &report_data,
        init_data: None,
        collateral: &NoCollateral,
        at: at(NOW),
    };
    let Ok(Judgement::Rejected(reasons)) = SnpJudge::amd().verify(&question) else { panic!("not rejected") };
    assert_eq!(causes(&reasons), ["snp.report.freshness"]);
}

#[test]
fn forged_certificates_are_refused_as_not_amds() {
    let Some(report) = vector("snp/trustee_test-report.bin") else { return };
    let report = Report::parse(&report).unwrap();
    for name in ["legacy", "new"] {
        let Some(der) = vector(&format!("snp/trustee_test-vcek-invalid-{name}.der")) else { return };
        let examined = examine(&SnpJudge::amd(), &report, &vcek(&der), NOW);
        assert_eq!(causes(&examined.checks), ["snp.vek.chain"], "{name}");
    }
}

#[test]
fn changed_reports_are_refused_each_for_its_change() {
    let Some(certificate) = vector("snp/virtee_vcek_milan.der") else { return };
    let judge = SnpJudge::amd();
    for (name, expected) in [
        ("meas_flip", vec!["snp.report.signature"]),
        ("sig_zero", vec!["snp.report.signature"]),
        ("reported_tcb_raised", vec!["snp.tcb.order", "snp.report.signature", "snp.vek.tcb"]),
        ("sigalgo_9", vec!["snp.report.algorithm", "snp.report.signature"]),
    ] {
        let Some(report) = vector(&format!("adversarial/snp_milan_{name}.bin")) else { return };
        let report = Report::parse(&report).unwrap();
        let examined = examine(&judge, &report, &vcek(&certificate), NOW);
        assert_eq!(causes(&examined.checks), expected, "{name}");
    }
    let Some(cut) = vector("adversarial/snp_milan_truncated.bin") else { return };
    let Some(strange) = vector("adversarial/snp_milan_version_99.bin") else { return };
    let cut = Report::parse(&cut).unwrap_err();
    assert!(matches!(cut, SnpError::Length(1000)));
    assert_eq!(crate::unreadable(&cut).code, "snp.report.length");
    let strange = Report::parse(&strange).unwrap_err();
    assert!(matches!(strange, SnpError::Version(99)));
    assert_eq!(crate::unreadable(&strange).code, "snp.report.version");
}

/// Where the report's fields begin, each of which is signed.
const FIELDS: [usize; 24] = [
    0x04, 0x08, 0x10, 0x20, 0x38, 0x40, 0x50, 0x8f, 0x90, 0xbf, 0xc0, 0xe0, 0x110, 0x140, 0x160, 0x180,
    0x18b, 0x1a0, 0x1e0, 0x1e8, 0x1ec, 0x1f0, 0x200, 0x29f,
];

#[test]
fn a_bit_changed_in_any_field_of_any_report_is_refused_by_the_signature() {
    for case in &CASES {
        let Some(Loaded { report, certificates }) = case.load() else { return };
        let judge = SnpJudge::amd();
        for at in FIELDS {
            let mut changed = report.clone();
            changed[at] ^= 1;
            let changed = Report::parse(&changed).unwrap();
            let examined = examine(&judge, &changed, &certificates, case.at);
            assert!(causes(&examined.checks).contains(&"snp.report.signature"), "{} at {at:#x}", case.report);
        }
        for at in [0x2a0, 0x2cf, 0x2d0, 0x2e7, 0x2e8, 0x317, 0x318, 0x32f] {
            let mut changed = report.clone();
            changed[at] ^= 1;
            let changed = Report::parse(&changed).unwrap();
            let examined = examine(&judge, &changed, &certificates, case.at);
            assert_eq!(causes(&examined.checks), ["snp.report.signature"], "{} at {at:#x}", case.report);
        }
        for length in [0, 1, 0x2a0, 0x4a0 - 1, 0x4a0 + 1] {
            let mut cut = report.clone();
            cut.resize(length, 0);
            assert!(matches!(Report::parse(&cut), Err(SnpError::Length(found)) if found == length));
        }
    }
}

#[test]
fn a_key_of_another_report_is_refused() {
    for case in &CASES {
        for other in &CASES {
            let (Some(own), Some(their)) = (case.load(), other.load()) else { return };
            if case.certificate == other.certificate {
                continue;
            }
            let report = Report::parse(&own.report).unwrap();
            let certificates =
                vec![CertificateEntry { kind: case.kind.clone(), ..their.certificates[0].clone() }];
            let examined = examine(&SnpJudge::amd(), &report, &certificates, 1_760_000_000);
            let found = causes(&examined.checks);
            // A key of the other kind is under another authority.
            let expected = if case.kind == other.kind { "snp.report.signature" } else { "snp.vek.chain" };
            assert!(found.contains(&expected), "{} with {}: {found:?}", case.report, other.certificate);
        }
    }
}

#[test]
fn a_bit_changed_anywhere_in_a_certificate_is_refused() {
    for case in &CASES {
        let Some(Loaded { report, certificates }) = case.load() else { return };
        let report = Report::parse(&report).unwrap();
        let judge = SnpJudge::amd();
        let length = certificates[0].data.len();
        for at in (0..length).step_by(13).chain([length - 1]) {
            let mut changed = certificates.clone();
            changed[0].data[at] ^= 1;
            let examined = examine(&judge, &report, &changed, case.at);
            assert!(!causes(&examined.checks).is_empty(), "{} at {at}", case.certificate);
        }
        for length in (0..length).step_by(97) {
            let mut cut = certificates.clone();
            cut[0].data.truncate(length);
            match judge.examine(&report, &cut, &NoCollateral, at(case.at)) {
                Ok(examined) => assert!(!causes(&examined.checks).is_empty()),
                Err(missing) => assert_eq!(length, 0, "{missing}"),
            }
        }
    }
}

#[test]
fn certificates_are_refused_before_and_after_their_time() {
    for case in &CASES {
        let Some(Loaded { report, certificates }) = case.load() else { return };
        let report = Report::parse(&report).unwrap();
        let judge = SnpJudge::amd();
        // Twice, since what is remembered must end as well.
        for _ in 0..2 {
            assert_eq!(causes(&examine(&judge, &report, &certificates, case.at).checks), [""; 0]);
            let early = examine(&judge, &report, &certificates, 1_500_000_000);
            assert_eq!(causes(&early.checks)[0], "snp.vek.validity");
            let late = examine(&judge, &report, &certificates, 2_500_000_000);
            assert_eq!(causes(&late.checks), ["snp.vek.validity", "snp.ask.validity", "snp.ark.validity"]);
        }
    }
}

#[test]
fn turins_second_certificate_is_under_the_same_authority() {
    let (Some(report), Some(other)) = (vector(CASES[6].report), vector("snp/virtee_vcek_turin.der")) else {
        return;
    };
    let report = Report::parse(&report).unwrap();
    let examined = examine(&SnpJudge::amd(), &report, &vcek(&other), NOW);
    assert!(examined.checks.iter().any(|check| check.code == "snp.vek.chain" && !check.has_failed()));
    assert_eq!(causes(&examined.checks)[0], "snp.report.signature");
}

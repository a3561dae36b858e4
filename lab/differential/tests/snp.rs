//! Our judge of SNP reports beside sev, on real reports, on reports of our own, and on thousands of changes.
//!
//! What we accept, sev accepts. What sev accepts and we refuse is refused for what sev leaves to its caller, which
//! stands in [`MEANT`], or because bytes were changed that sev drops before it verifies and we do not: reserved ones,
//! and those of a signature's numbers that no number of the curve reaches.
//! Reports as JSON must be the same, byte for byte, in both directions.

#![allow(clippy::unwrap_used, reason = "a test")]

#[allow(unreachable_pub, reason = "elsewhere it is part of a library")]
#[path = "../../fuzz-targets/src/mutate.rs"]
mod mutate;

use coffer_core_evidence::snp::{
    CertificateEntry, CertificateKind, Report, report_from_json, report_to_json,
};
use coffer_lab_testpki::SnpAuthority;
use coffer_verify_api::{Check, NoCollateral, Timestamp};
use coffer_verify_snp::{Revocation, Root, Roots, SnpJudge};
use sev::certs::snp::{Certificate, Verifiable};
use sev::firmware::guest::AttestationReport;
use sev::parser::ByteParser;

/// Of all changes together; each report and each certificate gets its share.
const REPORT_CHANGES: u64 = 3_000;
const CERTIFICATE_CHANGES: u64 = 300;

/// What sev does not look at: levels, chips and products in certificates, who asked, what firmware says of itself.
const MEANT: [&str; 12] = [
    "snp.report.algorithm",
    "snp.report.vmpl",
    "snp.report.unsigned",
    "snp.report.signing-key",
    "snp.report.version",
    "snp.tcb.order",
    "snp.vek.tcb",
    "snp.vek.chip",
    "snp.vek.product",
    "snp.vek.provider",
    "snp.vek.validity",
    // Extensions that cannot be read: sev reads none.
    "snp.vek.format",
];

/// A report with its key's certificate and the authority that both trust.
struct Subject {
    name: String,
    report: Vec<u8>,
    certificate: Vec<u8>,
    kind: CertificateKind,
    authority: Vec<u8>,
    judge: SnpJudge,
    at: i64,
}

fn vector(path: &str) -> Option<Vec<u8>> {
    let folder = std::env::var("COFFER_VECTORS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors").into());
    let bytes = std::fs::read(format!("{folder}/snp/{path}")).ok();
    if bytes.is_none() {
        println!("skipped: no vectors ({path})");
    }
    match path.ends_with(".hex") {
        true => Some(hex::decode(bytes?.trim_ascii()).unwrap()),
        false => bytes,
    }
}

fn subjects() -> Vec<Subject> {
    let ask = |product: &str| match product {
        "Milan" => include_bytes!("../../../verify/snp/roots/milan-ask.der").to_vec(),
        "Genoa" => include_bytes!("../../../verify/snp/roots/genoa-ask.der").to_vec(),
        _ => include_bytes!("../../../verify/snp/roots/turin-ask.der").to_vec(),
    };
    let mut all = Vec::new();
    for (report, certificate, product) in [
        ("virtee_report_milan.hex", "virtee_vcek_milan.der", "Milan"),
        ("gosev_attestation.bin", "gosev_vcek.testcer.der", "Milan"),
        ("trustee_test-report.bin", "trustee_test-vcek.der", "Milan"),
        ("oak_milan_oc_release_report.bin", "oak_milan_oc_release_vcek.der", "Milan"),
        ("oak_genoa_oc_report.bin", "oak_genoa_oc_vcek.der", "Genoa"),
        ("oak_turin_oc_report.bin", "oak_turin_oc_vcek.der", "Turin"),
        ("trustee_test-vlek-report.bin", "trustee_test-vlek.der", "VLEK"),
    ] {
        let (Some(bytes), Some(der)) = (vector(report), vector(certificate)) else { continue };
        let (kind, authority) = match product {
            "VLEK" => {
                (CertificateKind::Vlek, include_bytes!("../../../verify/snp/roots/milan-asvk.der").to_vec())
            }
            _ => (CertificateKind::Vcek, ask(product)),
        };
        let judge = SnpJudge::amd();
        let name = report.to_owned();
        all.push(Subject {
            name,
            report: bytes,
            certificate: der,
            kind,
            authority,
            judge,
            at: 1_760_000_000,
        });
    }
    for (product, version, tcb) in [
        ("Milan", 2, [4, 0, 0, 0, 0, 0, 24, 219]),
        ("Genoa", 4, [10, 0, 0, 0, 0, 0, 25, 84]),
        ("Turin", 5, [1, 1, 0, 2, 0, 0, 0, 71]),
    ] {
        let own = SnpAuthority::new(product);
        let chip: &[u8] = if product == "Turin" { &[0x7e; 8] } else { &[0xc5; 64] };
        let key = own.certify(&own.content(tcb, chip));
        let mut report = own.report(version, tcb, chip, &[0x5a; 64]);
        key.sign(&mut report);
        let root = Root { product: product.into(), ark: own.ark(), ask: Some(own.ask()), asvk: None };
        all.push(Subject {
            name: format!("a {product} of our own"),
            report: report.to_vec(),
            certificate: key.certificate(),
            kind: CertificateKind::Vcek,
            authority: own.ask(),
            judge: SnpJudge::new(Roots::default().with(root), Revocation::NotChecked),
            at: 1_795_132_800,
        });
    }
    all
}

impl Subject {
    /// The codes of our causes; none if it is genuine.
    fn ours(&self, report: &[u8], certificate: &[u8]) -> Vec<String> {
        let report = match Report::parse(report) {
            Ok(report) => report,
            Err(cause) => return vec![coffer_verify_snp::unreadable(&cause).code],
        };
        let entry = CertificateEntry { kind: self.kind.clone(), data: certificate.to_vec() };
        let at = Timestamp::from_second(self.at).unwrap();
        match self.judge.examine(&report, &[entry], &NoCollateral, at) {
            Ok(examined) => {
                examined.checks.iter().flat_map(Check::causes).map(|check| check.code.clone()).collect()
            }
            Err(missing) => vec![missing.to_string()],
        }
    }

    /// Whether the authority certified the key, as sev says it.
    fn certified(&self, certificate: &[u8]) -> Option<Certificate> {
        let authority = Certificate::from_der(&self.authority).unwrap();
        let vek = Certificate::from_der(certificate).ok()?;
        (&authority, &vek).verify().ok().map(|()| vek)
    }
}

/// Whether the key signed the report, as sev says it.
fn signed(report: &[u8], vek: Option<&Certificate>) -> bool {
    let Some(vek) = vek else { return false };
    AttestationReport::from_bytes(report).is_ok_and(|report| (vek, &report).verify().is_ok())
}

/// Nothing but what is meant differs.
fn compare(subject: &Subject, report: &[u8], ours: &[String], theirs: bool, what: &str) {
    if ours.is_empty() {
        assert!(theirs, "{}: {what}: we accept, sev refuses", subject.name);
    } else if theirs {
        let is_meant = ours.iter().any(|code| MEANT.contains(&code.as_str()));
        let written = AttestationReport::from_bytes(report).ok().and_then(|read| read.to_bytes().ok());
        let drops = written.is_some_and(|written| written.as_slice() != report);
        let beyond =
            |at: usize| report.get(at + 48..at + 72).is_some_and(|rest| rest.iter().any(|byte| *byte != 0));
        assert!(
            is_meant || drops || beyond(0x2a0) || beyond(0x2e8),
            "{}: {what}: sev accepts, we refuse for {ours:?}",
            subject.name
        );
    }
}

/// A change that keeps the length: some bytes, most of them in fields that are signed.
fn changed(report: &[u8], number: u64) -> Vec<u8> {
    let choice = mutate::mutation(&number.to_le_bytes(), &[], number.wrapping_mul(7).wrapping_add(1));
    let mut bytes = report.to_vec();
    let mut state =
        choice.iter().fold(number, |state, byte| state.wrapping_mul(0x100_0193) ^ u64::from(*byte));
    for _ in 0..=state % 3 {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let at = (state >> 33) as usize % bytes.len();
        bytes[at] ^= ((state >> 20) as u8) | 1;
    }
    bytes
}

#[test]
fn what_one_accepts_unchanged_the_other_accepts() {
    for subject in subjects() {
        assert_eq!(subject.ours(&subject.report, &subject.certificate), [""; 0], "{}", subject.name);
        let vek = subject.certified(&subject.certificate);
        assert!(signed(&subject.report, vek.as_ref()), "{}", subject.name);
    }
}

#[test]
fn thousands_of_changed_reports_are_judged_alike() {
    let subjects = subjects();
    let share = REPORT_CHANGES / subjects.len() as u64 + 1;
    let (mut refused, mut accepted) = (0, 0);
    for subject in &subjects {
        let vek = subject.certified(&subject.certificate);
        for number in 0..share {
            // One in eight changes its length as well.
            let report = match number % 8 {
                7 => mutate::mutation(&subject.report, &subject.certificate, number),
                _ => changed(&subject.report, number),
            };
            let ours = subject.ours(&report, &subject.certificate);
            let theirs = signed(&report, vek.as_ref());
            compare(subject, &report, &ours, theirs, &format!("report change {number}"));
            if ours.is_empty() { accepted += 1 } else { refused += 1 }
        }
    }
    println!("{refused} refused, {accepted} accepted by both");
    assert!(refused > REPORT_CHANGES / 2);
}

#[test]
fn changed_certificates_are_judged_alike() {
    let subjects = subjects();
    let share = CERTIFICATE_CHANGES / subjects.len() as u64 + 1;
    for subject in &subjects {
        for number in 0..share {
            let certificate = match number % 8 {
                7 => mutate::mutation(&subject.certificate, &subject.report, number),
                _ => changed(&subject.certificate, number),
            };
            let ours = subject.ours(&subject.report, &certificate);
            let theirs = signed(&subject.report, subject.certified(&certificate).as_ref());
            compare(subject, &subject.report, &ours, theirs, &format!("certificate change {number}"));
        }
    }
}

#[test]
fn reports_as_json_are_the_same_in_both_directions() {
    for subject in subjects() {
        let own = Report::parse(&subject.report).unwrap();
        let their: AttestationReport = AttestationReport::from_bytes(&subject.report).unwrap();
        let mut written = serde_json::to_value(their).unwrap();
        assert_eq!(report_from_json(&written).unwrap(), own, "{}", subject.name);
        let read: AttestationReport = serde_json::from_value(report_to_json(&own)).unwrap();
        assert_eq!(read.to_bytes().unwrap().as_slice(), subject.report, "{}", subject.name);
        // What is absent and what is null say the same.
        let members = written.as_object_mut().unwrap();
        for member in ["launch_mit_vector", "current_mit_vector"] {
            if members[member].is_null() {
                members.remove(member);
            }
        }
        assert_eq!(report_to_json(&own), written, "{}", subject.name);
    }
}

//! The checks on one report: its form, its signature, what it is bound to.

use coffer_core_digest::Digest;
use coffer_verify_api::{Check, Question};

use crate::certificate::{ALGORITHM_SM2_SIGN, Certificate, Usage};
use crate::report::{Report, Version};
use crate::wire::{self, CsvEvidence};

pub(crate) const LAYOUT: &str = "Hygon CSV, attestation report; KBS protocol, evidence of csv";
/// Where the device puts its certificate and its serial number, behind the signed part.
const SIGNER: [(Version, usize); 2] = [(Version::V1, 0x150), (Version::V2, 0x490)];
const PEK_LEN: usize = crate::certificate::CHIP_LEN;

/// Reads everything, or says what cannot be read.
pub(crate) fn parse(question: &Question<'_>) -> Result<(CsvEvidence, Report, Certificate), Box<Check>> {
    let failed = |code: &'static str, title: &'static str, found: String| {
        Box::new(Check::failed(code, title).found(found).source(LAYOUT))
    };
    let evidence = CsvEvidence::parse(question.evidence).map_err(|cause| {
        failed("csv.evidence.format", "The evidence does not have the csv form", cause.to_string())
    })?;
    let report = Report::parse(&evidence.magic, evidence.flags, &evidence.report)
        .map_err(|cause| failed("csv.report.format", "The report cannot be read", cause.to_string()))?;
    let pek = Certificate::parse_chip(&evidence.pek).map_err(|cause| {
        failed("csv.chain.pek", "The certificate of PEK cannot be read", cause.to_string())
    })?;
    Ok((evidence, report, pek))
}

/// The platform key signed the report, and the report says so.
pub(crate) fn signature(report: &Report, pek: &Certificate) -> Check {
    const CODE: &str = "csv.report.signature";
    let failed = |expected: String, found: String| {
        Check::failed(CODE, "The platform key did not sign the report")
            .expected(expected)
            .found(found)
            .source(LAYOUT)
    };
    let said = (report.sig_usage, report.sig_algo);
    if said != (Usage::Platform.number(), ALGORITHM_SM2_SIGN) {
        return failed(
            format!("usage {:#x}, algorithm {ALGORITHM_SM2_SIGN:#x}", Usage::Platform.number()),
            format!("usage {:#x}, algorithm {:#x}", said.0, said.1),
        );
    }
    match pek.is_for(Usage::Platform) && pek.key().verify(report.signed(), report.signature()) {
        true => Check::passed(CODE, "The platform key signed the report (SM2 with SM3)").source(LAYOUT),
        false => failed(
            "a signature by PEK over the report".into(),
            "not by this key or not over this report".into(),
        ),
    }
}

/// One comparison proves two things, because the report data hashes the challenge's nonce together with the key that
/// will receive secrets. When it fails, nobody can tell which of the two differs.
pub(crate) fn freshness_and_binding(report: &Report, question: &Question<'_>) -> [Check; 2] {
    const SOURCE: &str = "KBS protocol 0.4, report data";
    let expected: [u8; 64] = question.report_data.field();
    let (wanted, found) = (hex::encode(expected), hex::encode(report.report_data));
    if expected == report.report_data {
        return [
            Check::passed("csv.report.freshness", "The report was made for this challenge")
                .expected(wanted)
                .found(found)
                .source(SOURCE),
            Check::passed(
                "csv.key.binding",
                "The report is bound to the key that secrets will be encrypted to",
            )
            .source(SOURCE),
        ];
    }
    [
        Check::failed("csv.report.freshness", "The report was made for another challenge or another key")
            .expected(wanted)
            .found(found)
            .source(SOURCE)
            .remedy("attest again, with the nonce of this challenge and the key of this session"),
        Check::unavailable("csv.key.binding", "Not told, because the report data is another hash")
            .source(SOURCE),
    ]
}

/// The device puts the signer's certificate and the chip's serial number behind the signed part. Where they are, they
/// must be those that were sent beside the report. Attesters give them back plain or masked.
pub(crate) fn signer(evidence: &CsvEvidence, report: &Report) -> Check {
    const CODE: &str = "csv.report.signer";
    let at = SIGNER.iter().find(|(version, _)| *version == report.version).map_or(0, |(_, at)| *at);
    let field =
        |at: usize, length: usize| evidence.report.get(at..at.saturating_add(length)).unwrap_or_default();
    let pek = field(at, PEK_LEN);
    let serial = field(at.saturating_add(PEK_LEN), 64);
    if pek.iter().chain(serial).all(|byte| *byte == 0) {
        return Check::informational(CODE, "The report does not name its signer; the certificate sent does")
            .source(LAYOUT);
    }
    let mask = |bytes: &[u8]| -> Vec<u8> {
        bytes
            .iter()
            .zip(report.anonce.to_le_bytes().into_iter().cycle())
            .map(|(byte, mask)| byte ^ mask)
            .collect()
    };
    let same_key = pek == evidence.pek || mask(pek) == evidence.pek;
    let names = |bytes: &[u8]| wire::serial(bytes).is_ok_and(|found| found == evidence.serial);
    match (same_key, names(serial) || names(&mask(serial))) {
        (true, true) => {
            Check::passed(CODE, "The report names the signer and the chip that were sent").source(LAYOUT)
        }
        (false, _) => Check::failed(CODE, "The report names another signer than the certificate sent")
            .expected("the certificate of PEK, byte for byte")
            .found("another certificate")
            .source(LAYOUT),
        (true, false) => Check::failed(CODE, "The report names another chip than the serial number sent")
            .expected(evidence.serial.clone())
            .found(String::from_utf8_lossy(serial).chars().filter(char::is_ascii_graphic).collect::<String>())
            .source(LAYOUT),
    }
}

/// Nothing in a CSV report binds init-data, so init-data that was sent is the host's word.
pub(crate) fn init_data(digest: &Digest) -> Check {
    Check::failed("csv.init-data.binding", "The platform has no field that binds init-data")
        .expected(digest.to_string())
        .found("no such field in the report")
        .source("KBS protocol, init-data; Hygon CSV, attestation report")
        .remedy("start the guest without init-data, with its configuration in the measured image")
}

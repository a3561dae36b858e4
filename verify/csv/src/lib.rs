//! The judge for Hygon CSV attestation reports.
//!
//! It checks that a platform key under Hygon's root signed the report, for this challenge and this key. Signatures are
//! SM2 with SM3. Left out: whether the measurement is the wanted one, which is `verify/appraisal`.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod certificate;
mod chain;
mod checks;
mod claims;
mod log;
mod report;
mod sm2;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;

use coffer_core_evidence::Tee;
use coffer_verify_api::{
    Check, Claims, CollateralKey, Fault, Judgement, Posture, Question, Tcb, Verified, Verifier,
};

pub use certificate::{CA_LEN, CHIP_LEN, Certificate, CertificateError, Usage};
pub use report::{Extension, Policy, REPORT_LEN, Report, ReportError, Version};
pub use wire::{CsvEvidence, WireError};

/// Hygon's root key, as Hygon publishes it.
const HYGON_ROOT: &[u8] = include_bytes!("../roots/hygon-root-key.cert");

/// The judge of `csv` evidence.
#[derive(Clone, Debug)]
pub struct CsvJudge {
    roots: Vec<Vec<u8>>,
    known: Arc<chain::Known>,
}

impl Default for CsvJudge {
    fn default() -> Self {
        Self::new()
    }
}

impl CsvJudge {
    /// A judge that trusts Hygon's root key.
    pub fn new() -> Self {
        Self::with_roots(vec![HYGON_ROOT.to_vec()])
    }

    /// A judge that trusts these root certificates instead (832 bytes each, Hygon's form). With none, it believes
    /// nothing.
    pub fn with_roots(roots: Vec<Vec<u8>>) -> Self {
        Self { roots, known: Arc::default() }
    }
}

impl Verifier for CsvJudge {
    fn tee(&self) -> Tee {
        Tee::Csv
    }

    fn verify(&self, question: &Question<'_>) -> Result<Judgement, Fault> {
        let (evidence, report, pek) = match checks::parse(question) {
            Ok(parts) => parts,
            Err(reason) => return Ok(Judgement::Rejected(vec![*reason])),
        };
        let mut checks = vec![
            Check::passed("csv.evidence.format", "The evidence has the csv form").source(checks::LAYOUT),
        ];
        checks.push(checks::signature(&report, &pek));
        checks.extend(checks::freshness_and_binding(&report, question));
        checks.push(checks::signer(&evidence, &report));
        if let Some(digest) = question.init_data {
            checks.push(checks::init_data(digest));
        }
        // A report that is refused whatever its certificates say is worth no download.
        if checks.iter().any(Check::has_failed) {
            return Ok(Judgement::Rejected(checks));
        }
        let (hsk, cek) = match &evidence.hsk_cek {
            Some((hsk, cek)) => (hsk.clone(), cek.clone()),
            None => match self.fetched(&evidence, question)? {
                Ok(pair) => pair,
                Err(reason) => {
                    checks.push(*reason);
                    return Ok(Judgement::Rejected(checks));
                }
            },
        };
        let sent = chain::Sent { hsk: &hsk, cek: &cek, pek: &evidence.pek };
        checks.push(chain::verify(&self.roots, &sent, &pek, &self.known));
        let events = match checks.iter().any(Check::has_failed) {
            true => None,
            false => {
                let (events, found) = log::replay(evidence.event_log.as_deref(), &report);
                checks.extend(found);
                events
            }
        };
        if checks.iter().any(Check::has_failed) {
            return Ok(Judgement::Rejected(checks));
        }
        let claims = Claims {
            tee: Tee::Csv,
            hardware: true,
            registers: report.registers().into_iter().collect(),
            posture: posture(&report, &pek, &evidence.serial),
            json: claims::json(&evidence, &report, events.as_deref()),
            events: events.unwrap_or_default(),
        };
        Ok(match Verified::from_checks(claims, checks) {
            Ok(verified) => Judgement::Verified(verified),
            Err(checks) => Judgement::Rejected(checks),
        })
    }
}

type Pair = (Vec<u8>, Vec<u8>);

impl CsvJudge {
    /// HSK and CEK as Hygon's service gives them for a serial number: one behind the other.
    fn fetched(
        &self,
        evidence: &CsvEvidence,
        question: &Question<'_>,
    ) -> Result<Result<Pair, Box<Check>>, Fault> {
        if !CollateralKey::is_name(&evidence.serial) {
            let failed = Check::failed("csv.evidence.serial", "The serial number names no chip")
                .expected("letters, digits, dots, underscores and hyphens")
                .found(evidence.serial.clone());
            return Ok(Err(Box::new(failed)));
        }
        let key = CollateralKey::HygonHskCek(evidence.serial.clone());
        let Some(document) = question.collateral.find(&key) else {
            return Err(Fault::CollateralUnavailable(vec![key]));
        };
        Ok(match document.body().split_at_checked(CA_LEN) {
            Some((hsk, cek)) if cek.len() == CHIP_LEN => Ok((hsk.to_vec(), cek.to_vec())),
            _ => Err(Box::new(
                Check::failed("csv.collateral.format", "The certificates of HSK and CEK cannot be read")
                    .expected(format!("{} bytes", CA_LEN.saturating_add(CHIP_LEN)))
                    .found(format!("{} bytes", document.body().len()))
                    .source("Hygon's certificate service, hsk_cek")
                    .remedy("fetch the document again, or import the right one"),
            )),
        })
    }
}

fn posture(report: &Report, pek: &Certificate, serial: &str) -> Posture {
    let [major, minor] = pek.firmware();
    let mut components = BTreeMap::from([
        ("api-major".to_owned(), u64::from(major)),
        ("api-minor".to_owned(), u64::from(minor)),
    ]);
    if let Some(extension) = &report.extension {
        components.insert("build".to_owned(), u64::from(extension.build));
    }
    let generation = match (report.policy.csv3(), report.policy.es()) {
        (true, _) => "CSV3",
        (false, true) => "CSV2",
        (false, false) => "CSV",
    };
    Posture {
        debug: Some(!report.policy.nodbg()),
        open_registers: Some(!report.policy.csv3() && !report.policy.es()),
        migration: Some(!report.policy.nosend()),
        tcb: Some(Tcb { components, ..Tcb::default() }),
        chip: Some(hex::encode(serial)),
        generation: Some(generation.to_owned()),
        ..Posture::default()
    }
}

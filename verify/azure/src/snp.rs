//! A guest of SNP: the chip's key vouches for the paravisor, which runs at the highest privilege level.

use coffer_core_evidence::Tee;
use coffer_core_evidence::azure::{AzureEvidence, PlatformProof};
use coffer_core_evidence::snp::{CertificateEntry, CertificateKind, Report};
use coffer_verify_api::{Check, Claims, Fault, Judgement, Question};

use crate::paravisor::{self, platform_report_data};
use crate::{AzureSnpJudge, claims, proven, quote};

const TEE: Tee = Tee::AzSnpVtpm;

impl AzureSnpJudge {
    /// Judges evidence that must be bound to these bytes.
    pub(crate) fn judge(&self, question: &Question<'_>, expected: &[u8]) -> Result<Judgement, Fault> {
        let (parts, evidence) = match paravisor::parts(TEE, AzureEvidence::parse_snp(question.evidence)) {
            Ok(read) => read,
            Err(refused) => return Ok(Judgement::Rejected(vec![*refused])),
        };
        let mut checks = paravisor::checks(TEE, &parts, expected);
        let registers = match parts.quote.registers(TEE) {
            Ok((registers, found)) => {
                checks.extend(found);
                registers
            }
            Err(refused) => {
                checks.push(*refused);
                return Ok(Judgement::Rejected(checks));
            }
        };
        if let Some(digest) = question.init_data {
            checks.push(quote::init_data(TEE, digest, &registers));
        }
        let report = match Report::parse(parts.hcl.platform_report()) {
            Ok(report) => report,
            Err(cause) => {
                checks.push(coffer_verify_snp::unreadable(&cause));
                return Ok(Judgement::Rejected(checks));
            }
        };
        checks.push(bound(&report, &platform_report_data(&parts.hcl)));
        checks.push(requester(&report));

        let PlatformProof::Snp(vcek) = evidence.proof else { return Ok(Judgement::Rejected(checks)) };
        let vcek = vcek.map(|data| CertificateEntry { kind: CertificateKind::Vcek, data });
        let certificates: Vec<CertificateEntry> = vcek.into_iter().collect();
        let mut examined = match self.snp.examine(&report, &certificates, question.collateral, question.at) {
            Ok(examined) => examined,
            Err(_) if checks.iter().any(Check::has_failed) => return Ok(Judgement::Rejected(checks)),
            Err(missing) => return Err(missing),
        };
        checks.append(&mut examined.checks);

        let mut all = coffer_verify_snp::claims::registers(&report);
        all.extend(claims::registers(&registers));
        let judged = Claims {
            tee: TEE,
            hardware: true,
            registers: all,
            events: Vec::new(),
            posture: coffer_verify_snp::claims::posture(&report, &examined),
            json: claims::snp(&report, &examined, &parts, &registers),
        };
        Ok(proven(judged, checks))
    }
}

/// The platform signed the hash of the runtime data that was sent.
fn bound(report: &Report, expected: &[u8; 64]) -> Check {
    let found = report.report_data();
    let title = match found == expected {
        true => "The platform's report is over this runtime data",
        false => "The platform's report is over other runtime data than the one sent",
    };
    Check::equal(format!("{TEE}.hcl.report-data"), title, &hex::encode(expected), &hex::encode(found))
        .source("Microsoft, guest attestation for confidential VMs, attestation report format")
}

/// The guest's own kernel may have reports made too, over whatever it likes, but not at the paravisor's level.
fn requester(report: &Report) -> Check {
    let code = format!("{TEE}.hcl.vmpl");
    const SOURCE: &str = "SEV-SNP Firmware ABI (AMD 56860), table 23, VMPL";
    match report.vmpl() {
        0 => Check::passed(code, "The paravisor had the report made").found("VMPL 0").source(SOURCE),
        other => {
            Check::failed(code, "The report was not made by the paravisor, so its TPM's key may be anyone's")
                .expected("VMPL 0")
                .found(format!("VMPL {other}"))
                .source(SOURCE)
        }
    }
}

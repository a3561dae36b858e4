//! A guest of TDX: a TD quote vouches for the paravisor.

use coffer_core_evidence::Tee;
use coffer_core_evidence::azure::{AzureEvidence, PlatformProof};
use coffer_verify_api::{Check, Claims, Fault, Judgement, Question};
use coffer_verify_dcap::Expected;
use coffer_verify_tdx::Inner;

use crate::paravisor::{self, platform_report_data};
use crate::{AzureTdxJudge, claims, proven, quote};

const TEE: Tee = Tee::AzTdxVtpm;

impl AzureTdxJudge {
    /// Judges evidence that must be bound to these bytes.
    pub(crate) fn judge(&self, question: &Question<'_>, expected: &[u8]) -> Result<Judgement, Fault> {
        let (parts, evidence) = match paravisor::parts(TEE, AzureEvidence::parse_tdx(question.evidence)) {
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
        let PlatformProof::Tdx(td_quote) = &evidence.proof else { return Ok(Judgement::Rejected(checks)) };
        let report_data = platform_report_data(&parts.hcl);
        let judged = self.tdx.judge_quote(&Inner {
            prefix: "tdx",
            quote: td_quote,
            report_data: Expected::Field(&report_data),
            // The paravisor measures init-data into its TPM; the TD's own fields are set by Azure.
            init_data: None,
            event_log: None,
            collateral: question.collateral,
            at: question.at,
        });
        let judged = match judged {
            Ok(judged) => judged,
            Err(_) if checks.iter().any(Check::has_failed) => return Ok(Judgement::Rejected(checks)),
            Err(missing) => return Err(missing),
        };
        checks.extend(judged.checks);
        let Some(inner) = judged.claims else { return Ok(Judgement::Rejected(checks)) };
        let mut all = inner.registers;
        all.extend(claims::registers(&registers));
        let claims = Claims {
            tee: TEE,
            hardware: true,
            registers: all,
            events: inner.events,
            posture: inner.posture,
            json: claims::tdx(inner.json, &parts, &registers),
        };
        Ok(proven(claims, checks))
    }
}

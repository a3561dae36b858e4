//! A guest under Azure's paravisor: the platform's report is in the virtual TPM, whose attestation key it vouches for.

use coffer_core_digest::Digest;
use coffer_core_evidence::Tee;
use coffer_core_evidence::azure::{AzureEvidence, AzureQuote, HclReport, Platform as Inside, PlatformProof};
use coffer_core_evidence::tpm::Signature;
use coffer_sys_tpm::{Tpm, TpmError};
use serde_json::Value;

use super::imds::Imds;
use super::probe::Places;
use super::tpm::{BANK, LISTED, Pcr, listed};
use super::{Platform, Request};
use crate::binding::extend_init_data;
use crate::runtime::Registers;
use crate::{AttestError, BindError};

/// Where the paravisor puts its report.
const REPORT: u32 = 0x0140_0001;
/// The attestation key that the report vouches for.
const KEY: u32 = 0x8100_0003;

pub(super) struct Azure {
    tpm: Tpm,
    inside: Inside,
    imds: Imds,
    /// The chip's certificate, once it was had.
    certificate: Option<Vec<u8>>,
}

impl Azure {
    /// The paravisor's report; none on another machine's TPM.
    pub(super) fn report(tpm: &mut Tpm) -> Result<Option<Vec<u8>>, TpmError> {
        match tpm.nv_read(REPORT) {
            Ok(report) => Ok(Some(report)),
            Err(TpmError::Refused { code, .. }) if code.is_no_such_handle() => Ok(None),
            Err(why) => Err(why),
        }
    }

    pub(super) fn new(tpm: Tpm, report: &[u8], places: &Places) -> Result<Self, String> {
        let report = HclReport::parse(report).map_err(|why| why.to_string())?;
        Ok(Self { tpm, inside: report.platform(), imds: Imds::new(&places.imds), certificate: None })
    }

    fn proof(&mut self, report: &HclReport) -> Result<PlatformProof, AttestError> {
        match self.inside {
            Inside::Snp => {
                if self.certificate.is_none() {
                    // The broker fetches it from AMD where the host does not give it.
                    self.certificate = self.imds.chip_certificate().ok();
                }
                Ok(PlatformProof::Snp(self.certificate.clone()))
            }
            Inside::Tdx => {
                let wrong = |why| AttestError::Evidence { what: "the TD's quote", why };
                self.imds.td_quote(report.platform_report()).map(PlatformProof::Tdx).map_err(wrong)
            }
        }
    }
}

impl Platform for Azure {
    fn tee(&self) -> Tee {
        match self.inside {
            Inside::Snp => Tee::AzSnpVtpm,
            Inside::Tdx => Tee::AzTdxVtpm,
        }
    }

    fn bind(&mut self, init_data: &Digest) -> Result<&'static str, BindError> {
        extend_init_data(&mut self.tpm, init_data).map(|_| "bound to PCR 8")
    }

    fn evidence(&mut self, request: &Request<'_>) -> Result<Value, AttestError> {
        let wrong = |what| move |why: String| AttestError::Evidence { what, why };
        let hcl_report = self.tpm.nv_read(REPORT)?;
        let report = HclReport::parse(&hcl_report);
        let report = report.map_err(|why| wrong("the paravisor's report")(why.to_string()))?;
        let all: Vec<u8> = (0..LISTED).collect();
        // SPEC: the hash as it is, not padded to a field (KBS protocol, report data).
        let nonce = request.report_data.digest().as_bytes();
        let (message, signature) = self.tpm.quote(KEY, nonce, BANK, &all)?;
        let signature = match Signature::parse(&signature) {
            Ok(Signature::Rsa { bytes, .. }) => bytes,
            Ok(_) => return Err(wrong("the TPM's quote")("it is not signed with RSA".into())),
            Err(why) => return Err(wrong("the TPM's quote")(why.to_string())),
        };
        let pcrs = listed(&mut self.tpm)?.iter().map(|digest| digest.as_bytes().to_vec()).collect();
        let proof = self.proof(&report)?;
        let quote = AzureQuote { signature, message, pcrs };
        Ok(AzureEvidence { version: 2, quote, hcl_report, proof }.to_value())
    }

    fn registers(&mut self) -> Result<Box<dyn Registers + '_>, String> {
        Ok(Box::new(Pcr(&mut self.tpm)))
    }
}

#[cfg(test)]
mod tests;

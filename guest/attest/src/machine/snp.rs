//! A guest under SEV-SNP: reports with the host's certificates, through configfs-tsm or `/dev/sev-guest`.

use coffer_core_digest::Digest;
use coffer_core_evidence::Tee;
use coffer_core_evidence::snp::wire_of_raw;
use coffer_sys_tsm::{REPORT_DATA, SevGuest, Tsm, TsmError};
use serde_json::Value;

use super::{Platform, Request, field};
use crate::runtime::Registers;
use crate::{AttestError, BindError};

/// Where HOST_DATA is in a report (SEV-SNP firmware ABI, table "ATTESTATION_REPORT").
const HOST_DATA: std::ops::Range<usize> = 0xc0..0xe0;

pub(super) enum Source {
    Tsm(Tsm),
    Device(SevGuest),
}

pub(super) struct SnpGuest(pub(super) Source);

impl SnpGuest {
    /// The report and the host's certificates.
    fn report(&self, data: &[u8; REPORT_DATA]) -> Result<(Vec<u8>, Vec<u8>), TsmError> {
        match &self.0 {
            Source::Tsm(tsm) => tsm.report(data).map(|report| (report.outblob, report.auxblob)),
            Source::Device(device) => device.report(data, 0).map(|found| (found.report, found.certificates)),
        }
    }
}

impl Platform for SnpGuest {
    fn tee(&self) -> Tee {
        Tee::Snp
    }

    fn bind(&mut self, init_data: &Digest) -> Result<&'static str, BindError> {
        let (report, _) = self.report(&[0; REPORT_DATA]).map_err(BindError::Report)?;
        let found = report.get(HOST_DATA);
        let found = found.ok_or(BindError::NoReport("the report has no HOST_DATA".into()))?;
        field::compare("HOST_DATA", found, init_data)?;
        Ok("it is what HOST_DATA holds")
    }

    fn evidence(&mut self, request: &Request<'_>) -> Result<Value, AttestError> {
        let (report, table) = self.report(&request.report_data.field::<REPORT_DATA>())?;
        let form = |why: String| AttestError::Evidence { what: "the SNP report", why };
        // The host's table is a convenience: the broker fetches what it lacks.
        wire_of_raw(&report, &table)
            .or_else(|_| wire_of_raw(&report, &[]))
            .map_err(|why| form(why.to_string()))
    }

    fn registers(&mut self) -> Result<Box<dyn Registers + '_>, String> {
        Err("SEV-SNP has no register that a running guest extends".into())
    }
}

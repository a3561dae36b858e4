//! A trust domain: quotes through configfs-tsm, the TD's own report through `/dev/tdx_guest`, the registers through
//! sysfs.

use std::path::PathBuf;

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::Tee;
use coffer_core_evidence::dcap::TdxEvidence;
use coffer_core_evidence::eventlog::{RUNTIME_REGISTER, RuntimeEvent, with_runtime_events};
use coffer_sys_tsm::{Measurements, REPORT_DATA, TD_REPORT, TdxGuest, Tsm, TsmError};
use serde_json::Value;

use super::{Platform, Request, field};
use crate::runtime::{RecordError, Registers};
use crate::{AttestError, BindError};

/// The register for runtime events: index 4 of the log is RTMR3.
const REGISTER: &str = "rtmr3:sha384";
const BANK: Algorithm = Algorithm::Sha384;
/// Where TDINFO is in a TDREPORT, and MRCONFIGID in it (Intel TDX module ABI, TDREPORT_STRUCT and TDINFO_STRUCT).
const REPORTED_CONFIG: std::ops::Range<usize> = 576..624;
/// Where MRCONFIGID is in the body of a quote (Intel TDX DCAP quoting library, "TD quote body").
const QUOTED_CONFIG: usize = 184;
const CONFIG: usize = 48;
/// Firmware reserves no more for its log.
const MAX_LOG: u64 = 1 << 20;

pub(super) struct TrustDomain {
    pub(super) tsm: Option<Tsm>,
    pub(super) device: Option<TdxGuest>,
    pub(super) ccel: PathBuf,
    pub(super) registers: Measurements,
}

impl TrustDomain {
    fn quote(&self, data: &[u8; REPORT_DATA]) -> Result<Vec<u8>, AttestError> {
        let Some(tsm) = &self.tsm else {
            return Err(AttestError::Evidence {
                what: "the TD's quote",
                why: "this kernel has no configfs-tsm (Linux 6.7, module tdx-guest), and its older device gives no quotes"
                    .into(),
            });
        };
        Ok(tsm.report(data)?.outblob)
    }

    /// MRCONFIGID: of the TD's own report, which costs nothing, or of a quote where there is no device.
    fn config(&self) -> Result<[u8; CONFIG], BindError> {
        let zeros = [0; REPORT_DATA];
        if let Some(device) = &self.device {
            let report: [u8; TD_REPORT] = device.report(&zeros).map_err(BindError::Report)?;
            let config = report.get(REPORTED_CONFIG).and_then(|config| config.try_into().ok());
            return config.ok_or(BindError::NoReport("the TD's report has no MRCONFIGID".into()));
        }
        let quote = self.quote(&zeros).map_err(|why| BindError::NoReport(why.to_string()))?;
        quoted_config(&quote).ok_or(BindError::NoReport("the TD's quote has no MRCONFIGID".into()))
    }
}

fn quoted_config(quote: &[u8]) -> Option<[u8; CONFIG]> {
    let version = u16::from_le_bytes(*quote.first_chunk::<2>()?);
    // After the header, which version 5 follows with the body's type and size.
    let body = match version {
        4 => 48,
        5 => 54,
        _ => return None,
    };
    quote.get(body + QUOTED_CONFIG..)?.first_chunk::<CONFIG>().copied()
}

impl Platform for TrustDomain {
    fn tee(&self) -> Tee {
        Tee::Tdx
    }

    fn bind(&mut self, init_data: &Digest) -> Result<&'static str, BindError> {
        field::compare("MRCONFIGID", &self.config()?, init_data)?;
        Ok("it is what MRCONFIGID holds")
    }

    fn evidence(&mut self, request: &Request<'_>) -> Result<Value, AttestError> {
        let quote = self.quote(&request.report_data.field::<REPORT_DATA>())?;
        let firmware = read_log(&self.ccel)?;
        let entries = request.log.map(|log| log.entries()).unwrap_or_default();
        let cc_eventlog = (firmware.is_some() || !entries.is_empty())
            .then(|| with_runtime_events(firmware.as_deref(), entries, BANK));
        Ok(TdxEvidence { quote, cc_eventlog }.to_wire())
    }

    fn registers(&mut self) -> Result<Box<dyn Registers + '_>, String> {
        match self.registers.has(REGISTER) {
            true => Ok(Box::new(Rtmr(&self.registers))),
            false => Err("this kernel lets no TD extend RTMR3 (Linux 6.16 and later do)".into()),
        }
    }
}

/// The firmware's log; none where it left none.
fn read_log(path: &std::path::Path) -> Result<Option<Vec<u8>>, AttestError> {
    use std::io::Read as _;
    let failed = |why: std::io::Error| AttestError::Evidence {
        what: "the firmware's event log",
        why: why.to_string(),
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(failed(why)),
    };
    let mut log = Vec::new();
    file.take(MAX_LOG).read_to_end(&mut log).map_err(failed)?;
    // A log of nothing but padding is none.
    Ok(log.iter().any(|byte| *byte != 0xff).then_some(log))
}

struct Rtmr<'a>(&'a Measurements);

impl Registers for Rtmr<'_> {
    fn bank(&self) -> Algorithm {
        BANK
    }

    fn index(&self) -> u32 {
        RUNTIME_REGISTER
    }

    fn value(&mut self) -> Result<Digest, RecordError> {
        let value = self.0.value(REGISTER, BANK.len()).map_err(failed)?;
        Digest::from_bytes(BANK, &value).map_err(|why| RecordError::Register(why.to_string()))
    }

    fn extend(&mut self, event: &RuntimeEvent) -> Result<(), RecordError> {
        let event = event.to_event(RUNTIME_REGISTER, &[BANK]);
        let digest = event.digest(BANK).map(Digest::as_bytes).unwrap_or_default();
        self.0.extend(REGISTER, digest).map_err(failed)
    }
}

fn failed(why: TsmError) -> RecordError {
    RecordError::Register(why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mrconfigid_is_found_in_quotes_of_both_forms() {
        for (version, start) in [(4u16, 232), (5, 238)] {
            let mut quote = vec![0; 1000];
            quote[..2].copy_from_slice(&version.to_le_bytes());
            quote[start..start + 48].fill(7);
            assert_eq!(quoted_config(&quote), Some([7; 48]));
            assert_eq!(quoted_config(&quote[..start + 47]), None);
        }
        assert_eq!(quoted_config(&[3, 0]), None);
    }

    #[test]
    fn a_recorded_quote_has_the_listed_mrconfigid() {
        let folder = std::env::var("COFFER_VECTORS")
            .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors").into());
        let Ok(quote) = std::fs::read(format!("{folder}/tdx/trustee_tdx_quote_5.dat")) else {
            println!("skipped: no vectors");
            return;
        };
        let parsed = coffer_core_evidence::dcap::Quote::parse(&quote).expect("a quote");
        let coffer_core_evidence::dcap::Body::Td(report) = parsed.body else { panic!("no TD") };
        assert_eq!(quoted_config(&quote), Some(report.mr_config_id));
    }
}

//! Evidence from the machine's TEE.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use coffer_core_digest::Algorithm;
use coffer_core_evidence::eventlog::{EventLog, command_line_note};
use coffer_core_evidence::wire::{TpmEvidence, TpmQuote};
use coffer_core_evidence::{ReportData, Tee};
use coffer_sys_tpm::Tpm;
use coffer_sys_tpm::ak::{self, AttestationKey};
use serde_json::Value;

use crate::{AttestError, Bound, Pending};

/// The registers that are quoted: firmware, boot and kernel (0 to 9) and those that the system may use (10 to 15).
const QUOTED: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
/// As many as upstream's form lists.
const LISTED: u8 = 24;
/// More than the largest log that firmware makes.
const MAX_LOG: u64 = 1 << 20;
/// Where the kernel shows the firmware's log.
const LOG: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";

/// What gives evidence.
pub trait EvidenceSource: Send + Sync {
    /// Which TEE it is.
    fn tee(&self) -> Tee;

    /// Evidence bound to the report data, in the TEE's wire form.
    fn evidence(&self, report_data: ReportData) -> Pending<'_, Value>;
}

/// A TPM 2.0 with a certified attestation key.
pub struct TpmSource {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    tpm: Tpm,
    key: Option<AttestationKey>,
    log: PathBuf,
    bound: Bound,
    command_line: String,
}

impl TpmSource {
    /// Takes the TPM over, in which init-data is bound. The attestation key is loaded when it is first needed, once.
    /// `command_line` is the kernel's, so that a verdict can show it; it is believed only if its hash was measured.
    #[must_use]
    pub fn new(tpm: Tpm, bound: Bound, command_line: String) -> Self {
        Self::with_log(tpm, bound, command_line, LOG.into())
    }

    /// With another place for the event log.
    #[must_use]
    pub fn with_log(tpm: Tpm, bound: Bound, command_line: String, log: PathBuf) -> Self {
        Self { inner: Arc::new(Mutex::new(Inner { tpm, key: None, log, bound, command_line })) }
    }
}

impl EvidenceSource for TpmSource {
    fn tee(&self) -> Tee {
        Tee::Tpm
    }

    fn evidence(&self, report_data: ReportData) -> Pending<'_, Value> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let collected = tokio::task::spawn_blocking(move || {
                let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
                collect(&mut inner, &report_data.field::<32>())
            });
            let failed = |cause: tokio::task::JoinError| AttestError::Evidence {
                what: "the TPM's quote",
                why: cause.to_string(),
            };
            collected.await.map_err(failed)?
        })
    }
}

fn collect(inner: &mut Inner, qualifying: &[u8; 32]) -> Result<Value, AttestError> {
    let wrong = |what| move |why: String| AttestError::Evidence { what, why };
    let Inner { tpm, key, log, bound, command_line } = inner;
    let event_log = whole_log(log, bound, command_line).map_err(wrong("the event log"))?;
    let key = match key {
        Some(key) => &*key,
        None => key.insert(ak::load(tpm)?),
    };
    let bank = Algorithm::Sha256;
    let (message, signature) = key.quote(tpm, qualifying, bank, &QUOTED)?;
    let all: Vec<u8> = (0..LISTED).collect();
    let values = tpm.pcr_read(bank, &all)?;
    let hex = |pcr: &u8| {
        let value = values.get(pcr).ok_or_else(|| format!("register {pcr} has no SHA-256 value"));
        value.map(|digest| digest.hex()).map_err(wrong("the registers"))
    };
    let evidence = TpmEvidence {
        ak_public: key.public.to_spki_der().map_err(|why| wrong("the attestation key")(why.to_string()))?,
        tpm_quote: TpmQuote { signature, message, pcrs: all.iter().map(hex).collect::<Result<_, _>>()? },
        pcr_bank: bank,
        ak_certificates: key.certificates.clone(),
        ak_tpmt_public: Some(key.public.as_bytes().to_vec()),
        event_log: Some(event_log),
    };
    serde_json::to_value(evidence).map_err(|why| wrong("its form")(why.to_string()))
}

/// The firmware's log, and what was extended after it.
fn whole_log(path: &Path, bound: &Bound, command_line: &str) -> Result<Vec<u8>, String> {
    let mut log = Vec::new();
    let file = File::open(path).map_err(|cause| cause.to_string())?;
    file.take(MAX_LOG).read_to_end(&mut log).map_err(|cause| cause.to_string())?;
    let with_init_data = EventLog::append(&log, bound.event()).map_err(|cause| cause.to_string())?;
    EventLog::append(&with_init_data, &command_line_note(command_line)).map_err(|cause| cause.to_string())
}

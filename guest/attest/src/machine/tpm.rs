//! A plain TPM 2.0 with a certified attestation key.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::Tee;
use coffer_core_evidence::eventlog::{Event, EventLog, RuntimeEvent, command_line_note};
use coffer_core_evidence::wire::{TpmEvidence, TpmQuote};
use coffer_sys_tpm::ak::{self, AttestationKey};
use coffer_sys_tpm::{Tpm, TpmError};
use serde_json::Value;

use super::{Platform, Request};
use crate::binding::extend_init_data;
use crate::runtime::{RecordError, Registers};
use crate::{AttestError, BindError};

/// The registers that are quoted: firmware, boot and kernel (0 to 9) and those that the system may use (10 to 15).
const QUOTED: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
/// As many as upstream's form lists.
pub(super) const LISTED: u8 = 24;
/// More than the largest log that firmware makes.
const MAX_LOG: u64 = 1 << 20;
pub(super) const BANK: Algorithm = Algorithm::Sha256;
/// The register for runtime events. Upstream's default, 17, is extended from locality 4 only (PC Client Platform TPM
/// Profile, "PCR attributes"); 15 is the last that software may extend and that is quoted.
const RUNTIME: u8 = 15;

pub(super) struct TpmMachine {
    tpm: Tpm,
    log: PathBuf,
    key: Option<AttestationKey>,
    init_data: Option<Event>,
}

impl TpmMachine {
    pub(super) const fn new(tpm: Tpm, log: PathBuf) -> Self {
        Self { tpm, log, key: None, init_data: None }
    }

    /// The firmware's log, and what was extended after it.
    fn whole_log(&mut self, request: &Request<'_>) -> Result<Vec<u8>, AttestError> {
        let wrong = |why: String| AttestError::Evidence { what: "the event log", why };
        let mut log = read(&self.log).map_err(wrong)?;
        let banks = self.tpm.banks()?;
        let recorded = request.log.map(|log| log.events()).unwrap_or_default();
        let recorded = recorded.iter().map(|event| event.to_event(RUNTIME.into(), &banks));
        let note = command_line_note(request.command_line);
        for event in self.init_data.clone().into_iter().chain(recorded).chain([note]) {
            log = EventLog::append(&log, &event).map_err(|why| wrong(why.to_string()))?;
        }
        Ok(log)
    }
}

impl Platform for TpmMachine {
    fn tee(&self) -> Tee {
        Tee::Tpm
    }

    fn bind(&mut self, init_data: &Digest) -> Result<&'static str, BindError> {
        self.init_data = Some(extend_init_data(&mut self.tpm, init_data)?);
        Ok("bound to PCR 8")
    }

    fn evidence(&mut self, request: &Request<'_>) -> Result<Value, AttestError> {
        let wrong = |what| move |why: String| AttestError::Evidence { what, why };
        let event_log = self.whole_log(request)?;
        let key = match &mut self.key {
            Some(key) => &*key,
            none => none.insert(ak::load(&mut self.tpm)?),
        };
        let qualifying = request.report_data.field::<32>();
        let (message, signature) = key.quote(&mut self.tpm, &qualifying, BANK, &QUOTED)?;
        let pcrs = listed(&mut self.tpm)?;
        let evidence = TpmEvidence {
            ak_public: key
                .public
                .to_spki_der()
                .map_err(|why| wrong("the attestation key")(why.to_string()))?,
            tpm_quote: TpmQuote { signature, message, pcrs: pcrs.iter().map(Digest::hex).collect() },
            pcr_bank: BANK,
            ak_certificates: key.certificates.clone(),
            ak_tpmt_public: Some(key.public.as_bytes().to_vec()),
            event_log: Some(event_log),
        };
        serde_json::to_value(evidence).map_err(|why| wrong("its form")(why.to_string()))
    }

    fn registers(&mut self) -> Result<Box<dyn Registers + '_>, String> {
        Ok(Box::new(Pcr(&mut self.tpm)))
    }
}

/// The values of all registers.
pub(super) fn listed(tpm: &mut Tpm) -> Result<Vec<Digest>, AttestError> {
    let all: Vec<u8> = (0..LISTED).collect();
    let mut values = tpm.pcr_read(BANK, &all)?;
    let value = |pcr: &u8| {
        let why = || format!("register {pcr} has no SHA-256 value");
        values.remove(pcr).ok_or_else(|| AttestError::Evidence { what: "the registers", why: why() })
    };
    all.iter().map(value).collect()
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut log = Vec::new();
    let file = File::open(path).map_err(|cause| cause.to_string())?;
    file.take(MAX_LOG).read_to_end(&mut log).map_err(|cause| cause.to_string())?;
    Ok(log)
}

/// The TPM's register for runtime events, in all its banks.
pub(super) struct Pcr<'a>(pub(super) &'a mut Tpm);

impl Registers for Pcr<'_> {
    fn bank(&self) -> Algorithm {
        BANK
    }

    fn index(&self) -> u32 {
        RUNTIME.into()
    }

    fn value(&mut self) -> Result<Digest, RecordError> {
        let mut values = self.0.pcr_read(BANK, &[RUNTIME]).map_err(failed)?;
        values.remove(&RUNTIME).ok_or_else(|| RecordError::Register("the TPM has no SHA-256 bank".into()))
    }

    fn extend(&mut self, event: &RuntimeEvent) -> Result<(), RecordError> {
        let banks = self.0.banks().map_err(failed)?;
        let event = event.to_event(RUNTIME.into(), &banks);
        self.0.pcr_extend(RUNTIME, &event.digests).map_err(failed)
    }
}

fn failed(why: TpmError) -> RecordError {
    RecordError::Register(why.to_string())
}

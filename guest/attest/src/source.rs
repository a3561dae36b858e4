//! Evidence from the machine's TEE and its devices, and the record of what happens after the start.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use coffer_core_evidence::eventlog::RuntimeEvent;
use coffer_core_evidence::{ReportData, Tee};
use serde_json::Value;

use crate::machine::{Platform, Request};
use crate::runtime::{RUNTIME_LOG, RecordError, RuntimeLog};
use crate::{AttestError, Bound, Devices, Pending, Recorded};

/// What gives evidence.
pub trait EvidenceSource: Send + Sync {
    /// Which TEE it is.
    fn tee(&self) -> Tee;

    /// Evidence bound to the report data, in the TEE's wire form.
    fn evidence(&self, report_data: ReportData) -> Pending<'_, Value>;

    /// The devices' evidence bound to the report data, as the text of a map from kind to evidence. Empty if there are
    /// none.
    fn devices(&self, _: ReportData) -> Pending<'_, String> {
        Box::pin(async { Ok(String::new()) })
    }

    /// Measures an event of the running guest.
    fn record(&self, _: RuntimeEvent) -> Recorded<'_> {
        Box::pin(async { Err(RecordError::NotSupported("the machine has no register for them".into())) })
    }
}

/// The machine that init-data is bound to.
pub struct MachineSource {
    tee: Tee,
    inner: Arc<Mutex<Inner>>,
    devices: Devices,
}

struct Inner {
    platform: Box<dyn Platform>,
    /// None until the first event, or for good where there is no register.
    log: Option<RuntimeLog>,
    folder: PathBuf,
    command_line: String,
}

impl MachineSource {
    /// `command_line` is the kernel's, so that a verdict can show it; it is believed only if its hash was measured.
    #[must_use]
    pub fn new(machine: Bound, command_line: String, devices: Devices) -> Self {
        Self::with_log(machine, command_line, devices, Path::new(RUNTIME_LOG))
    }

    /// With another folder for the log of runtime events.
    #[must_use]
    pub fn with_log(machine: Bound, command_line: String, devices: Devices, folder: &Path) -> Self {
        let platform = machine.platform;
        let tee = platform.tee();
        let inner = Inner { platform, log: None, folder: folder.to_owned(), command_line };
        Self { tee, inner: Arc::new(Mutex::new(inner)), devices }
    }

    /// Calls the machine where that holds nobody up. One call at a time, so that log and register agree.
    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Inner) -> T + Send + 'static,
    ) -> Result<T, tokio::task::JoinError> {
        let inner = Arc::clone(&self.inner);
        let called = move || call(&mut inner.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::task::spawn_blocking(called).await
    }
}

impl Inner {
    fn evidence(&mut self, report_data: &ReportData) -> Result<Value, AttestError> {
        let request = Request { report_data, log: self.log.as_ref(), command_line: &self.command_line };
        self.platform.evidence(&request)
    }

    fn record(&mut self, event: &RuntimeEvent) -> Result<(), RecordError> {
        let mut registers = self.platform.registers().map_err(RecordError::NotSupported)?;
        let log = match &mut self.log {
            Some(log) => log,
            none => none.insert(RuntimeLog::open(&self.folder, &mut *registers)?),
        };
        log.record(event, &mut *registers)
    }
}

impl EvidenceSource for MachineSource {
    fn tee(&self) -> Tee {
        self.tee
    }

    fn evidence(&self, report_data: ReportData) -> Pending<'_, Value> {
        Box::pin(async move {
            let collected = self.call(move |inner| inner.evidence(&report_data)).await;
            let failed =
                |why: tokio::task::JoinError| AttestError::Evidence { what: "it", why: why.to_string() };
            collected.map_err(failed)?
        })
    }

    fn devices(&self, report_data: ReportData) -> Pending<'_, String> {
        Box::pin(self.devices.evidence(report_data))
    }

    fn record(&self, event: RuntimeEvent) -> Recorded<'_> {
        Box::pin(async move {
            let recorded = self.call(move |inner| inner.record(&event)).await;
            recorded.map_err(|why| RecordError::Register(why.to_string()))?
        })
    }
}

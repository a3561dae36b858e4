//! What is kept of an attempt.

use std::collections::BTreeMap;

use coffer_core_admin::{AttemptSummary, Decision};
use coffer_core_protocol::ear::Ear;
use coffer_core_protocol::error::Cause;
use coffer_server_store::{AttemptEntry, JournalEntry, Scope, StoreError};
use coffer_verify_api::{Status, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use crate::reply;

/// A verdict with more JSON than this is kept without its claims; they are in no reason.
const MAX_VERDICT: usize = 256 << 10;

/// An attempt as it is stored.
#[derive(Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) summary: AttemptSummary,
    /// As text: it is written here and in the reply, and read by those who look at the attempt.
    pub(crate) verdict: Box<RawValue>,
    pub(crate) causes: Vec<Cause>,
    /// The verdict on each device, by its name in the token.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) devices: BTreeMap<String, Box<RawValue>>,
    /// Only for genuine evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
}

impl Record {
    /// Of evidence that is not genuine, until there is a token.
    pub(crate) fn new(id: &str, at: jiff::Timestamp, verdict: &Verdict) -> Result<Self, serde_json::Error> {
        let causes = reply::causes(verdict);
        let summary = AttemptSummary {
            id: id.to_string(),
            at: seconds(at),
            tee: verdict.tee.name().to_string(),
            genuine: false,
            hardware: verdict.hardware,
            status: verdict.status.name().to_string(),
            code: causes.first().map(|cause| cause.code.clone()),
        };
        let verdict = bounded(verdict, MAX_VERDICT)?;
        Ok(Self { summary, verdict, causes, devices: BTreeMap::new(), token: None })
    }

    /// With what is said of the devices. The attempt is no better than the worst of its parts.
    pub(crate) fn with_devices<'a>(
        mut self,
        devices: impl ExactSizeIterator<Item = (&'a str, &'a Verdict)>,
    ) -> Result<Self, serde_json::Error> {
        let share = MAX_VERDICT.checked_div(devices.len()).unwrap_or(MAX_VERDICT);
        for (name, verdict) in devices {
            self.devices.insert(name.to_string(), bounded(verdict, share)?);
        }
        Ok(self)
    }

    /// Of genuine evidence.
    pub(crate) fn with_token(mut self, token: String) -> Self {
        self.summary.genuine = true;
        self.token = Some(token);
        self
    }

    /// Whether it is the best that can be said.
    pub(crate) fn is_affirmed(&self) -> bool {
        self.token.is_some() && self.summary.status == Status::Affirming.name()
    }

    /// Of a result that another authority signed.
    pub(crate) fn of_passport(id: &str, at: jiff::Timestamp, ear: &Ear, origin: &Value) -> Self {
        let cpu = ear.cpu().ok();
        let tee = cpu.and_then(|cpu| cpu.evidence.keys().find(|name| is_tee(name)).cloned());
        let summary = AttemptSummary {
            id: id.to_string(),
            at: seconds(at),
            tee: tee.unwrap_or_else(|| "passport".to_owned()),
            genuine: true,
            // Nobody here has seen the evidence.
            hardware: false,
            status: cpu.map_or("none", |cpu| cpu.status.name()).to_owned(),
            code: None,
        };
        let verdict = json!({"tee": summary.tee, "hardware": false, "status": summary.status, "checks": [], "claims": {"origin": origin}});
        let verdict = to_raw_value(&verdict).unwrap_or_default();
        Self { summary, verdict, causes: Vec::new(), devices: BTreeMap::new(), token: None }
    }

    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// The entry for the journal.
    pub(crate) fn entry(&self, at: jiff::Timestamp) -> Result<JournalEntry, serde_json::Error> {
        Ok(JournalEntry::Attempt(AttemptEntry {
            id: self.summary.id.clone(),
            // Against the appraisal counts as refused: whoever has any TPM can make such attempts without end.
            refused: self.token.is_none() || self.summary.status == Status::Contraindicated.name(),
            at_ms: at.as_millisecond(),
            body: serde_json::to_vec(self)?,
        }))
    }
}

/// The decisions of an attempt, oldest first.
pub(crate) fn decisions(rows: &Scope, id: &str) -> Result<Vec<Decision>, StoreError> {
    let bodies = rows.decisions(id)?;
    Ok(bodies.iter().filter_map(|body| serde_json::from_slice(body.expose()).ok()).collect())
}

/// RFC 3339 to the second.
pub(crate) fn seconds(at: jiff::Timestamp) -> String {
    jiff::Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

fn is_tee(name: &str) -> bool {
    serde_json::from_value::<coffer_core_evidence::Tee>(name.into()).is_ok()
}

fn bounded(verdict: &Verdict, limit: usize) -> Result<Box<RawValue>, serde_json::Error> {
    let text = to_raw_value(verdict)?;
    match text.get().len() <= limit {
        true => Ok(text),
        false => to_raw_value(&Verdict { claims: serde_json::Map::new(), ..verdict.clone() }),
    }
}

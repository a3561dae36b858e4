//! One submission on its way through the judges: asked again with the collateral that they missed.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_core_digest::Digest;
use coffer_core_evidence::Tee;
use coffer_core_initdata::InitData;
use coffer_core_protocol::ear::CPU;
use coffer_core_protocol::error::Code;
use coffer_core_protocol::handshake::relying_party::Submission;
use coffer_server_collateral::{AtHand, Hints};
use coffer_verify_api::{
    Check, Claims, Collateral, CollateralKey, Document, Fault, Judgement, Question, Shelf, Timestamp,
    Verified,
};
use serde_json::{Map, Value};

use crate::judges::JudgeSet;
use crate::reply::Refused;

/// How many documents one submission may ask for. Eight GPUs and four switches need about a hundred.
const MAX_KEYS: usize = 256;

/// A submission, and what was gathered for it.
pub(crate) struct Case {
    pub(crate) submission: Submission,
    pub(crate) init_data: Option<InitData>,
    pub(crate) at: Timestamp,
    pub(crate) hints: Hints,
    digest: Option<Digest>,
    devices: Vec<(Tee, Value)>,
    /// Whether there is evidence of a machine; there is, but where a relying party sends its devices' apart.
    machine: bool,
    shelf: Shelf,
}

/// Genuine evidence.
pub(crate) struct Genuine {
    /// None where only devices were judged.
    pub(crate) machine: Option<Verified<Claims>>,
    /// By the name in the token, in the order of the evidence.
    pub(crate) devices: Vec<(String, Verified<Claims>)>,
}

impl Genuine {
    /// All parts, the machine first, by their names in the token.
    pub(crate) fn all(self) -> impl Iterator<Item = (String, Verified<Claims>)> {
        let machine = self.machine.map(|machine| (CPU.to_owned(), machine));
        machine.into_iter().chain(self.devices)
    }
}

/// What the judges say.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Found {
    /// All of it is genuine.
    Genuine(Genuine),
    /// Some of it is not; the causes.
    Rejected(Vec<Check>),
    /// They cannot say without these documents.
    Missing(Vec<CollateralKey>),
}

/// What was gathered for this submission, and else what is at hand.
struct Both<'a>(&'a Shelf, &'a AtHand);

impl Collateral for Both<'_> {
    fn find(&self, key: &CollateralKey) -> Option<std::sync::Arc<Document>> {
        self.0.find(key).or_else(|| self.1.find(key))
    }
}

impl Case {
    /// Reads what the judges need of a submission.
    pub(crate) fn open(submission: Submission, judges: &JudgeSet, at: Timestamp) -> Result<Self, Refused> {
        let init_data =
            submission.init_data.as_deref().map(|text| InitData::parse(text.as_bytes())).transpose();
        let init_data = init_data.map_err(|error| Refused::new(Code::InitDataFormat, format!("{error}.")))?;
        let devices = devices(&submission.additional, judges)?;
        let mut hints = Hints::default();
        for (_, evidence) in &devices {
            add_certificates(&mut hints, evidence);
        }
        let digest = init_data.as_ref().map(InitData::digest);
        Ok(Self { submission, init_data, at, hints, digest, devices, machine: true, shelf: Shelf::default() })
    }

    /// As [`Case::open`], of evidence that is of devices alone.
    pub(crate) fn of_device(
        submission: Submission,
        judges: &JudgeSet,
        at: Timestamp,
    ) -> Result<Self, Refused> {
        let mut case = Self::open(submission, judges, at)?;
        let evidence = std::mem::take(&mut case.submission.primary);
        add_certificates(&mut case.hints, &evidence);
        case.devices = vec![(case.submission.tee, evidence)];
        case.machine = false;
        Ok(case)
    }

    /// Adds documents that were gathered.
    pub(crate) fn add(&mut self, shelf: &Shelf) {
        for (key, document) in shelf.iter() {
            self.shelf.put(key.clone(), document.clone());
        }
    }

    /// Asks the judges. What can be refused is refused before anything is asked for.
    pub(crate) fn judge(&self, judges: &JudgeSet, at_hand: &AtHand) -> Result<Found, Refused> {
        let tee = self.submission.tee;
        let collateral = Both(&self.shelf, at_hand);
        let question = Question {
            evidence: &self.submission.primary,
            report_data: &self.submission.report_data,
            init_data: self.digest.as_ref(),
            collateral: &collateral,
            at: self.at,
        };
        let mut missing = BTreeSet::new();
        let machine = match self.machine {
            false => None,
            true => {
                let judge = judges.machines.iter().find(|judge| judge.tee() == tee);
                match judge.ok_or(Code::TeeUnsupported)?.verify(&question) {
                    Ok(Judgement::Rejected(checks)) => return Ok(Found::Rejected(checks)),
                    Ok(Judgement::Verified(verified)) => Some(verified),
                    Err(Fault::CollateralUnavailable(keys)) => {
                        missing.extend(keys);
                        None
                    }
                    Err(fault) => return Err(Refused::new(Code::TeeUnsupported, format!("{fault}."))),
                }
            }
        };
        let mut devices = Vec::new();
        let mut rejected = Vec::new();
        for (tee, evidence) in &self.devices {
            let judge =
                judges.devices.iter().find(|judge| judge.tee() == *tee).ok_or(Code::DeviceUnsupported)?;
            let question = Question {
                evidence,
                report_data: &self.submission.device_report_data,
                init_data: None,
                ..question
            };
            let judged = match judge.verify(&question) {
                Ok(judged) => judged,
                Err(Fault::CollateralUnavailable(keys)) => {
                    missing.extend(keys);
                    continue;
                }
                Err(fault) => return Err(Refused::new(Code::DeviceUnsupported, format!("{fault}."))),
            };
            for device in judged {
                match device.judgement {
                    Judgement::Verified(verified) => devices.push((device.submodule, verified)),
                    Judgement::Rejected(checks) => rejected.push(device_group(&device.submodule, checks)),
                }
            }
        }
        if !rejected.is_empty() {
            let mut checks = machine.map(|verified| verified.checks().to_vec()).unwrap_or_default();
            checks.extend(rejected);
            return Ok(Found::Rejected(checks));
        }
        match missing.is_empty() && machine.is_some() == self.machine {
            true => Ok(Found::Genuine(Genuine { machine, devices })),
            false => Ok(Found::Missing(missing.into_iter().take(MAX_KEYS).collect())),
        }
    }
}

/// The checks of one device, under its name.
pub(crate) fn device_group(submodule: &str, checks: Vec<Check>) -> Check {
    Check::group(format!("device.{submodule}"), format!("The device {submodule}"), checks)
}

/// The devices' evidence by its kind.
fn devices(additional: &str, judges: &JudgeSet) -> Result<Vec<(Tee, Value)>, Refused> {
    if additional.trim().is_empty() {
        return Ok(Vec::new());
    }
    let map: Map<String, Value> = serde_json::from_str(additional)
        .map_err(|error| Refused::new(Code::AdditionalEvidence, format!("{error}.")))?;
    let known = |name: &str| judges.devices.iter().map(|judge| judge.tee()).find(|tee| tee.name() == name);
    let kind = |(name, evidence): (String, Value)| match known(&name) {
        Some(tee) => Ok((tee, evidence)),
        // Device evidence that nobody judges must not look judged.
        None => {
            let judged: Vec<&str> = judges.devices.iter().map(|judge| judge.tee().name()).collect();
            let name: String = name.chars().take(32).collect();
            let judged = if judged.is_empty() { "none".to_owned() } else { judged.join(", ") };
            let detail =
                format!("Evidence of devices of kind {name:?} is not judged here; judged are: {judged}.");
            Err(Refused::new(Code::DeviceUnsupported, detail))
        }
    };
    map.into_iter().map(kind).collect()
}

/// The certificates that devices sent: some of what is asked for about them needs them.
fn add_certificates(hints: &mut Hints, evidence: &Value) {
    let list = evidence.get("device_evidence_list").and_then(Value::as_array);
    for device in list.into_iter().flatten() {
        let text = device.get("certificate").and_then(Value::as_str);
        if let Some(pem) = text.and_then(|text| STANDARD.decode(text).ok()) {
            hints.add_pem(&pem);
        }
    }
}

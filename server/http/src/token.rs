//! The attestation result as a token, bounded so that it fits a header.

use std::collections::BTreeMap;

use coffer_core_initdata::InitData;
use coffer_core_protocol::ear::{self, Appraisal, CPU, Ear, Submodule, VerifierId};
use coffer_core_protocol::error::Cause;
use coffer_core_protocol::handshake::relying_party::Submission;
use coffer_core_protocol::jws::JwsError;
use coffer_verify_api::Verdict;
use serde_json::{Map, Value, json};

use crate::issued::Attested;

pub(crate) const ISSUER: &str = "coffer-broker";
/// Where no appraisal policy of the owner's appraised.
const POLICY: &str = "coffer";
/// A claim with more JSON than this stays in the attempt and out of the token.
const MAX_CLAIM: usize = 4 << 10;
const MAX_CLAIMS: usize = 24 << 10;
/// What the claims of all devices may take together.
const MAX_DEVICES: usize = 96 << 10;
const MAX_INIT_DATA: usize = 8 << 10;
/// Raw device evidence with more than this stays out of the token, whatever the configuration says.
const MAX_ADDITIONAL: usize = 144 << 10;
/// The member of the runtime claims that holds it.
const ADDITIONAL: &str = "additional-evidence";

/// One part of the attester, appraised.
pub(crate) struct Part {
    /// Its name in the token.
    pub(crate) name: String,
    pub(crate) verdict: Verdict,
    pub(crate) causes: Vec<Cause>,
    /// The owner's set of policies that appraised it, if there is one.
    pub(crate) policy: Option<&'static str>,
}

/// The result for verified evidence, to be signed.
pub(crate) fn result(
    submission: &Submission,
    machine: Part,
    devices: Vec<Part>,
    init_data: Option<&InitData>,
    chip: Option<String>,
    verbose: bool,
    now: u64,
) -> Result<Attested, JwsError> {
    let mut omitted = Vec::new();
    let tee = machine.verdict.tee.name();
    let claims = bounded(machine.verdict.claims, MAX_CLAIM, MAX_CLAIMS, tee, &mut omitted);
    let told_init_data = init_data.and_then(|init_data| init_data_claims(init_data, &mut omitted));
    let drops_additional =
        !submission.additional.is_empty() && (!verbose || submission.additional.len() > MAX_ADDITIONAL);
    if drops_additional {
        omitted.push(format!("runtime_data_claims.{ADDITIONAL}"));
    }
    let mut about = json!({
        "attempt": submission.id(),
        "hardware": machine.verdict.hardware,
        "causes": machine.causes,
    });
    name_omitted(&mut about, omitted);
    if let (Some(chip), Some(about)) = (chip, about.as_object_mut()) {
        about.insert("chip".to_owned(), chip.into());
    }
    let appraisal = Appraisal {
        status: machine.verdict.status,
        trust: machine.verdict.trust,
        policy: machine.policy.unwrap_or(POLICY).to_string(),
        claims,
        init_data: init_data.map(InitData::digest),
        init_data_claims: told_init_data,
    };
    let verifier =
        VerifierId { developer: "coffer".to_string(), build: env!("CARGO_PKG_VERSION").to_string() };
    let mut ear = Ear::new(submission, appraisal, ISSUER, verifier, now, ear::LIFETIME_S);
    if let Some(cpu) = ear.submods.get_mut(CPU) {
        cpu.evidence.insert("coffer".to_string(), about);
        cpu.identifiers = machine.verdict.identifiers;
        if let Some(Value::Object(claims)) = cpu.evidence.get_mut("runtime_data_claims")
            && drops_additional
        {
            claims.remove(ADDITIONAL);
        }
    }
    let share = MAX_DEVICES.checked_div(devices.len()).unwrap_or(MAX_DEVICES).min(MAX_CLAIMS);
    let devices = devices.into_iter().map(|part| (part.name.clone(), device(submission, part, share)));
    ear.submods.extend(devices.collect::<BTreeMap<_, _>>());
    Attested::new(ear)
}

fn device(submission: &Submission, part: Part, share: usize) -> Submodule {
    let mut claims = part.verdict.claims;
    // At the top, as upstream has it; it is the same for all devices.
    claims.remove("report_data");
    let mut evidence = Map::new();
    let tee = part.verdict.tee.name();
    let mut omitted = Vec::new();
    let bounded = bounded(claims, share, share, tee, &mut omitted);
    evidence.insert(tee.to_string(), Value::Object(bounded));
    evidence.insert("report_data".to_string(), submission.device_report_data.digest().hex().into());
    let mut about = json!({"hardware": part.verdict.hardware, "causes": part.causes});
    name_omitted(&mut about, omitted);
    evidence.insert("coffer".to_string(), about);
    Submodule {
        status: part.verdict.status,
        trust: part.verdict.trust,
        policy: part.policy.unwrap_or(POLICY).to_string(),
        evidence,
        identifiers: part.verdict.identifiers,
    }
}

fn length(value: &Value) -> usize {
    struct Counter(usize);
    impl std::io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.saturating_add(bytes.len());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    serde_json::to_writer(&mut counter, value).map_or(usize::MAX, |()| counter.0)
}

/// The claims without the long ones (event logs, which are in the attempt), and not more than fits.
/// Names those that it leaves out.
fn bounded(
    claims: Map<String, Value>,
    longest: usize,
    mut left: usize,
    tee: &str,
    omitted: &mut Vec<String>,
) -> Map<String, Value> {
    let mut kept = Map::new();
    for (name, value) in claims {
        let length = length(&value).saturating_add(name.len());
        if length <= longest && length <= left {
            left = left.saturating_sub(length);
            kept.insert(name, value);
        } else {
            omitted.push(format!("{tee}.{name}"));
        }
    }
    kept
}

/// The entries that are TOML, as JSON; for policies that look at them. Left out if they are long.
fn init_data_claims(init_data: &InitData, omitted: &mut Vec<String>) -> Option<Value> {
    let claims = coffer_verify_appraisal::init_data_claims(init_data);
    if length(&claims) <= MAX_INIT_DATA {
        return Some(claims);
    }
    omitted.push("init_data_claims".to_owned());
    None
}

/// Says what is not in the token, so that no rule about it is silently without effect: the policy engine denies where
/// a policy mentions it.
fn name_omitted(about: &mut Value, omitted: Vec<String>) {
    if let (false, Some(about)) = (omitted.is_empty(), about.as_object_mut()) {
        about.insert("omitted".to_owned(), omitted.into());
    }
}

//! The attestation result as a token, bounded so that it fits a header.

use coffer_core_initdata::InitData;
use coffer_core_protocol::ear::{self, Appraisal, CPU, Ear, TrustVector, VerifierId};
use coffer_core_protocol::error::Cause;
use coffer_core_protocol::handshake::relying_party::Submission;
use coffer_core_protocol::jws::JwsError;
use coffer_verify_api::{Status, Verdict};
use serde_json::{Map, Value, json};

use crate::issued::Attested;

const ISSUER: &str = "coffer-broker";
const POLICY: &str = "coffer";
/// A claim with more JSON than this stays in the attempt and out of the token.
const MAX_CLAIM: usize = 4 << 10;
const MAX_CLAIMS: usize = 24 << 10;
const MAX_INIT_DATA: usize = 8 << 10;

/// The result for verified evidence, to be signed.
pub(crate) fn result(
    submission: &Submission,
    verdict: Verdict,
    causes: &[Cause],
    init_data: Option<&InitData>,
    now: u64,
) -> Result<Attested, JwsError> {
    let hardware = verdict.hardware;
    let appraisal = Appraisal {
        status: status(verdict.status),
        trust: trust(&verdict),
        policy: POLICY.to_string(),
        claims: bounded(verdict.claims),
        init_data: init_data.map(InitData::digest),
        init_data_claims: init_data.and_then(init_data_claims),
    };
    let verifier =
        VerifierId { developer: "coffer".to_string(), build: env!("CARGO_PKG_VERSION").to_string() };
    let mut ear = Ear::new(submission, appraisal, ISSUER, verifier, now, ear::LIFETIME_S);
    if let Some(cpu) = ear.submods.get_mut(CPU) {
        let about = json!({
            "attempt": submission.id(),
            "hardware": hardware,
            "causes": causes,
        });
        cpu.evidence.insert("coffer".to_string(), about);
    }
    Attested::new(ear)
}

fn status(status: Status) -> ear::Status {
    match status {
        Status::None => ear::Status::None,
        Status::Affirming => ear::Status::Affirming,
        Status::Warning => ear::Status::Warning,
        Status::Contraindicated => ear::Status::Contraindicated,
    }
}

/// AR4SI, section 2.3: 2 is affirming, 32 a warning, 96 contraindicated; 0 claims nothing.
fn trust(verdict: &Verdict) -> TrustVector {
    let value = match verdict.status {
        Status::None => return TrustVector::default(),
        Status::Affirming => 2,
        Status::Warning => 32,
        Status::Contraindicated => 96,
    };
    let hardware = if verdict.hardware { 2 } else { 0 };
    TrustVector {
        configuration: value,
        executables: value,
        hardware,
        instance_identity: 2,
        ..TrustVector::default()
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
fn bounded(claims: Map<String, Value>) -> Map<String, Value> {
    let mut left = MAX_CLAIMS;
    let mut kept = Map::new();
    for (name, value) in claims {
        let length = length(&value).saturating_add(name.len());
        if length <= MAX_CLAIM && length <= left {
            left = left.saturating_sub(length);
            kept.insert(name, value);
        }
    }
    kept
}

/// The entries that are TOML, as JSON; for policies that look at them. Left out if they are long.
fn init_data_claims(init_data: &InitData) -> Option<Value> {
    let mut claims = Map::new();
    for (name, text) in init_data.data() {
        if let Some(value) = toml::from_str::<Value>(text).ok().filter(|_| name.ends_with(".toml")) {
            claims.insert(name.clone(), value);
        }
    }
    let claims = Value::Object(claims);
    (length(&claims) <= MAX_INIT_DATA).then_some(claims)
}

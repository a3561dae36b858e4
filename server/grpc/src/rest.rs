//! The attestation service's REST form: bodies in, the same requests out.
//!
//! `POST /attestation`, `GET` and `POST /policy`, `POST /challenge`. Who mounts the calls bounds the bodies first;
//! answers are the bare JWT, the bare challenge, [`policy_list`], and nothing.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::attestation::{
    self, ChallengeParameters, EvaluateRequest, Individual, PolicyInfo, SetPolicy, Structured,
};
use crate::backend::BackendError;

#[derive(Deserialize)]
struct Attestation {
    verification_requests: Vec<One>,
    #[serde(default)]
    policy_ids: Vec<String>,
}

#[derive(Deserialize)]
struct One {
    tee: String,
    evidence: String,
    runtime_data: Option<Runtime>,
    init_data: Option<Init>,
    runtime_data_hash_algorithm: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Runtime {
    Raw(String),
    Structured(Value),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Init {
    InitDataDigest(String),
    InitDataToml(String),
}

#[derive(Deserialize)]
struct Policy {
    policy_id: String,
    policy: String,
}

impl From<One> for Individual {
    fn from(one: One) -> Self {
        let (raw, structured) = match one.runtime_data {
            Some(Runtime::Raw(raw)) => (Some(raw), None),
            Some(Runtime::Structured(value)) => (None, Some(Structured::Json(value))),
            None => (None, None),
        };
        let (digest, toml) = match one.init_data {
            Some(Init::InitDataDigest(digest)) => (Some(digest), None),
            Some(Init::InitDataToml(toml)) => (None, Some(toml)),
            None => (None, None),
        };
        let hash = one.runtime_data_hash_algorithm.unwrap_or_default();
        Self { tee: one.tee, evidence: one.evidence, raw, structured, digest, toml, hash }
    }
}

/// Reads the body of `POST /attestation`.
pub fn attestation(body: &[u8]) -> Result<EvaluateRequest, BackendError> {
    let body: Attestation = json(body)?;
    let individuals = body.verification_requests.into_iter().map(Individual::from).collect();
    EvaluateRequest::parse(individuals, body.policy_ids)
}

/// Reads the body of `POST /policy`.
pub fn policy(body: &[u8]) -> Result<SetPolicy, BackendError> {
    let body: Policy = json(body)?;
    SetPolicy::parse(body.policy_id, &body.policy)
}

/// Reads the body of `POST /challenge`: an object of texts.
pub fn challenge(body: &[u8]) -> Result<ChallengeParameters, BackendError> {
    attestation::challenge(json::<BTreeMap<String, String>>(body)?)
}

/// The answer to `GET /policy`.
pub fn policy_list(policies: &[PolicyInfo]) -> Value {
    policies
        .iter()
        .map(|policy| serde_json::json!({ "policy-id": policy.id, "policy-hash": policy.digest }))
        .collect()
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, BackendError> {
    serde_json::from_slice(body)
        .map_err(|error| BackendError::malformed(format!("the body is not the JSON of this call: {error}")))
}

//! From messages to requests: base64, JSON, and bounds. Both the gRPC and the REST form end here.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coffer_core_digest::Algorithm;
use serde_json::{Map, Value};

use super::{ChallengeParameters, EvaluateRequest, IndividualRequest, InitData, RuntimeData, SetPolicy};
use crate::backend::BackendError;
use crate::wire::attestation as wire;

/// A machine has one TEE and some devices.
const MAX_EVIDENCE: usize = 16;
const MAX_POLICIES: usize = 16;
const MAX_NAME: usize = 256;
/// No digest is longer.
const MAX_DIGEST: usize = 64;
const MAX_PARAMETERS: usize = 16;
/// A challenge's parameters are JSON of a few members at most.
const MAX_PARAMETER: usize = 64 << 10;

/// What either form says of a piece of evidence, before anything is decoded.
pub(crate) struct Individual {
    pub(crate) tee: String,
    pub(crate) evidence: String,
    pub(crate) raw: Option<String>,
    pub(crate) structured: Option<Structured>,
    pub(crate) digest: Option<String>,
    pub(crate) toml: Option<String>,
    pub(crate) hash: String,
}

/// Structured data, as text in gRPC and as JSON in REST.
pub(crate) enum Structured {
    Text(String),
    Json(Value),
}

impl From<wire::IndividualAttestationRequest> for Individual {
    fn from(message: wire::IndividualAttestationRequest) -> Self {
        let (raw, structured) = match message.runtime_data {
            Some(wire::RuntimeData::RawRuntimeData(raw)) => (Some(raw), None),
            Some(wire::RuntimeData::StructuredRuntimeData(text)) => (None, Some(Structured::Text(text))),
            None => (None, None),
        };
        let (digest, toml) = match message.init_data {
            Some(wire::InitData::InitDataDigest(digest)) => (Some(digest), None),
            Some(wire::InitData::InitDataToml(toml)) => (None, Some(toml)),
            None => (None, None),
        };
        Self {
            tee: message.tee,
            evidence: message.evidence,
            raw,
            structured,
            digest,
            toml,
            hash: message.runtime_data_hash_algorithm,
        }
    }
}

impl EvaluateRequest {
    /// Reads the gRPC form.
    pub fn from_wire(message: wire::AttestationRequest) -> Result<Self, BackendError> {
        let individuals = message.verification_requests.into_iter().map(Individual::from).collect();
        Self::parse(individuals, message.policy_ids)
    }

    pub(crate) fn parse(individuals: Vec<Individual>, policy_ids: Vec<String>) -> Result<Self, BackendError> {
        match individuals.len() {
            0 => return Err(BackendError::malformed("verification_requests is empty; send evidence")),
            1..=MAX_EVIDENCE => (),
            found => return Err(too_many("verification_requests", MAX_EVIDENCE, found)),
        }
        if policy_ids.len() > MAX_POLICIES {
            return Err(too_many("policy_ids", MAX_POLICIES, policy_ids.len()));
        }
        for id in &policy_ids {
            name("policy_ids", id)?;
        }
        let requests =
            individuals.into_iter().map(IndividualRequest::parse).collect::<Result<_, BackendError>>()?;
        Ok(Self { requests, policy_ids })
    }
}

impl IndividualRequest {
    fn parse(given: Individual) -> Result<Self, BackendError> {
        name("tee", &given.tee)?;
        let evidence = base64("evidence", &given.evidence)?;
        let evidence = serde_json::from_slice(&evidence)
            .map_err(|error| BackendError::malformed(format!("evidence is base64url of no JSON: {error}")))?;
        let runtime_data = match (given.raw, given.structured) {
            (None, None) => RuntimeData::None,
            (Some(raw), None) => RuntimeData::Raw(base64("runtime data", &raw)?),
            (None, Some(structured)) => RuntimeData::Structured(object(structured)?),
            (Some(_), Some(_)) => return Err(both("runtime data", "raw", "structured")),
        };
        let init_data = match (given.digest, given.toml) {
            (None, None) => InitData::None,
            (Some(text), None) => InitData::Digest(digest(&text)?),
            (None, Some(toml)) => InitData::Toml(toml),
            (Some(_), Some(_)) => return Err(both("init data", "a digest", "TOML")),
        };
        Ok(Self { tee: given.tee, evidence, runtime_data, init_data, hash: hash(&given.hash)? })
    }
}

impl SetPolicy {
    /// Reads the gRPC form.
    pub fn from_wire(message: wire::SetPolicyRequest) -> Result<Self, BackendError> {
        Self::parse(message.policy_id, &message.policy)
    }

    pub(crate) fn parse(id: String, policy: &str) -> Result<Self, BackendError> {
        name("policy_id", &id)?;
        let rego = String::from_utf8(base64("policy", policy)?)
            .map_err(|_| BackendError::malformed("policy is base64url of no UTF-8 text; send Rego"))?;
        Ok(Self { id, rego })
    }
}

/// Reads the gRPC form.
pub(crate) fn challenge(inner: BTreeMap<String, String>) -> Result<ChallengeParameters, BackendError> {
    if inner.len() > MAX_PARAMETERS {
        return Err(too_many("inner", MAX_PARAMETERS, inner.len()));
    }
    for (key, value) in &inner {
        name("a challenge's parameter", key)?;
        if value.len() > MAX_PARAMETER {
            let found = value.len();
            let message =
                format!("the parameter {key:?} has {found} bytes; at most {MAX_PARAMETER} are read");
            return Err(BackendError::malformed(message));
        }
    }
    Ok(inner)
}

fn name(what: &str, text: &str) -> Result<(), BackendError> {
    match text.len() {
        1..=MAX_NAME if !text.chars().any(char::is_control) => Ok(()),
        found => Err(BackendError::malformed(format!(
            "{what} is a name of 1 to {MAX_NAME} bytes without control characters; found {found} bytes"
        ))),
    }
}

fn base64(what: &str, text: &str) -> Result<Vec<u8>, BackendError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|error| {
        BackendError::malformed(format!("{what} is base64url without padding (RFC 4648, section 5): {error}"))
    })
}

fn digest(text: &str) -> Result<Vec<u8>, BackendError> {
    let bytes = base64("init_data_digest", text)?;
    match bytes.len() {
        1..=MAX_DIGEST => Ok(bytes),
        found => Err(BackendError::malformed(format!(
            "init_data_digest has 1 to {MAX_DIGEST} bytes; found {found}"
        ))),
    }
}

fn object(structured: Structured) -> Result<Map<String, Value>, BackendError> {
    let value = match structured {
        Structured::Json(value) => value,
        Structured::Text(text) => serde_json::from_str(&text).map_err(|error| {
            BackendError::malformed(format!("structured runtime data is no JSON: {error}"))
        })?,
    };
    match value {
        Value::Object(members) => Ok(members),
        _ => Err(BackendError::malformed("structured runtime data is a JSON object; found another value")),
    }
}

fn hash(text: &str) -> Result<Algorithm, BackendError> {
    let refused = |found: &str| {
        let message = format!("expected sha256, sha384, sha512 or sm3 to bind runtime data; found {found:?}");
        BackendError::new(crate::Kind::Invalid, "protocol.hash-algorithm", message)
    };
    match text {
        "" => Ok(Algorithm::Sha384),
        text => match text.parse() {
            Ok(Algorithm::Sha1) => Err(refused("sha1")),
            Ok(algorithm) => Ok(algorithm),
            Err(_) => Err(refused(&text.chars().take(32).collect::<String>())),
        },
    }
}

fn too_many(what: &str, most: usize, found: usize) -> BackendError {
    BackendError::malformed(format!("{what} has {found} members; at most {most} are read"))
}

fn both(what: &str, one: &str, other: &str) -> BackendError {
    BackendError::malformed(format!("{what} is either {one} or {other}; found both"))
}

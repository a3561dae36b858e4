//! The attestation service: its requests, parsed, and the backend that answers them.

mod parse;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use coffer_core_digest::Algorithm;
use serde_json::{Map, Value};

use crate::backend::{AuthContext, BackendError, BoxFuture};

pub(crate) use parse::{Individual, Structured, challenge};

/// Evidence of one attester, of at least one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluateRequest {
    /// The TEE's evidence and that of devices, in the order given.
    pub requests: Vec<IndividualRequest>,
    /// The policies to appraise by. Empty means the default.
    pub policy_ids: Vec<String>,
}

/// One piece of evidence.
#[derive(Clone, Debug, PartialEq)]
pub struct IndividualRequest {
    /// The TEE's name, which the backend may not know.
    pub tee: String,
    /// The evidence in the TEE's own form.
    pub evidence: Value,
    /// What the report data must be bound to.
    pub runtime_data: RuntimeData,
    /// What the attester says it was configured with.
    pub init_data: InitData,
    /// The hash of the binding. Never SHA-1.
    pub hash: Algorithm,
}

/// What the report data must be bound to.
#[derive(Clone, Debug, PartialEq)]
pub enum RuntimeData {
    /// Nothing was said.
    None,
    /// Bytes, of which the hash is taken.
    Raw(Vec<u8>),
    /// A JSON object, of which the canonical form is hashed.
    Structured(Map<String, Value>),
}

/// What the attester says it was configured with.
#[derive(Clone, Debug, PartialEq)]
pub enum InitData {
    /// Nothing was said.
    None,
    /// A digest.
    Digest(Vec<u8>),
    /// The text that was measured.
    Toml(String),
}

/// A policy to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetPolicy {
    /// Its name, which is neither empty nor long; the backend knows which names it takes.
    pub id: String,
    /// Rego text.
    pub rego: String,
}

/// A policy that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyInfo {
    /// Its name.
    pub id: String,
    /// The digest of its text.
    pub digest: String,
}

/// What a challenge is asked for, such as `tee` and `tee_params`.
pub type ChallengeParameters = BTreeMap<String, String>;

/// The attestation service that a broker is.
pub trait AttestationBackend: Send + Sync {
    /// Judges evidence. The answer is a JWT.
    fn evaluate<'a>(
        &'a self,
        auth: &'a AuthContext,
        request: EvaluateRequest,
    ) -> BoxFuture<'a, Result<String, BackendError>>;

    /// Stores a policy, if `auth` may.
    fn set_policy<'a>(
        &'a self,
        auth: &'a AuthContext,
        policy: SetPolicy,
    ) -> BoxFuture<'a, Result<(), BackendError>>;

    /// Which policies there are, if `auth` may know. Only REST asks.
    fn policies<'a>(&'a self, auth: &'a AuthContext) -> BoxFuture<'a, Result<Vec<PolicyInfo>, BackendError>>;

    /// What an attester must put into its evidence.
    fn challenge<'a>(
        &'a self,
        auth: &'a AuthContext,
        parameters: ChallengeParameters,
    ) -> BoxFuture<'a, Result<String, BackendError>>;
}

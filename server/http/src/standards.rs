//! What this broker's owner judges by: reference values, the platform policy, appraisal policies with their versions.
//!
//! All of it is read and compiled when it changes, and shared by the attestations that run.

use std::collections::BTreeMap;

use coffer_core_admin::{AttestationPolicy, AttestationPolicyInfo, PolicyVersion};
use coffer_core_digest::Digest;
use coffer_core_evidence::ar4si::Appraiser;
use coffer_core_launch::ReferenceValues;
use coffer_core_policy::{AppraisalPolicy, NamedValues, PolicyError};
use coffer_server_store::{Scope, Table};
use coffer_verify_api::{Claims, Timestamp, Verdict, Verified};
use coffer_verify_appraisal::{PlatformPolicy, Sent, Standards};
use serde::{Deserialize, Serialize};

use crate::error::OpenError;
use crate::record;
use crate::references::{self, Kept, Signers};

/// Where the platform policy is in the store's settings.
pub(crate) const PLATFORM: &str = "platform-policy";
/// How many versions of an appraisal policy are kept.
const MAX_VERSIONS: usize = 32;
const MAX_NAME: usize = 64;
/// What upstream calls the set of policies `default_cpu`, `default_gpu` and so on.
const SET: &str = "default";

/// What is in force.
pub(crate) struct InForceStandards {
    pub(crate) references: Vec<ReferenceValues>,
    pub(crate) platform: PlatformPolicy,
    /// By name, as in `default_cpu`.
    policies: BTreeMap<String, AppraisalPolicy>,
    pub(crate) values: NamedValues,
    /// What is kept of reference values, those that do not count included; by id.
    pub(crate) kept: BTreeMap<String, Kept>,
    /// The same of named ones.
    pub(crate) kept_values: BTreeMap<String, Kept>,
    pub(crate) signers: Signers,
}

impl InForceStandards {
    pub(crate) fn load(rows: &Scope, now: Timestamp) -> Result<Self, OpenError> {
        let kept = references::kept(rows, Table::ReferenceValues, "reference value")?;
        let kept_values = references::kept(rows, Table::NamedValues, "named reference value")?;
        let mut references = Vec::new();
        for (name, kept) in kept.iter().filter(|(_, kept)| kept.counts(now)) {
            let read = ReferenceValues::from_json(kept.value.to_string().as_bytes());
            references.push(read.map_err(|error| stored("reference value", name, &error))?);
        }
        let counting = kept_values.iter().filter(|(_, kept)| kept.counts(now));
        let values: BTreeMap<String, serde_json::Value> =
            counting.map(|(name, kept)| (name.clone(), kept.value.clone())).collect();
        let platform = match rows.get(Table::Settings, PLATFORM)? {
            Some(body) => PlatformPolicy::from_json(body.expose())
                .map_err(|error| stored("platform policy", PLATFORM, &error))?,
            None => PlatformPolicy::default(),
        };
        let mut policies = BTreeMap::new();
        for (name, history) in histories(rows)? {
            let Some(current) = history.current().filter(|_| appraises(&name)) else { continue };
            let policy = AppraisalPolicy::compile(&current.rego);
            let policy = policy.map_err(|error| stored("appraisal policy", &name, &error))?;
            policies.insert(name, policy);
        }
        let signers = Signers::load(rows)?;
        Ok(Self { references, platform, policies, values: values.into(), kept, kept_values, signers })
    }

    /// Appraises one part of the attester, and says by which set of policies. `part` is its name in the token.
    pub(crate) fn appraise(
        &self,
        part: &str,
        verified: &Verified<Claims>,
        sent: &Sent<'_>,
        at: Timestamp,
    ) -> (Verdict, Option<&'static str>) {
        let class = part.trim_end_matches(|c: char| c.is_ascii_digit());
        let tee = verified.get().tee.name();
        let own = self.policies.get(&format!("{SET}_{class}_{tee}"));
        let policy = own.or_else(|| self.policies.get(&format!("{SET}_{class}")));
        let policy = policy.map(|policy| policy.with(&self.values));
        let standards = Standards {
            references: &self.references,
            platform: &self.platform,
            policy: policy.as_ref().map(|policy| policy as &dyn Appraiser),
        };
        let verdict = coffer_verify_appraisal::appraise(verified, &standards, sent, at);
        (verdict, policy.is_some().then_some(SET))
    }
}

fn stored(what: &'static str, name: &str, error: &dyn std::fmt::Display) -> OpenError {
    OpenError::Stored { what, name: name.to_owned(), why: error.to_string() }
}

/// Whether a policy of this name appraises anything: `default_cpu`, or for one TEE `default_cpu_snp`, which goes first.
fn appraises(name: &str) -> bool {
    let Some(class) = name.strip_prefix(SET).and_then(|rest| rest.strip_prefix('_')) else { return false };
    let (class, tee) = class.split_once('_').map_or((class, None), |(class, tee)| (class, Some(tee)));
    let known = |tee: &str| serde_json::from_value::<coffer_core_evidence::Tee>(tee.into()).is_ok();
    matches!(class, "cpu" | "gpu" | "switch") && tee.is_none_or(known)
}

/// An appraisal policy with its versions, as it is stored.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct History {
    /// Oldest first.
    versions: Vec<Version>,
    /// None after the policy was removed.
    current: Option<u32>,
}

#[derive(Serialize, Deserialize)]
struct Version {
    #[serde(flatten)]
    about: PolicyVersion,
    rego: String,
}

/// Why a policy cannot be put.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PutError {
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error("a policy's name has 1 to {MAX_NAME} letters, digits, '.', '_' and '-'")]
    Name,
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl History {
    fn current(&self) -> Option<&Version> {
        self.versions.iter().find(|version| Some(version.about.version) == self.current)
    }

    /// Reads the policies' histories of one name.
    pub(crate) fn read(rows: &Scope, name: &str) -> Result<Option<Self>, OpenError> {
        let body = rows.get(Table::AttestationPolicies, name)?;
        let read = |bytes: coffer_core_secret::SecretBytes| {
            serde_json::from_slice(bytes.expose()).map_err(|error| stored("appraisal policy", name, &error))
        };
        body.map(read).transpose()
    }

    fn save(&self, rows: &Scope, name: &str) -> Result<(), OpenError> {
        let body = serde_json::to_vec(self).map_err(|error| stored("appraisal policy", name, &error))?;
        Ok(rows.put(Table::AttestationPolicies, name, &body)?)
    }

    pub(crate) fn info(&self, name: &str) -> AttestationPolicyInfo {
        AttestationPolicyInfo {
            name: name.to_owned(),
            current: self.current,
            in_force: self.current.is_some() && appraises(name),
            versions: self.versions.iter().map(|version| version.about.clone()).collect(),
        }
    }

    /// One version with its text; the current one if none is named.
    pub(crate) fn shown(&self, name: &str, number: Option<u32>) -> Option<AttestationPolicy> {
        let number = number.or(self.current);
        let version = self.versions.iter().find(|version| Some(version.about.version) == number)?;
        Some(AttestationPolicy {
            name: name.to_owned(),
            version: version.about.clone(),
            rego: version.rego.clone(),
        })
    }
}

/// Upstream's older name for the machine's policy.
pub(crate) fn policy_name(name: &str) -> String {
    if name == SET { format!("{SET}_cpu") } else { name.to_owned() }
}

/// Compiles a policy and stores it as the current version of its name. The same text again changes nothing.
pub(crate) fn put_policy(rows: &Scope, name: &str, rego: String, at: Timestamp) -> Result<(), PutError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(plain) {
        return Err(PutError::Name);
    }
    AppraisalPolicy::compile(&rego)?;
    let mut history = History::read(rows, name)?.unwrap_or_default();
    if history.current().is_some_and(|current| current.rego == rego) {
        return Ok(());
    }
    let last = history.versions.last().map_or(0, |version| version.about.version);
    let about = PolicyVersion {
        version: last.saturating_add(1),
        at: record::seconds(at),
        digest: Digest::sha256(rego.as_bytes()).to_string(),
    };
    history.current = Some(about.version);
    history.versions.push(Version { about, rego });
    let surplus = history.versions.len().saturating_sub(MAX_VERSIONS);
    history.versions.drain(..surplus);
    Ok(history.save(rows, name)?)
}

/// Takes a policy out of force; its versions stay. Says whether there was one.
pub(crate) fn remove_policy(rows: &Scope, name: &str) -> Result<bool, OpenError> {
    match History::read(rows, name)? {
        Some(mut history) if history.current.is_some() => {
            history.current = None;
            history.save(rows, name)?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// All histories, in the order of the names.
pub(crate) fn histories(rows: &Scope) -> Result<Vec<(String, History)>, OpenError> {
    let mut list = Vec::new();
    for (name, body) in rows.list(Table::AttestationPolicies)? {
        let read = serde_json::from_slice(body.expose())
            .map_err(|error| stored("appraisal policy", &name, &error))?;
        list.push((name, read));
    }
    Ok(list)
}

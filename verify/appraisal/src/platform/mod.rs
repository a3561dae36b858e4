//! What an owner demands of platforms: the policy, typed, with defaults that are safe.
//!
//! Read from TOML or JSON with names as in `service-td`; unknown members are errors, so that a demand that is
//! misspelled is not a demand left out. What is not written has its default, which each member tells.
//! Left out: what a guest must be, which reference values say, and who gets what, which the resource policy says.

mod judge;
mod moment;

use std::collections::{BTreeMap, BTreeSet};

use coffer_core_evidence::Tee;
use coffer_verify_api::TcbStatus;
use serde::{Deserialize, Serialize};

pub(crate) use judge::check;
pub use moment::Moment;

/// What is done about something that an owner may or may not want.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ruling {
    /// The guest is refused.
    Refuse,
    /// The guest is accepted with a warning: the status is `warning`, and not `affirming`.
    Warn,
    /// It makes no difference.
    Accept,
}

/// An owner's demands of platforms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct PlatformPolicy {
    /// A guest that no hardware protects from its host. Default: accept, because it is told as what it is and the
    /// built-in resource policy gives it nothing (I-6).
    pub software: Ruling,
    /// A guest that its host may debug. Default: refuse.
    pub debug: Ruling,
    /// A guest whose registers its host may read and write: CSV without ES. Default: refuse.
    pub open_registers: Ruling,
    /// A guest that may be moved by a migration agent. Default: refuse.
    pub migration: Ruling,
    /// Two threads of a core, of which one may be another guest's. Default: accept; nearly every host has them.
    pub smt: Ruling,
    /// A service TD that is bound to the guest and may change it. Default: refuse.
    pub service_td: Ruling,
    /// Collateral past its time, which the judge was told to accept. Default: warn.
    pub stale_collateral: Ruling,
    /// The least privileged level that evidence may be asked from (SNP). Default: 0, the most privileged.
    pub vmpl_max: u8,
    /// The vendor's word on how well the platform is patched.
    pub tcb_status: StatusPolicy,
    /// The vendor's advisories that apply to the platform.
    pub advisories: AdvisoryPolicy,
    /// The least patch levels. Default: none. AMD publishes no status, so this is where SNP's is set.
    pub minimum: Vec<Minimum>,
    /// Chips by what names them, for each kind of silicon. Default: any.
    pub chips: BTreeMap<Tee, Names>,
    /// Generations (`Milan`, an FMSPC, `HOPPER`) for each kind of silicon. Default: any.
    pub generations: BTreeMap<Tee, Names>,
}

impl Default for PlatformPolicy {
    fn default() -> Self {
        Self {
            software: Ruling::Accept,
            debug: Ruling::Refuse,
            open_registers: Ruling::Refuse,
            migration: Ruling::Refuse,
            smt: Ruling::Accept,
            service_td: Ruling::Refuse,
            stale_collateral: Ruling::Warn,
            vmpl_max: 0,
            tcb_status: StatusPolicy::default(),
            advisories: AdvisoryPolicy::default(),
            minimum: Vec::new(),
            chips: BTreeMap::new(),
            generations: BTreeMap::new(),
        }
    }
}

/// What each TCB status is worth. One that is in neither list is refused; `Revoked` is refused whatever the lists say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct StatusPolicy {
    /// Default: `UpToDate`.
    pub affirm: BTreeSet<TcbStatus>,
    /// Default: the levels that are patched and want hardening, configuration or a new start.
    pub warn: BTreeSet<TcbStatus>,
}

impl Default for StatusPolicy {
    fn default() -> Self {
        Self {
            affirm: BTreeSet::from([TcbStatus::UpToDate]),
            warn: BTreeSet::from([
                TcbStatus::SWHardeningNeeded,
                TcbStatus::ConfigurationNeeded,
                TcbStatus::ConfigurationAndSWHardeningNeeded,
                TcbStatus::TDRelaunchAdvised,
                TcbStatus::TDRelaunchAdvisedConfigurationNeeded,
            ]),
        }
    }
}

/// What the vendor's advisories are worth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct AdvisoryPolicy {
    /// One that is in neither list. Default: warn.
    pub others: Ruling,
    /// Those that the owner has looked at and accepts.
    pub accept: Vec<AcceptedAdvisory>,
    /// Those that refuse.
    pub refuse: BTreeSet<String>,
}

impl Default for AdvisoryPolicy {
    fn default() -> Self {
        Self { others: Ruling::Warn, accept: Vec::new(), refuse: BTreeSet::new() }
    }
}

/// An advisory that the owner accepts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AcceptedAdvisory {
    /// Its name, as in `INTEL-SA-00615`.
    pub id: String,
    /// Until when. From then on it is refused, so that nothing is accepted because it was forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Moment>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// The least patch level of one kind of platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Minimum {
    /// The kind of silicon. It holds under a cloud's paravisor too.
    pub tee: Tee,
    /// Only for this generation; for all where it is not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<String>,
    /// Security versions by component: `bootloader`, `snp`, `microcode`; `sgx-01`, `pce`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub components: BTreeMap<String, u64>,
    /// The date of the vendor's level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<Moment>,
    /// The number of the vendor's evaluation (Intel's `tcbEvaluationDataNumber`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<u32>,
}

/// Names that are allowed or denied. Upper and lower case are the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Names {
    /// If there are any, only these.
    pub allow: BTreeSet<String>,
    /// Never these.
    pub deny: BTreeSet<String>,
}

/// A document is not a platform policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a platform policy: {0}")]
pub struct PlatformPolicyError(String);

impl PlatformPolicy {
    /// The built-in policy as TOML, with a comment on every member.
    pub const EXAMPLE: &str = include_str!("../../platform.example.toml");

    /// Reads the TOML form.
    pub fn from_toml(text: &str) -> Result<Self, PlatformPolicyError> {
        toml::from_str(text).map_err(|error| PlatformPolicyError(error.to_string()))
    }

    /// Reads the JSON form.
    pub fn from_json(bytes: &[u8]) -> Result<Self, PlatformPolicyError> {
        serde_json::from_slice(bytes).map_err(|error| PlatformPolicyError(error.to_string()))
    }

    /// The TOML form, for people.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_the_built_in_policy_and_tells_every_member() {
        assert_eq!(PlatformPolicy::from_toml(PlatformPolicy::EXAMPLE), Ok(PlatformPolicy::default()));
        let written = serde_json::to_value(PlatformPolicy::default()).unwrap();
        for member in written.as_object().unwrap().keys() {
            assert!(PlatformPolicy::EXAMPLE.contains(member.as_str()), "{member} is not told");
        }
    }

    #[test]
    fn what_the_example_shows_behind_a_sign_is_read_too() {
        let is_toml = |line: &str| line.starts_with('[') || line.contains(" = ");
        let shown: Vec<&str> = PlatformPolicy::EXAMPLE
            .lines()
            .filter(|line| !line.starts_with("accept = []"))
            .map(|line| line.strip_prefix("# ").filter(|rest| is_toml(rest)).unwrap_or(line))
            .collect();
        let read = PlatformPolicy::from_toml(&shown.join("\n")).unwrap();
        assert_eq!((read.minimum.len(), read.advisories.accept.len()), (2, 1));
        assert!(read.chips.contains_key(&Tee::Snp) && read.generations.contains_key(&Tee::Tdx));
    }
}

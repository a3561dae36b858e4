//! Attestation results for secure interactions: the words in which an appraisal ends (draft-ietf-rats-ar4si).
//!
//! Holds true: a status is never better than the worst claim of its vector.
//! Left out: what makes a claim good or bad, which is for the appraisal and its policy ([`Appraiser`]).

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The overall result of an appraisal (AR4SI, section 3.2). Ordered from the best to the worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing was appraised.
    #[default]
    None,
    /// All that was expected was found.
    Affirming,
    /// Acceptable, with something to look at.
    Warning,
    /// Not as expected.
    Contraindicated,
}

impl Status {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Affirming => "affirming",
            Self::Warning => "warning",
            Self::Contraindicated => "contraindicated",
        }
    }

    /// The tier of one trustworthiness claim (AR4SI, section 2.3.2): -1 to 1 says nothing, up to 31 (or down to
    /// -32) affirms, up to 95 (or -96) warns, and what is beyond contradicts.
    pub const fn of_claim(value: i16) -> Self {
        match value {
            -1..=1 => Self::None,
            -32..=31 => Self::Affirming,
            -96..=95 => Self::Warning,
            _ => Self::Contraindicated,
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The trustworthiness vector (AR4SI, section 2.3): one claim for each aspect of an attester.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct TrustVector {
    /// Is it the machine that it says it is?
    pub instance_identity: i16,
    /// Is it configured as expected?
    pub configuration: i16,
    /// Was only expected code loaded?
    pub executables: i16,
    /// Is the file system as expected?
    pub file_system: i16,
    /// Is the hardware genuine and patched?
    pub hardware: i16,
    /// Is the memory closed to the host?
    pub runtime_opaque: i16,
    /// Is the storage closed to the host?
    pub storage_opaque: i16,
    /// Is what it read from outside to be trusted?
    pub sourced_data: i16,
}

impl TrustVector {
    /// The names of the claims on the wire, in the order of [`TrustVector::claims`].
    pub const NAMES: [&'static str; 8] = [
        "instance-identity",
        "configuration",
        "executables",
        "file-system",
        "hardware",
        "runtime-opaque",
        "storage-opaque",
        "sourced-data",
    ];

    /// The claims with their names.
    pub const fn claims(&self) -> [(&'static str, i16); 8] {
        let [identity, configuration, executables, files, hardware, runtime, storage, data] = Self::NAMES;
        [
            (identity, self.instance_identity),
            (configuration, self.configuration),
            (executables, self.executables),
            (files, self.file_system),
            (hardware, self.hardware),
            (runtime, self.runtime_opaque),
            (storage, self.storage_opaque),
            (data, self.sourced_data),
        ]
    }

    /// The claim of a name, if it is one.
    pub fn claim_mut(&mut self, name: &str) -> Option<&mut i16> {
        Some(match name {
            "instance-identity" => &mut self.instance_identity,
            "configuration" => &mut self.configuration,
            "executables" => &mut self.executables,
            "file-system" => &mut self.file_system,
            "hardware" => &mut self.hardware,
            "runtime-opaque" => &mut self.runtime_opaque,
            "storage-opaque" => &mut self.storage_opaque,
            "sourced-data" => &mut self.sourced_data,
            _ => return None,
        })
    }

    /// The status that the claims add up to: the worst one.
    pub fn status(&self) -> Status {
        let tiers = self.claims().map(|(_, value)| Status::of_claim(value));
        tiers.into_iter().max().unwrap_or(Status::None)
    }
}

/// What an owner's appraisal policy says of some evidence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Appraised {
    /// The claims.
    pub trust: TrustVector,
    /// What the policy says that the workload is called (`ear.trustee.identifiers`).
    pub identifiers: Option<Value>,
}

/// A policy gave no answer, which affirms nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAppraised(pub String);

/// An owner's appraisal policy with its reference values. The engine is behind this trait, so that a judge inside a
/// guest needs none.
pub trait Appraiser {
    /// Judges annotated evidence: the claims of the TEE under its name, beside `init_data_claims` and the like.
    fn appraise(&self, evidence: &Value) -> Result<Appraised, NotAppraised>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_are_those_of_the_draft_on_both_sides_of_zero() {
        let tiers = [
            (Status::None, [-1, 0, 1]),
            (Status::Affirming, [2, 31, -32]),
            (Status::Warning, [32, 95, -96]),
            (Status::Contraindicated, [96, 127, -97]),
        ];
        for (status, values) in tiers {
            for value in values {
                assert_eq!(Status::of_claim(value), status, "{value}");
            }
        }
    }

    #[test]
    fn the_worst_claim_is_the_status_and_every_claim_counts() {
        assert_eq!(TrustVector::default().status(), Status::None);
        for name in TrustVector::NAMES {
            let mut vector = TrustVector { executables: 3, ..TrustVector::default() };
            *vector.claim_mut(name).unwrap() = 97;
            assert_eq!(vector.status(), Status::Contraindicated, "{name}");
            assert!(vector.claims().contains(&(name, 97)));
            assert_eq!(serde_json::to_value(vector).unwrap()[name], 97);
        }
        assert!(TrustVector::default().claim_mut("file_system").is_none());
    }
}

//! The admin API's forms (`/coffer/v1`), shared by the broker and its owner's tools.
//!
//! No form has room for a secret's value. Readers ignore members that they do not know, so members may be added.
//! Left out: the calls that guests make, which are the KBS protocol (`core/protocol`), and the verdict tree's
//! type, which belongs to `verify/api`; here it is JSON.

mod references;
mod resources;
mod tenancy;
mod tenant;

use std::collections::BTreeMap;

pub use coffer_core_protocol::error::Cause;
pub use references::{Provenance, ReferenceSigners, SetReferenceState};
pub use resources::{
    GenerateResource, NewRevocation, ResourceInfo, ResourceList, ResourceOrigin, ResourceState,
    ResourceStored, ResourceTerms, ResourceVersion, ResourceVersions, Revocation, RevocationKind,
    RevocationList, SetResourceState,
};
pub use schemars;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
pub use tenancy::{
    AdminInfo, AdminList, CertificateName, NewAdmin, NewTenant, NotACertificateName, TenantInfo, TenantList,
    TenantSettings, WhoAmI,
};
pub use tenant::{NotARole, NotATenant, Role, TenantName};

/// Where the admin API begins.
pub const PREFIX: &str = "/coffer/v1";

/// What the broker answered to one request for a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Decision {
    /// When (RFC 3339).
    pub at: String,
    /// `repository/type/tag`.
    pub resource: String,
    /// `released`, `refused` or `absent`.
    pub outcome: String,
    /// Why it was refused, first cause first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<CauseForm>")]
    pub causes: Vec<Cause>,
}

/// One attestation, in a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptSummary {
    /// Its name: 32 hexadecimal digits.
    pub id: String,
    /// When (RFC 3339).
    pub at: String,
    /// The TEE's name.
    pub tee: String,
    /// Whether the evidence was genuine, fresh and bound to the key. Only then is there a token.
    pub genuine: bool,
    /// Whether hardware protects the guest from its host.
    pub hardware: bool,
    /// `affirming`, `warning`, `contraindicated` or `none`.
    pub status: String,
    /// The first cause's code, of the verdict or of the last refused request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// One attestation with its reasons.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Attempt {
    /// The line.
    #[serde(flatten)]
    pub summary: AttemptSummary,
    /// The verdict tree: `{tee, hardware, status, checks, claims}`.
    pub verdict: Value,
    /// The failed checks that no deeper check explains.
    #[serde(default)]
    #[schemars(with = "Vec<CauseForm>")]
    pub causes: Vec<Cause>,
    /// What was asked for with this attestation's token, oldest first.
    #[serde(default)]
    pub decisions: Vec<Decision>,
    /// The verdict on each device, by its name in the token.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub devices: BTreeMap<String, Value>,
    /// The claims of the token, which a resource policy has as its input. Not a token: there is no signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<Value>,
}

/// What an attestation was made with, where the broker keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KeptEvidence {
    /// The attempt's name.
    pub attempt: String,
    /// The TEE's name.
    pub tee: String,
    /// When it was judged (RFC 3339).
    pub at: String,
    /// The members of the attest request: `init-data`, `runtime-data`, `tee-evidence`.
    #[serde(flatten)]
    pub request: Map<String, Value>,
}

/// The last attestations, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptList {
    /// The attestations.
    pub attempts: Vec<AttemptSummary>,
}

/// The stored reference values, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReferenceList {
    /// Reference values in their own JSON form (`core/launch`).
    pub reference_values: Vec<Value>,
}

/// A policy's text, and what it decides about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyBody {
    /// Rego.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rego: Option<String>,
    /// A built-in policy's name instead of a text: `default` or `insecure-lab`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// The resources that it decides about, as patterns of `repository/type/tag` with `*` for one part and `**` for the
    /// rest. None: all that no other policy names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// The TEEs whose guests it decides about. None: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tees: Vec<String>,
}

impl PolicyBody {
    /// A text for everything.
    pub fn text(rego: impl Into<String>) -> Self {
        Self { rego: Some(rego.into()), ..Self::default() }
    }

    /// A built-in policy for everything.
    pub fn built_in(preset: impl Into<String>) -> Self {
        Self { preset: Some(preset.into()), ..Self::default() }
    }
}

/// One reason of a refusal, as it is documented; the type is `core/protocol`'s.
#[derive(JsonSchema)]
#[schemars(rename = "Cause")]
#[allow(dead_code, reason = "read by the schema only")]
struct CauseForm {
    /// Stable and dotted, as in `measurement.command-line`.
    code: String,
    /// What happened, for a person.
    title: String,
    /// What was expected.
    expected: Option<String>,
    /// What was found.
    found: Option<String>,
    /// What to do.
    remedy: Option<String>,
}

/// The names of the policies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyList {
    /// The policies in force; `resource` decides who gets resources.
    pub policies: Vec<String>,
    /// The built-in policies that can be put in force.
    pub presets: Vec<String>,
}

/// One version of an appraisal policy, without its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyVersion {
    /// 1 for the first.
    pub version: u32,
    /// When it was put (RFC 3339).
    pub at: String,
    /// SHA-256 over its text.
    pub digest: String,
}

/// An appraisal policy, without its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttestationPolicyInfo {
    /// `default_cpu`, `default_gpu`, `default_switch` appraise; others are kept and appraise nothing.
    pub name: String,
    /// The version that is current; none after it was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<u32>,
    /// Whether it appraises.
    pub in_force: bool,
    /// The versions that are kept, oldest first.
    pub versions: Vec<PolicyVersion>,
}

/// The appraisal policies, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttestationPolicyList {
    /// The policies.
    pub attestation_policies: Vec<AttestationPolicyInfo>,
}

/// One version of an appraisal policy with its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttestationPolicy {
    /// Its name.
    pub name: String,
    /// Which version.
    #[serde(flatten)]
    pub version: PolicyVersion,
    /// Rego.
    pub rego: String,
}

/// The reference values that appraisal policies ask for by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NamedValueList {
    /// By name.
    pub named_values: BTreeMap<String, Value>,
    /// Where each came from, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub provenance: BTreeMap<String, Provenance>,
}

/// A document in the broker's cache of collateral.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CollateralDocument {
    /// Its key, as in `intel/tdx/tcb-info/b0c06f000000`.
    pub key: String,
    /// The address or file that it is from.
    pub origin: String,
    /// When it came (RFC 3339).
    pub fetched: String,
    /// Whether an owner put it there.
    pub imported: bool,
    /// When it ends, by its own word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<String>,
    /// SHA-256 over document and issuer chain.
    pub digest: String,
    /// Its length, with its issuer chain.
    pub bytes: u64,
    /// `fresh`, `due` or `ended`.
    pub state: String,
}

/// The cache of collateral, in the order of the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CollateralList {
    /// Whether nothing is fetched.
    pub offline: bool,
    /// The documents.
    pub documents: Vec<CollateralDocument>,
}

/// Which documents to fetch anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CollateralFetch {
    /// Their keys.
    pub keys: Vec<String>,
}

/// What became of a fetch, in the order of the keys that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CollateralFetched {
    /// One for each key.
    pub results: Vec<CollateralResult>,
}

/// What became of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CollateralResult {
    /// The key.
    pub key: String,
    /// The document, if it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<CollateralDocument>,
    /// Why not, if it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A root that certifies attestation keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrustAnchor {
    /// The root certificate, PEM.
    pub certificate: String,
    /// Whether what it certifies is hardware. A software TPM's root must say false.
    pub hardware: bool,
}

/// A trust anchor with its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NamedTrustAnchor {
    /// Its name.
    pub name: String,
    /// The root.
    #[serde(flatten)]
    pub anchor: TrustAnchor,
}

/// The roots, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrustAnchorList {
    /// The roots.
    pub trust_anchors: Vec<NamedTrustAnchor>,
}

/// What the broker is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Info {
    /// The program's version.
    pub version: String,
    /// The KBS protocol versions that it speaks, as in `0.1.0 to 0.4.0`.
    pub kbs_protocol: String,
    /// The TEEs that it can judge.
    pub tees: Vec<String>,
    /// How many resources it holds.
    pub resources: u64,
    /// How many reference values it holds.
    pub reference_values: u64,
    /// How many trust anchors it holds.
    pub trust_anchors: u64,
    /// The built-in policy in force for resources, or `own`.
    pub resource_policy: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_members_are_ignored_so_that_members_can_be_added() {
        let line =
            r#"{"path":"a/b/c","bytes":3,"version":1,"changed_at":"2026-01-01T00:00:00Z","later":true}"#;
        assert_eq!(serde_json::from_str::<ResourceInfo>(line).map(|info| info.version).ok(), Some(1));
    }

    #[test]
    fn an_attempt_is_its_line_and_its_reasons_in_one_object() {
        let summary = AttemptSummary {
            id: "0".repeat(32),
            at: String::new(),
            tee: "tpm".into(),
            genuine: true,
            hardware: false,
            status: "affirming".into(),
            code: None,
        };
        let attempt = Attempt {
            summary,
            verdict: Value::Null,
            causes: Vec::new(),
            decisions: Vec::new(),
            devices: BTreeMap::new(),
            claims: None,
        };
        let json = serde_json::to_value(&attempt).unwrap_or_default();
        assert_eq!(json.get("tee"), Some(&Value::from("tpm")));
        assert!(json.get("summary").is_none());
    }
}

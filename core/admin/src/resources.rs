//! Stored secrets: what is known of them, on what terms they are released, and what was revoked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether something is released at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ResourceState {
    /// As policy says.
    #[default]
    Active,
    /// To nobody.
    Revoked,
}

/// Who knew the value before it was stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ResourceOrigin {
    /// An admin sent it.
    #[default]
    Stored,
    /// The broker made it, and no admin ever sees it.
    Generated,
}

/// A stored secret, without its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceInfo {
    /// `repository/type/tag`.
    pub path: String,
    /// The value's length in bytes.
    pub bytes: u64,
    /// 1 for the first value at this path, one more for each that replaced it.
    pub version: u64,
    /// When this value was stored (RFC 3339).
    pub changed_at: String,
    /// Whether it is released at all.
    #[serde(default)]
    pub state: ResourceState,
    /// Who knew the value before it was stored.
    #[serde(default)]
    pub origin: ResourceOrigin,
    /// From when on it is released to nobody (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// To how many attested guests this version is released at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_limit: Option<u64>,
    /// To how many attested guests this version was released. Counted where there is a limit.
    #[serde(default)]
    pub released: u64,
}

/// The stored secrets, in the order of their paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceList {
    /// The secrets.
    pub resources: Vec<ResourceInfo>,
    /// Where the next page begins: give it as `after`. None at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// All kept versions of a stored secret, oldest first, without their values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceVersions {
    /// `repository/type/tag`.
    pub path: String,
    /// The versions; the last one is what guests get.
    pub versions: Vec<ResourceVersion>,
}

/// One version of a stored secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceVersion {
    /// What is known of it.
    #[serde(flatten)]
    pub info: ResourceInfo,
    /// When it was revoked (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<String>,
    /// Why it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// On what terms a secret is stored. In the query of the call that stores it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourceTerms {
    /// From when on it is released to nobody (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// To how many attested guests it is released at most; 1 is a one-time secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_limit: Option<u64>,
    /// Stores only if this is the present version; 0 only if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_version: Option<u64>,
}

/// A key that the broker makes and no admin ever sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenerateResource {
    /// Its length in bytes, 16 to 4096. 32 if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u32>,
    /// From when on it is released to nobody (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// To how many attested guests it is released at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_limit: Option<u64>,
    /// Makes it only if this is the present version; 0 only if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_version: Option<u64>,
}

/// What became of a secret that was stored or made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceStored {
    /// `repository/type/tag`.
    pub path: String,
    /// The version that it is now.
    pub version: u64,
}

/// Says that a secret is released to nobody, or again as policy says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetResourceState {
    /// The state.
    pub state: ResourceState,
    /// Of which version; of all if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Why; shown to auditors and to guests that ask for it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// What nothing is released to any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RevocationKind {
    /// One chip or platform, by what its evidence calls it, in hexadecimal.
    Chip,
    /// A measurement: any register or digest in the claims, or a reference value's id.
    Measurement,
    /// The digest of init-data, in hexadecimal.
    InitData,
    /// One attestation, by the attempt's name. Its token is of no more use.
    Attempt,
}

/// What nothing is released to any more, to be added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRevocation {
    /// What the value names.
    pub kind: RevocationKind,
    /// The value.
    pub value: String,
    /// Why; shown to auditors and to the guests that are refused.
    #[serde(default)]
    pub reason: String,
}

/// What nothing is released to any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Revocation {
    /// Its name, as in `chip-0a1b…`.
    pub id: String,
    /// What it is.
    #[serde(flatten)]
    pub what: NewRevocation,
    /// Since when (RFC 3339).
    pub at: String,
    /// Which admin said so.
    pub by: String,
}

/// The revocations, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RevocationList {
    /// The revocations.
    pub revocations: Vec<Revocation>,
}

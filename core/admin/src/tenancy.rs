//! Tenants and their admins, as the admin API tells them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::tenant::{Role, TenantName};

/// What the operator says of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TenantSettings {
    /// Host names by which guests and admins reach it, beside the path `/t/{name}`.
    pub hosts: Vec<String>,
    /// Quotas that differ from the defaults, by name.
    pub quotas: BTreeMap<String, Value>,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TenantInfo {
    /// Its name.
    pub name: TenantName,
    /// When it was made (RFC 3339).
    pub made_at: String,
    /// What the operator says of it.
    #[serde(flatten)]
    pub settings: TenantSettings,
}

/// A tenant that is to be made. Its first admin comes with it: a tenant without one could not be used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTenant {
    /// What the operator says of it.
    #[serde(default)]
    pub settings: TenantSettings,
    /// The first owner's public key.
    pub owner: NewAdmin,
}

/// The tenants, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TenantList {
    /// The tenants.
    pub tenants: Vec<TenantInfo>,
}

/// An admin's key, to be added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAdmin {
    /// The public key: PEM (SubjectPublicKeyInfo) or a JWK as text; Ed25519 or P-256.
    pub public_key: String,
    /// What they may do.
    pub roles: Vec<Role>,
    /// From when on the key is of no more use (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// An admin with a local key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AdminInfo {
    /// The name, which the log shows.
    pub name: String,
    /// The key's RFC 7638 thumbprint.
    pub thumbprint: String,
    /// What they may do.
    pub roles: Vec<Role>,
    /// From when on the key is of no more use (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// The admins with local keys, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AdminList {
    /// The admins.
    pub admins: Vec<AdminInfo>,
}

/// Who the caller is, and what they may do here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WhoAmI {
    /// The admin's name or subject.
    pub subject: String,
    /// The tenant that was asked, by path or host.
    pub tenant: TenantName,
    /// The roles that count there.
    pub roles: Vec<Role>,
    /// Whether they are the cluster's.
    pub cluster: bool,
}

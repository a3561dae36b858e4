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

/// An admin to be added: one who has a key, or one who has a client certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAdmin {
    /// The public key: PEM (SubjectPublicKeyInfo) or a JWK as text; Ed25519 or P-256. Either this or `certificate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// What names the client certificate, of an authority that the broker's configuration trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateName>,
    /// What they may do.
    pub roles: Vec<Role>,
    /// From when on the key is of no more use (RFC 3339). A certificate has its own end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// What identifies a client certificate. Comparison is to the letter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CertificateName {
    /// A URI in the subjectAltName, as in `spiffe://example.org/admin`.
    Uri(String),
    /// A DNS name in the subjectAltName.
    Dns(String),
    /// A mail address in the subjectAltName.
    Email(String),
    /// The subject's common name, if there is exactly one.
    CommonName(String),
    /// The certificate itself, by SHA-256 in hexadecimal.
    Sha256(String),
}

/// What was written is no [`CertificateName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} names no certificate; write KIND=NAME, where KIND is uri, dns, email, common-name or sha256, as in uri=spiffe://example.org/ana"
)]
pub struct NotACertificateName(String);

/// As people write it: `uri=spiffe://example.org/ana`.
impl std::str::FromStr for CertificateName {
    type Err = NotACertificateName;

    fn from_str(text: &str) -> Result<Self, NotACertificateName> {
        let wrong = || NotACertificateName(text.to_owned());
        let (kind, name) = text.split_once('=').ok_or_else(wrong)?;
        let name = name.to_owned();
        match kind {
            "uri" => Ok(Self::Uri(name)),
            "dns" => Ok(Self::Dns(name)),
            "email" => Ok(Self::Email(name)),
            "common-name" => Ok(Self::CommonName(name)),
            "sha256" => Ok(Self::Sha256(name)),
            _ => Err(wrong()),
        }
    }
}

/// As it is parsed.
impl std::fmt::Display for CertificateName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, name) = match self {
            Self::Uri(name) => ("uri", name),
            Self::Dns(name) => ("dns", name),
            Self::Email(name) => ("email", name),
            Self::CommonName(name) => ("common-name", name),
            Self::Sha256(name) => ("sha256", name),
        };
        write!(f, "{kind}={name}")
    }
}

/// An admin with a key or a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AdminInfo {
    /// The name, which the log shows.
    pub name: String,
    /// The key's RFC 7638 thumbprint; none for a certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumbprint: Option<String>,
    /// What names the certificate; none for a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateName>,
    /// What they may do.
    pub roles: Vec<Role>,
    /// From when on the key is of no more use (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// The admins with keys and certificates, in the order of their names.
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

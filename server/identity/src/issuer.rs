//! An issuer of tokens, as it is set: whose keys, for which audience, and which claims make which roles.

use std::net::IpAddr;

use coffer_core_admin::TenantName;
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::algorithm::Algorithm;
use crate::claims::ClaimPath;
use crate::error::SettingsError;
use crate::json::short;
use crate::key_set::{KeySet, KeySlot, KeySource};
use crate::local::{check_name, check_roles};
use crate::roles::RoleSet;
use crate::scope::Scope;

const MAX_AUDIENCES: usize = 16;
const MAX_RULES: usize = 64;
const MAX_REQUIRED: usize = 16;
const MAX_LIFETIME_S: u64 = 24 * 3600;
const MAX_LEEWAY_S: u64 = 300;

/// An issuer of tokens, as it is stored or written in the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IssuerSettings {
    /// A name for people, unique in its scope.
    pub name: String,
    /// What a token's `iss` must be, to the letter.
    pub issuer: String,
    /// Of a token's `aud`, one must be among these.
    pub audiences: Vec<String>,
    /// Where the issuer's keys come from.
    #[serde(default)]
    pub keys: KeySource,
    /// The algorithms that a token may have.
    #[serde(default = "default_algorithms")]
    pub algorithms: Vec<Algorithm>,
    /// The claim that names the admin.
    #[serde(default = "default_subject")]
    pub subject: ClaimPath,
    /// Which claims make which roles. What no rule names makes none.
    pub roles: Vec<RoleRule>,
    /// What must be in every token beside that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required: Vec<Requirement>,
    /// For whom it speaks: if absent, for the scope in which it is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speaks_for: Option<SpeaksFor>,
    /// From `iat` to `exp`, in seconds.
    #[serde(default = "default_lifetime")]
    pub max_lifetime_s: u64,
    /// By how much clocks may differ, in seconds.
    #[serde(default = "default_leeway")]
    pub leeway_s: u64,
}

fn default_algorithms() -> Vec<Algorithm> {
    Algorithm::ALL.to_vec()
}

fn default_subject() -> ClaimPath {
    // INVARIANT: "sub" is one step, so it is a path.
    #[allow(clippy::expect_used, reason = "the text is a constant")]
    "sub".parse().expect("sub is a claim's name")
}

const fn default_lifetime() -> u64 {
    3600
}

const fn default_leeway() -> u64 {
    30
}

/// One value of one claim, and the roles that it makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleRule {
    /// A claim that is a text or a list of texts.
    pub claim: ClaimPath,
    /// The text that it must be or hold.
    pub value: String,
    /// The roles.
    pub roles: RoleSet,
}

/// A claim that every token must have, with this value to the letter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// The claim.
    pub claim: ClaimPath,
    /// Its value.
    pub value: Value,
}

/// For whom an issuer speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpeaksFor {
    /// For the cluster: it makes operators.
    Cluster,
    /// For one tenant.
    Tenant(TenantName),
    /// For the tenants that this claim names: a text or a list of texts.
    TenantClaim(ClaimPath),
}

/// An issuer whose settings were checked for the scope that they are of.
#[derive(Debug)]
pub struct Issuer {
    settings: IssuerSettings,
    speaks_for: SpeaksFor,
    slot: KeySlot,
}

impl Issuer {
    /// Takes settings of a scope. A tenant's issuer speaks for that tenant and names no file.
    pub fn new(settings: IssuerSettings, owner: &Scope) -> Result<Self, SettingsError> {
        let place = format!("issuer {:?}", short(&settings.name));
        check_name(&place, &settings.name)?;
        let wrong = |field, expected, found: String| SettingsError::Field {
            place: place.clone(),
            field,
            expected,
            found,
        };
        let bounded = |field, expected, count: usize, limit: usize| match (1..=limit).contains(&count) {
            true => Ok(()),
            false => Err(wrong(field, expected, count.to_string())),
        };
        bounded("issuer", "1 to 1024 characters", settings.issuer.len(), 1024)?;
        bounded("audiences", "1 to 16 names", settings.audiences.len(), MAX_AUDIENCES)?;
        bounded("algorithms", "at least one", settings.algorithms.len(), Algorithm::ALL.len())?;
        bounded("roles", "1 to 64 rules", settings.roles.len(), MAX_RULES)?;
        if settings.required.len() > MAX_REQUIRED {
            return Err(wrong("required", "at most 16 claims", settings.required.len().to_string()));
        }
        if !(1..=MAX_LIFETIME_S).contains(&settings.max_lifetime_s) {
            return Err(wrong("max_lifetime_s", "1 to 86400", settings.max_lifetime_s.to_string()));
        }
        if settings.leeway_s > MAX_LEEWAY_S {
            return Err(wrong("leeway_s", "at most 300", settings.leeway_s.to_string()));
        }
        let speaks_for = match (owner, &settings.speaks_for) {
            (Scope::Cluster, None) => SpeaksFor::Cluster,
            (Scope::Cluster, Some(some)) => some.clone(),
            (Scope::Tenant(own), None) => SpeaksFor::Tenant(own.clone()),
            (Scope::Tenant(own), Some(SpeaksFor::Tenant(named))) if own == named => {
                SpeaksFor::Tenant(own.clone())
            }
            (Scope::Tenant(_), Some(other)) => {
                return Err(wrong("speaks_for", "the tenant itself, or nothing", format!("{other:?}")));
            }
        };
        let any_tenant;
        let scope = match &speaks_for {
            SpeaksFor::Cluster => &Scope::Cluster,
            SpeaksFor::Tenant(tenant) => {
                any_tenant = Scope::Tenant(tenant.clone());
                &any_tenant
            }
            SpeaksFor::TenantClaim(_) => {
                any_tenant = Scope::Tenant(TenantName::default());
                &any_tenant
            }
        };
        for rule in &settings.roles {
            check_roles(&place, rule.roles, scope)?;
            if rule.roles.is_empty() || rule.value.is_empty() {
                return Err(wrong(
                    "roles",
                    "a value and at least one role in each rule",
                    format!("{:?}", rule.value),
                ));
            }
        }
        match &settings.keys {
            KeySource::Discovery => check_url(&place, "issuer", &settings.issuer)?,
            KeySource::Url(url) => check_url(&place, "keys.url", url)?,
            KeySource::File(path) if matches!(owner, Scope::Tenant(_)) || !path.is_absolute() => {
                return Err(wrong(
                    "keys.file",
                    "an absolute path, and only in the cluster's own settings",
                    format!("{:?}", path.display()),
                ));
            }
            KeySource::File(_) => {}
            KeySource::Inline(text) => {
                let parsed = KeySet::parse(text.as_bytes());
                parsed.map_err(|why| SettingsError::Key { place: place.clone(), why })?;
            }
        }
        let slot =
            KeySlot { owner: owner.clone(), issuer: settings.issuer.clone(), source: settings.keys.clone() };
        Ok(Self { settings, speaks_for, slot })
    }

    /// The settings.
    pub fn settings(&self) -> &IssuerSettings {
        &self.settings
    }

    /// For whom it speaks.
    pub fn speaks_for(&self) -> &SpeaksFor {
        &self.speaks_for
    }

    /// Every role that it can make: who sets it needs to be allowed to grant them.
    pub fn grants(&self) -> RoleSet {
        self.settings.roles.iter().fold(RoleSet::EMPTY, |all, rule| all.union(rule.roles))
    }

    /// Where its keys are kept.
    pub fn slot(&self) -> &KeySlot {
        &self.slot
    }
}

/// HTTPS; HTTP only to this machine, where nobody else can change what is said.
fn check_url(place: &str, field: &'static str, text: &str) -> Result<(), SettingsError> {
    let url = Url::parse(text)
        .ok()
        .filter(|url| allowed_url(url) && url.query().is_none_or(|query| query.len() < 1024));
    match url {
        Some(url) if url.fragment().is_none() && text.len() <= 2048 => Ok(()),
        _ => Err(SettingsError::Field {
            place: place.to_owned(),
            field,
            expected: "an https address without user, password and fragment (http only to a loopback address)",
            found: format!("{:?}", short(text)),
        }),
    }
}

/// Whether keys may be asked for there.
pub(crate) fn allowed_url(url: &Url) -> bool {
    let loopback = || {
        let host = url.host_str().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    let scheme = url.scheme() == "https" || (url.scheme() == "http" && loopback());
    scheme && url.host_str().is_some() && url.username().is_empty() && url.password().is_none()
}

//! Tenants' names, and the roles of admins.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest name: it must fit a DNS label (RFC 1035, section 2.3.4).
const MAX_NAME: usize = 63;

/// A tenant's name: 1 to 63 lower-case letters, digits and `-`, with a letter or digit at both ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct TenantName(String);

/// A text is no tenant's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no tenant's name; expected 1 to {MAX_NAME} lower-case letters, digits and '-', with a letter or digit at both ends"
)]
pub struct NotATenant(String);

impl TenantName {
    /// The tenant of the plain paths.
    pub const DEFAULT: &'static str = "default";

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the tenant of the plain paths, which cannot be removed.
    pub fn is_default(&self) -> bool {
        self.0 == Self::DEFAULT
    }
}

impl Default for TenantName {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

impl FromStr for TenantName {
    type Err = NotATenant;

    fn from_str(text: &str) -> Result<Self, NotATenant> {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let outer = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let good = text.len() <= MAX_NAME
            && text.bytes().all(inner)
            && outer(text.bytes().next())
            && outer(text.bytes().next_back());
        match good {
            true => Ok(Self(text.to_owned())),
            false => Err(NotATenant(text.chars().take(MAX_NAME).collect())),
        }
    }
}

impl TryFrom<String> for TenantName {
    type Error = NotATenant;

    fn try_from(text: String) -> Result<Self, NotATenant> {
        text.parse()
    }
}

impl From<TenantName> for String {
    fn from(name: TenantName) -> Self {
        name.0
    }
}

impl fmt::Display for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an admin may do. Who has several has what each of them allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The cluster: tenants, quotas, collateral, backup. Nothing of what a tenant holds.
    Operator,
    /// Everything in a tenant, its admins included.
    Owner,
    /// A tenant's policies, reference values, trust anchors, revocations and admins.
    Security,
    /// Reads a tenant's attempts and lists; changes nothing.
    Auditor,
    /// A tenant's resources, keys and reference values.
    Publisher,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Operator, Self::Owner, Self::Security, Self::Auditor, Self::Publisher];

    /// Its name, as in tokens and forms.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Owner => "owner",
            Self::Security => "security",
            Self::Auditor => "auditor",
            Self::Publisher => "publisher",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text is no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no role; there are operator, owner, security, auditor and publisher")]
pub struct NotARole(String);

impl FromStr for Role {
    type Err = NotARole;

    fn from_str(text: &str) -> Result<Self, NotARole> {
        let found = Self::ALL.into_iter().find(|role| role.name() == text);
        found.ok_or_else(|| NotARole(text.chars().take(64).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels_in_lower_case() {
        let long = "a".repeat(MAX_NAME);
        for good in ["a", "default", "team-1", "0", long.as_str()] {
            assert_eq!(good.parse::<TenantName>().map(|name| name.to_string()), Ok(good.to_owned()));
        }
        let longer = "a".repeat(MAX_NAME + 1);
        for bad in ["", "-a", "a-", "A", "a/b", "a.b", "a b", "ä", "a\0", "..", longer.as_str()] {
            assert!(bad.parse::<TenantName>().is_err(), "{bad:?}");
        }
        assert!(serde_json::from_str::<TenantName>("\"../x\"").is_err());
    }

    #[test]
    fn roles_are_read_as_they_are_written() {
        for role in Role::ALL {
            assert_eq!(role.name().parse(), Ok(role));
            assert_eq!(serde_json::to_string(&role).ok(), Some(format!("\"{role}\"")));
        }
        assert!("root".parse::<Role>().is_err());
    }
}

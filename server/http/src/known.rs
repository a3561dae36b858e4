//! The admins that a scope keeps by name, each with a key or with a client certificate.
//!
//! A row is the one or the other: what it has beside name and roles says which.

use coffer_core_admin::{AdminInfo, AdminList, NewAdmin};
use coffer_core_protocol::error::Code;
use coffer_server_identity::{CertificateRule, LocalKey, RoleSet};
use coffer_server_store::{Scope, Table};
use serde::Serialize;

use crate::clock::seconds;
use crate::error::OpenError;
use crate::record;
use crate::reply::Refused;

/// One of them.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Known {
    /// Who signs with this key.
    Key(LocalKey),
    /// Who has a certificate that this rule names.
    Certificate(CertificateRule),
}

impl Known {
    /// An admin as sent, checked but for what only the whole of a scope can say.
    pub(crate) fn of(name: &str, new: NewAdmin) -> Result<Self, Refused> {
        let wrong = |why: String| Refused::new(Code::Malformed, format!("{why}."));
        let NewAdmin { public_key, certificate, roles, expires_at } = new;
        let roles = RoleSet::from(roles);
        let expires_at = match expires_at.as_deref().map(str::parse::<jiff::Timestamp>) {
            None => None,
            Some(Ok(at)) => Some(seconds(at)),
            Some(Err(error)) => return Err(wrong(format!("expires_at: {error}"))),
        };
        match (public_key, certificate, expires_at) {
            (Some(key), None, _) => LocalKey::new(name, &key, roles, expires_at)
                .map(Self::Key)
                .map_err(|error| wrong(error.to_string())),
            (None, Some(certificate), None) => {
                Ok(Self::Certificate(CertificateRule { name: name.to_owned(), certificate, roles }))
            }
            (None, Some(_), Some(_)) => {
                Err(wrong("a certificate has an end of its own; leave expires_at out".to_owned()))
            }
            _ => Err(wrong("an admin has either `public_key` or `certificate`; send one of them".to_owned())),
        }
    }

    /// The name.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Key(key) => key.name(),
            Self::Certificate(rule) => &rule.name,
        }
    }

    /// What the admin may do.
    pub(crate) fn roles(&self) -> RoleSet {
        match self {
            Self::Key(key) => key.roles(),
            Self::Certificate(rule) => rule.roles,
        }
    }

    /// What is told about the admin.
    fn shown(&self) -> AdminInfo {
        let (name, roles) = (self.name().to_owned(), self.roles().iter().collect());
        let blank = AdminInfo { name, roles, thumbprint: None, certificate: None, expires_at: None };
        match self {
            Self::Key(key) => AdminInfo {
                thumbprint: Some(key.thumbprint().to_owned()),
                expires_at: key.expires_at().and_then(time),
                ..blank
            },
            Self::Certificate(rule) => AdminInfo { certificate: Some(rule.certificate.clone()), ..blank },
        }
    }
}

fn time(seconds: u64) -> Option<String> {
    let at = jiff::Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?;
    Some(record::seconds(at))
}

/// What is told about all of them.
pub(crate) fn shown(all: &[Known]) -> AdminList {
    AdminList { admins: all.iter().map(Known::shown).collect() }
}

/// All that a scope keeps.
pub(crate) fn read(rows: &Scope) -> Result<Vec<Known>, OpenError> {
    rows.list(Table::Admins)?.into_iter().map(|(name, body)| row(name, body.expose())).collect()
}

fn row(name: String, body: &[u8]) -> Result<Known, OpenError> {
    let read = || {
        let value: serde_json::Value = serde_json::from_slice(body)?;
        match value.get("certificate").is_some() {
            true => serde_json::from_value(value).map(Known::Certificate),
            false => serde_json::from_value(value).map(Known::Key),
        }
    };
    read().map_err(|error: serde_json::Error| OpenError::Stored {
        what: "admin",
        name,
        why: error.to_string(),
    })
}

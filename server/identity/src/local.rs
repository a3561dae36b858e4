//! Admins' own public keys, which belong to one tenant or to the cluster.
//!
//! A token is for its key's scope by itself: the key is unknown elsewhere. Where somebody uses one key in several
//! scopes, `aud` says which one a token is for: `coffer-broker/t/{tenant}` or `coffer-broker/cluster`; a token with
//! `coffer-broker` or without `aud` (as upstream's client makes it) is good in each scope that has the key.

use std::collections::HashMap;
use std::sync::Arc;

use coffer_core_admin::TenantName;
use serde::{Deserialize, Serialize};

use crate::algorithm::Algorithm;
use crate::claims::{self, Times};
use crate::error::{KeyError, SettingsError, Unauthenticated};
use crate::identity::{Identity, Via};
use crate::json::short;
use crate::key::PublicKey;
use crate::roles::RoleSet;
use crate::scope::Scope;
use crate::token::Token;

const CLOCK_SKEW_S: u64 = 60;
/// Upstream's `kbs-client` signs for two hours; ours for two minutes.
const MAX_LIFETIME_S: u64 = 2 * 3600;
const AUDIENCE: &str = "coffer-broker";
/// The most local keys of one scope.
const MAX_LOCAL_KEYS: usize = 1024;
/// So many keys are tried for a token that names none.
const MAX_TRIED: usize = 32;

/// An admin's public key, with what they may do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct LocalKey {
    form: Form,
    key: Arc<PublicKey>,
}

/// As it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    name: String,
    public_key: String,
    roles: RoleSet,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
}

impl LocalKey {
    /// Takes a name, a key (PEM or JWK; Ed25519 or EC on P-256), roles, and when it ends in seconds since 1970.
    pub fn new(
        name: &str,
        public_key: &str,
        roles: RoleSet,
        expires_at: Option<u64>,
    ) -> Result<Self, SettingsError> {
        let form = Form { name: name.to_owned(), public_key: public_key.to_owned(), roles, expires_at };
        Self::try_from(form)
    }

    /// The admin's name.
    pub fn name(&self) -> &str {
        &self.form.name
    }

    /// The key's thumbprint (RFC 7638).
    pub fn thumbprint(&self) -> &str {
        self.key.thumbprint()
    }

    /// What the admin may do.
    pub fn roles(&self) -> RoleSet {
        self.form.roles
    }

    /// When the key ends.
    pub fn expires_at(&self) -> Option<u64> {
        self.form.expires_at
    }

    fn is_named(&self, id: &str) -> bool {
        id == self.thumbprint() || id == self.name() || self.key.id() == Some(id)
    }
}

impl TryFrom<Form> for LocalKey {
    type Error = SettingsError;

    fn try_from(form: Form) -> Result<Self, SettingsError> {
        let place = format!("admin {:?}", short(&form.name));
        check_name(&place, &form.name)?;
        let key = PublicKey::from_text(&form.public_key);
        let key = key.map_err(|why| SettingsError::Key { place: place.clone(), why })?;
        let other = key.algorithms().find(|one| !matches!(one, Algorithm::EdDsa | Algorithm::Es256));
        match other {
            Some(other) => Err(SettingsError::Key { place, why: KeyError::Local(other) }),
            None => Ok(Self { form, key: Arc::new(key) }),
        }
    }
}

impl From<LocalKey> for Form {
    fn from(key: LocalKey) -> Self {
        key.form
    }
}

/// A name for people: 1 to 128 characters, none of which a log line could be broken with.
pub(crate) fn check_name(place: &str, name: &str) -> Result<(), SettingsError> {
    match (1..=128).contains(&name.chars().count()) && !name.chars().any(char::is_control) {
        true => Ok(()),
        false => Err(SettingsError::Field {
            place: place.to_owned(),
            field: "name",
            expected: "1 to 128 characters without control characters",
            found: format!("{:?}", short(name)),
        }),
    }
}

/// The roles must exist where they are given.
pub(crate) fn check_roles(place: &str, roles: RoleSet, scope: &Scope) -> Result<(), SettingsError> {
    match roles.iter().find(|role| !scope.has(*role)) {
        Some(role) => Err(SettingsError::Role { place: place.to_owned(), role, scope: scope.clone() }),
        None => Ok(()),
    }
}

/// The local keys of one scope.
#[derive(Debug)]
pub(crate) struct LocalKeys {
    scope: Scope,
    keys: Vec<LocalKey>,
    by_thumbprint: HashMap<String, usize>,
}

impl LocalKeys {
    pub(crate) fn new(scope: &Scope, keys: Vec<LocalKey>) -> Result<Self, SettingsError> {
        if keys.len() > MAX_LOCAL_KEYS {
            let (what, limit, found) = ("local keys", MAX_LOCAL_KEYS, keys.len());
            return Err(SettingsError::TooMany { what, limit, found });
        }
        let mut by_thumbprint = HashMap::new();
        let mut names = std::collections::HashSet::new();
        for (index, key) in keys.iter().enumerate() {
            check_roles(&format!("admin {:?}", key.name()), key.roles(), scope)?;
            if by_thumbprint.insert(key.thumbprint().to_owned(), index).is_some() || !names.insert(key.name())
            {
                return Err(SettingsError::Twice(key.name().to_owned()));
            }
        }
        Ok(Self { scope: scope.clone(), by_thumbprint, keys })
    }

    /// Who signed the token. `UnknownSigner` if no key of this scope did.
    pub(crate) fn verify(&self, token: &Token, now: u64) -> Result<Identity, Unauthenticated> {
        let unknown = || Unauthenticated::UnknownSigner(self.scope.clone());
        let algorithm = Algorithm::from_name(token.algorithm());
        let algorithm =
            algorithm.filter(|algorithm| matches!(algorithm, Algorithm::EdDsa | Algorithm::Es256));
        let Some(algorithm) = algorithm else { return Err(unknown()) };
        let candidates = self.candidates(token);
        let candidates: Vec<_> = candidates.into_iter().filter(|local| local.key.is_for(algorithm)).collect();
        if candidates.len() > MAX_TRIED {
            return Err(Unauthenticated::KeyNotNamed(MAX_TRIED));
        }
        let signed =
            |local: &&&LocalKey| local.key.verify(algorithm, token.signed(), token.signature()).is_ok();
        let local = candidates.iter().find(signed).ok_or_else(unknown)?;
        let claims = token.insecure_claims();
        let times = Times { now, leeway: CLOCK_SKEW_S, max_lifetime: MAX_LIFETIME_S };
        let ended = times.check(claims)?;
        // The end itself has no leeway: the client's own clock set it a moment ago.
        if ended <= now {
            return Err(Unauthenticated::Expired { ended, now });
        }
        let expected = self.audience();
        if let Some(found) = claims::audiences(claims)?
            && !found.iter().any(|name| *name == AUDIENCE || *name == expected)
        {
            return Err(Unauthenticated::Audience(expected));
        }
        if let Some(ended) = local.expires_at().filter(|ended| *ended <= now) {
            return Err(Unauthenticated::KeyExpired { name: local.name().to_owned(), ended });
        }
        let via = Via::LocalKey(local.thumbprint().to_owned());
        let ended = local.expires_at().map_or(ended, |own| own.min(ended));
        Ok(Identity::new(local.name().to_owned(), self.scope.clone(), local.roles(), via, ended))
    }

    /// The keys that a token names, by thumbprint, name or id; all, if it names none.
    fn candidates(&self, token: &Token) -> Vec<&LocalKey> {
        let by_thumbprint = |id: &str| self.by_thumbprint.get(id).and_then(|index| self.keys.get(*index));
        if let Some(key) = token.key_hint().and_then(by_thumbprint) {
            return vec![key];
        }
        match token.key_id() {
            Some(id) => self.keys.iter().filter(|key| key.is_named(id)).collect(),
            None if token.key_hint().is_some() => Vec::new(),
            None => self.keys.iter().collect(),
        }
    }

    /// The audience that is this scope's alone.
    fn audience(&self) -> String {
        match &self.scope {
            Scope::Cluster => format!("{AUDIENCE}/cluster"),
            Scope::Tenant(tenant) => audience_of(tenant),
        }
    }
}

fn audience_of(tenant: &TenantName) -> String {
    format!("{AUDIENCE}/t/{tenant}")
}

//! Token, keys and time in; identity out. Nothing is fetched and no clock is read here.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coffer_core_admin::TenantName;
use serde_json::{Map, Value};

use crate::algorithm::Algorithm;
use crate::certificate::{CertificateRule, ClientCertificate};
use crate::claims::{ClaimPath, Times, audiences};
use crate::error::{FetchError, SettingsError, Unauthenticated};
use crate::identity::{Identity, Via};
use crate::issuer::{Issuer, IssuerSettings, SpeaksFor};
use crate::json::short;
use crate::key_set::{KeySet, KeySlot};
use crate::local::{LocalKey, LocalKeys};
use crate::roles::RoleSet;
use crate::scope::Scope;
use crate::token::Token;

/// The most issuers of one scope.
const MAX_ISSUERS: usize = 16;
/// The most certificate rules of one scope.
const MAX_CERTIFICATE_RULES: usize = 256;
/// So many keys are tried for a token that names none, or whose id several have.
const MAX_TRIED: usize = 8;
/// A subject is written into logs and rows.
const MAX_SUBJECT: usize = 256;

/// The keys of issuers that were fetched for one request.
pub type KeysAtHand = HashMap<KeySlot, Arc<KeySet>>;

/// What a token is judged with.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The scope that the request is for: by its path or host name.
    pub target: &'a Scope,
    /// The client certificate of the connection, for tokens that are bound to it.
    pub certificate: Option<&'a ClientCertificate>,
    /// Seconds since 1970.
    pub now: u64,
}

/// All that one scope knows admins by.
#[derive(Debug)]
pub struct Verifier {
    scope: Scope,
    local: LocalKeys,
    issuers: Vec<Issuer>,
    certificates: Vec<CertificateRule>,
}

impl Verifier {
    /// Takes what a scope has set. Everything is checked here, so that nothing is refused later for its settings.
    pub fn new(
        scope: &Scope,
        local: Vec<LocalKey>,
        issuers: Vec<IssuerSettings>,
        certificates: Vec<CertificateRule>,
    ) -> Result<Self, SettingsError> {
        let bounded = |what, limit: usize, found: usize| match found <= limit {
            true => Ok(()),
            false => Err(SettingsError::TooMany { what, limit, found }),
        };
        bounded("issuers", MAX_ISSUERS, issuers.len())?;
        bounded("certificate rules", MAX_CERTIFICATE_RULES, certificates.len())?;
        let mut names = HashSet::new();
        let all = issuers.iter().map(|issuer| &issuer.name).chain(certificates.iter().map(|rule| &rule.name));
        if let Some(twice) = all.into_iter().find(|name| !names.insert(name.as_str())) {
            return Err(SettingsError::Twice(twice.clone()));
        }
        let mut seen = HashSet::new();
        for rule in &certificates {
            rule.check(scope)?;
            if !seen.insert(&rule.certificate) {
                return Err(SettingsError::Twice(rule.name.clone()));
            }
        }
        let issuers =
            issuers.into_iter().map(|issuer| Issuer::new(issuer, scope)).collect::<Result<_, _>>()?;
        Ok(Self { scope: scope.clone(), local: LocalKeys::new(scope, local)?, issuers, certificates })
    }

    /// The scope.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The issuers.
    pub fn issuers(&self) -> &[Issuer] {
        &self.issuers
    }

    /// The issuers that a token claims to be of, if they can speak for the target.
    pub fn issuers_of<'a>(&'a self, token: &'a Token, target: &'a Scope) -> impl Iterator<Item = &'a Issuer> {
        let named = |issuer: &&Issuer| token.insecure_issuer() == Some(issuer.settings().issuer.as_str());
        let speaks = move |issuer: &&Issuer| {
            matches!(
                (issuer.speaks_for(), target),
                (SpeaksFor::Cluster, Scope::Cluster) | (SpeaksFor::TenantClaim(_), Scope::Tenant(_))
            ) || matches!((issuer.speaks_for(), target), (SpeaksFor::Tenant(own), Scope::Tenant(at)) if own == at)
        };
        self.issuers.iter().filter(named).filter(speaks)
    }

    /// Who made a token, by the keys at hand.
    pub fn verify(
        &self,
        token: &str,
        asked: &Asked<'_>,
        keys: &KeysAtHand,
    ) -> Result<Identity, Unauthenticated> {
        let token = Token::parse(token)?;
        self.verify_parsed(&token, asked, |issuer| {
            keys.get(issuer.slot()).cloned().ok_or(FetchError::NotFetched)
        })
    }

    /// As [`Verifier::verify`].
    pub(crate) fn verify_parsed(
        &self,
        token: &Token,
        asked: &Asked<'_>,
        keys: impl Fn(&Issuer) -> Result<Arc<KeySet>, FetchError>,
    ) -> Result<Identity, Unauthenticated> {
        let mut refused = Unauthenticated::UnknownSigner(asked.target.clone());
        if self.scope == *asked.target {
            match self.local.verify(token, asked.now) {
                Ok(identity) => return bound(token, asked).map(|()| identity),
                Err(Unauthenticated::UnknownSigner(_)) => {}
                Err(error) => refused = error,
            }
        }
        for issuer in self.issuers_of(token, asked.target) {
            let verified = keys(issuer)
                .map_err(|why| Unauthenticated::Unavailable { issuer: issuer.settings().name.clone(), why })
                .and_then(|keys| issuer.verify(token, asked, &keys));
            match verified {
                Ok(identity) => return Ok(identity),
                Err(error) => refused = worse(refused, error),
            }
        }
        Err(refused)
    }

    /// Who has a client certificate that TLS verified.
    pub fn identify(&self, certificate: &ClientCertificate, now: u64) -> Result<Identity, Unauthenticated> {
        certificate.check_time(now)?;
        let found = self.certificates.iter().find_map(|rule| rule.identify(certificate, &self.scope));
        found.ok_or_else(|| Unauthenticated::UnknownCertificate(self.scope.clone()))
    }
}

/// Of two refusals the one that says more: that an issuer cannot be asked, before what a known signer did wrong. Of
/// equal ones the later, which is of the issuer that the token names.
pub(crate) fn worse(first: Unauthenticated, second: Unauthenticated) -> Unauthenticated {
    let rank = |error: &Unauthenticated| match error {
        Unauthenticated::UnknownSigner(_) => 0,
        Unauthenticated::Unavailable { .. } => 2,
        _ => 1,
    };
    if rank(&second) >= rank(&first) { second } else { first }
}

impl Issuer {
    /// Verifies a token of this issuer with its keys.
    fn verify(&self, token: &Token, asked: &Asked<'_>, keys: &KeySet) -> Result<Identity, Unauthenticated> {
        let settings = self.settings();
        let algorithm = Algorithm::from_name(token.algorithm());
        let algorithm = algorithm.filter(|algorithm| settings.algorithms.contains(algorithm));
        let algorithm = algorithm.ok_or_else(|| Unauthenticated::Algorithm {
            expected: settings.algorithms.iter().map(|one| one.name()).collect::<Vec<_>>().join(", "),
            found: short(token.algorithm()),
        })?;
        let candidates = keys.candidates(token.key_id(), algorithm);
        if candidates.is_empty() {
            let key = short(token.key_id().unwrap_or_default());
            return Err(Unauthenticated::UnknownKey { issuer: settings.name.clone(), key });
        }
        if candidates.len() > MAX_TRIED {
            return Err(Unauthenticated::KeyNotNamed(MAX_TRIED));
        }
        let signed =
            |key: &&crate::key::PublicKey| key.verify(algorithm, token.signed(), token.signature()).is_ok();
        if !candidates.iter().any(signed) {
            return Err(Unauthenticated::Signature);
        }
        self.judge(token.insecure_claims(), token, asked)
    }

    /// Judges claims whose signature was verified.
    fn judge(
        &self,
        claims: &Map<String, Value>,
        token: &Token,
        asked: &Asked<'_>,
    ) -> Result<Identity, Unauthenticated> {
        let settings = self.settings();
        let times =
            Times { now: asked.now, leeway: settings.leeway_s, max_lifetime: settings.max_lifetime_s };
        let ended = times.check(claims)?;
        let found = audiences(claims)?.ok_or_else(|| Unauthenticated::Missing("aud".to_owned()))?;
        if !found.iter().any(|name| settings.audiences.iter().any(|own| own == name)) {
            return Err(Unauthenticated::Audience(settings.audiences.join(", ")));
        }
        bound(token, asked)?;
        for requirement in &settings.required {
            if requirement.claim.get(claims) != Some(&requirement.value) {
                return Err(Unauthenticated::Required(requirement.claim.to_string()));
            }
        }
        let scope = match self.speaks_for() {
            SpeaksFor::Cluster => Scope::Cluster,
            SpeaksFor::Tenant(tenant) => Scope::Tenant(tenant.clone()),
            SpeaksFor::TenantClaim(path) => claimed_tenant(path, claims, asked.target)?,
        };
        if scope != *asked.target {
            return Err(Unauthenticated::OtherTenant(asked.target.clone()));
        }
        let mut roles = RoleSet::EMPTY;
        for rule in &settings.roles {
            if rule.claim.texts(claims)?.contains(&rule.value.as_str()) {
                roles = roles.union(rule.roles);
            }
        }
        let via = Via::Oidc(settings.issuer.clone());
        Ok(Identity::new(subject(&settings.subject, claims)?, scope, roles, via, ended))
    }
}

fn claimed_tenant(
    path: &ClaimPath,
    claims: &Map<String, Value>,
    target: &Scope,
) -> Result<Scope, Unauthenticated> {
    let named = path.texts(claims)?;
    if named.is_empty() {
        return Err(Unauthenticated::Missing(path.to_string()));
    }
    let tenants = named.iter().filter_map(|name| name.parse::<TenantName>().ok().map(Scope::Tenant));
    let found = tenants.into_iter().find(|scope| scope == target);
    found.ok_or_else(|| Unauthenticated::OtherTenant(target.clone()))
}

fn subject(path: &ClaimPath, claims: &Map<String, Value>) -> Result<String, Unauthenticated> {
    let text = match path.get(claims) {
        None => return Err(Unauthenticated::Missing(path.to_string())),
        Some(value) => value.as_str(),
    };
    let good = |text: &&str| (1..=MAX_SUBJECT).contains(&text.len()) && !text.chars().any(char::is_control);
    let text = text.filter(good).ok_or_else(|| Unauthenticated::ClaimType {
        claim: path.to_string(),
        expected: "a text of 1 to 256 bytes without control characters",
    })?;
    Ok(text.to_owned())
}

/// A token that is bound to a key is good only with that key: the certificate of the connection (RFC 8705,
/// section 3). Other ways of binding are not known, so such a token is refused.
fn bound(token: &Token, asked: &Asked<'_>) -> Result<(), Unauthenticated> {
    let Some(binding) = token.insecure_claims().get("cnf") else { return Ok(()) };
    let expected = asked.certificate.map(|certificate| URL_SAFE_NO_PAD.encode(certificate.sha256()));
    let members = binding.as_object().filter(|members| members.len() == 1);
    let found = members.and_then(|members| members.get("x5t#S256")).and_then(Value::as_str);
    match (expected, found) {
        (Some(expected), Some(found)) if expected == found => Ok(()),
        _ => Err(Unauthenticated::Bound),
    }
}

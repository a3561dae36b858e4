//! The gate's first half: what a request presents in, identity out.

use std::collections::HashMap;

use crate::cache::KeyCache;
use crate::certificate::ClientCertificate;
use crate::error::Unauthenticated;
use crate::identity::Identity;
use crate::token::Token;
use crate::verifier::{Asked, Verifier, worse};

/// What a request brings.
#[derive(Clone, Copy, Default)]
pub struct Presented<'a> {
    /// The text after `Bearer `.
    pub token: Option<&'a str>,
}

/// Verifies what requests bring, and fetches issuers' keys for it.
#[derive(Clone)]
pub struct Authenticator {
    cache: KeyCache,
}

impl Authenticator {
    /// With a cache of issuers' keys.
    pub fn new(cache: KeyCache) -> Self {
        Self { cache }
    }

    /// The cache.
    pub fn cache(&self) -> &KeyCache {
        &self.cache
    }

    /// Who it is. `verifiers` are those of the target and, for a tenant, of the cluster, whose issuers may speak for
    /// tenants. A token goes before a certificate: who sends one means it.
    pub async fn authenticate(
        &self,
        verifiers: &[&Verifier],
        presented: Presented<'_>,
        asked: Asked<'_>,
    ) -> Result<Identity, Unauthenticated> {
        match (presented.token, asked.certificate) {
            (Some(token), _) => self.by_token(verifiers, token, asked).await,
            (None, Some(certificate)) => by_certificate(verifiers, certificate, asked),
            (None, None) => Err(Unauthenticated::Nothing),
        }
    }

    async fn by_token(
        &self,
        verifiers: &[&Verifier],
        token: &str,
        asked: Asked<'_>,
    ) -> Result<Identity, Unauthenticated> {
        let token = Token::parse(token)?;
        let mut refused = Unauthenticated::UnknownSigner(asked.target.clone());
        for verifier in verifiers {
            let mut keys = HashMap::new();
            for issuer in verifier.issuers_of(&token, asked.target) {
                keys.insert(issuer.slot(), self.cache.keys(issuer, token.key_id(), asked.now).await);
            }
            let of = |issuer: &crate::Issuer| {
                keys.get(issuer.slot()).cloned().unwrap_or(Err(crate::FetchError::NotFetched))
            };
            match verifier.verify_parsed(&token, &asked, of) {
                Ok(identity) => return Ok(identity),
                Err(error) => refused = worse(refused, error),
            }
        }
        Err(refused)
    }
}

/// The cluster's rules name no admins of tenants, so only the target's own count.
fn by_certificate(
    verifiers: &[&Verifier],
    certificate: &ClientCertificate,
    asked: Asked<'_>,
) -> Result<Identity, Unauthenticated> {
    let own = verifiers.iter().find(|verifier| verifier.scope() == asked.target);
    let unknown = || Unauthenticated::UnknownCertificate(asked.target.clone());
    own.ok_or_else(unknown)?.identify(certificate, asked.now)
}

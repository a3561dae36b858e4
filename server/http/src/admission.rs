//! How often calls may come, and the keys by which admins are known: what the gate remembers.

use std::net::IpAddr;
use std::time::Instant;

use coffer_core_protocol::error::Code;
use coffer_server_identity::{Authenticator, KeyCache};
use coffer_server_limits::{Class, Decision, Rates};

use crate::reply::Refused;
use crate::tenancy::Tenant;

/// What the gate remembers.
pub(crate) struct Admission {
    authenticator: Authenticator,
    rates: Rates,
    begun: Instant,
}

impl Admission {
    pub(crate) fn new(authenticator: Authenticator) -> Self {
        Self { authenticator, rates: Rates::default(), begun: Instant::now() }
    }

    /// What verifies admins' tokens.
    pub(crate) fn authenticator(&self) -> &Authenticator {
        &self.authenticator
    }

    /// The keys of issuers that were fetched.
    pub(crate) fn keys(&self) -> &KeyCache {
        self.authenticator.cache()
    }

    /// Whether this client may call now.
    pub(crate) fn admit(&self, tenant: &Tenant, class: Class, client: Option<IpAddr>) -> Result<(), Refused> {
        let (now, limits) = (self.begun.elapsed(), tenant.in_force().quotas.rates);
        match self.rates.check(&tenant.name, class, client, &limits, now) {
            Decision::Allowed => Ok(()),
            Decision::Wait(seconds) => Err(Refused::plain(Code::RateLimited).after(seconds)),
        }
    }
}

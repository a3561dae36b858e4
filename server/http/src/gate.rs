//! Who may call what: the gate before every handler.
//!
//! INVARIANT: an admin's handler takes an `Admin`, which exists only with the proof that this gate puts there after it
//! asked for the permission that the route table names. Rates are asked first, so that nobody's flood is verified.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use coffer_core_protocol::error::Code;
use coffer_server_identity::{self as identity, Asked, Authenticator, Authorized, KeyCache, Permission, Presented};
use coffer_server_limits::{Class, Decision, Rates};

use crate::broker::Broker;
use crate::call::{Call, Client, bearer};
use crate::reply::Refused;
use crate::routes::Needs;
use crate::tenancy::Tenant;

/// What the gate remembers.
pub(crate) struct Gate {
    authenticator: Authenticator,
    rates: Rates,
    begun: Instant,
}

impl Gate {
    pub(crate) fn new(authenticator: Authenticator) -> Self {
        Self { authenticator, rates: Rates::default(), begun: Instant::now() }
    }

    /// The keys of issuers that were fetched.
    pub(crate) fn keys(&self) -> &KeyCache {
        self.authenticator.cache()
    }

    /// Whether this client may call now.
    fn admit(&self, tenant: &Tenant, class: Class, client: Option<IpAddr>) -> Result<(), Refused> {
        let (now, limits) = (self.begun.elapsed(), tenant.in_force().quotas.rates);
        match self.rates.check(&tenant.name, class, client, &limits, now) {
            Decision::Allowed => Ok(()),
            Decision::Wait(seconds) => Err(Refused::plain(Code::RateLimited).after(seconds)),
        }
    }

    /// The proof that whoever sends these headers may do this.
    pub(crate) async fn authorize(
        &self,
        call: &Call,
        permission: Permission,
        headers: &HeaderMap,
    ) -> Result<Authorized, Refused> {
        self.authorize_token(call, permission, bearer(headers)).await
    }

    /// As [`Gate::authorize`], for a token that came otherwise.
    pub(crate) async fn authorize_token(
        &self,
        call: &Call,
        permission: Permission,
        token: Option<&str>,
    ) -> Result<Authorized, Refused> {
        let target = match permission.level() {
            identity::Level::Cluster => identity::Scope::Cluster,
            identity::Level::Tenant => identity::Scope::Tenant(call.tenant.name.clone()),
        };
        let who = self.identify(call, &target, token).await?;
        who.allows(permission, &target).map_err(|error| {
            tracing::info!(tenant = %call.tenant.name, who = who.subject(), %error, "forbidden");
            Refused::new(Code::AdminForbidden, format!("{error}."))
        })
    }

    /// Who sends this token, as the target knows them.
    pub(crate) async fn identify(
        &self,
        call: &Call,
        target: &identity::Scope,
        token: Option<&str>,
    ) -> Result<identity::Identity, Refused> {
        let inner = call.inner();
        let (in_force, operators) = (call.in_force(), inner.operators());
        let own = match target {
            identity::Scope::Cluster => vec![operators.as_ref()],
            identity::Scope::Tenant(_) => vec![&in_force.admins, operators.as_ref()],
        };
        let asked = Asked { target, certificate: None, now: inner.now_s() };
        let found = self.authenticator.authenticate(&own, Presented { token }, asked).await;
        found.map_err(|error| {
            // Why is for the log: what is wrong with a token helps whoever guesses.
            tracing::info!(tenant = %call.tenant.name, code = error.code(), %error, "not an admin");
            match error.status() {
                503 => Refused::new(Code::StoreUnavailable, "The keys of the token's issuer cannot be had now."),
                _ => Refused::plain(Code::AdminUnauthenticated),
            }
        })
    }
}

/// Before every handler: rates, and what the route needs.
pub(crate) async fn pass(
    State((broker, needs, class)): State<(Broker, Needs, Option<Class>)>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(tenant) = request.extensions().get::<Arc<Tenant>>().cloned() else {
        return Refused::plain(Code::Internal).into_response();
    };
    let gate = &broker.inner().gate;
    let client = request.extensions().get::<Client>().map(|Client(address)| *address);
    if let Some(class) = class
        && let Err(refused) = gate.admit(&tenant, class, client)
    {
        broker.inner().metrics.limited(class);
        return refused.into_response();
    }
    let permission = match needs {
        Needs::Nothing => return next.run(request).await,
        Needs::Permission(permission) => permission,
    };
    let call = Call { broker: broker.clone(), tenant };
    match gate.authorize(&call, permission, request.headers()).await {
        Ok(authorized) => {
            request.extensions_mut().insert(Arc::new(authorized));
            next.run(request).await
        }
        Err(refused) => refused.into_response(),
    }
}

//! Who may call what: the gate before every handler.
//!
//! INVARIANT: an admin's handler takes an `Admin`, which exists only with the proof that this gate puts there after it
//! asked for the permission that the route table names. Rates are asked first, so that nobody's flood is verified.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use coffer_core_protocol::error::Code;
use coffer_server_identity::{self as identity, Asked, Authorized, Permission, Presented};
use coffer_server_limits::Class;

use crate::broker::Broker;
use crate::call::{Call, Client, bearer, certificate};
use crate::reply::Refused;
use crate::tenancy::Tenant;

/// What a call asks of whoever makes it, before its handler looks at anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing: it is public, or its handler asks for a challenge or an attestation token.
    Nothing,
    /// An admin who has this permission where it counts.
    Permission(Permission),
}

/// The proof that whoever sends these headers on this connection may do this.
pub(crate) async fn authorize(
    call: &Call,
    permission: Permission,
    headers: &HeaderMap,
) -> Result<Authorized, Refused> {
    authorize_token(call, permission, bearer(headers)).await
}

/// As [`authorize`], for a token that came otherwise.
pub(crate) async fn authorize_token(
    call: &Call,
    permission: Permission,
    token: Option<&str>,
) -> Result<Authorized, Refused> {
    let target = match permission.level() {
        identity::Level::Cluster => identity::Scope::Cluster,
        identity::Level::Tenant => identity::Scope::Tenant(call.tenant.name.clone()),
    };
    let who = identify(call, &target, token).await?;
    who.allows(permission, &target).map_err(|error| {
        tracing::info!(tenant = %call.tenant.name, who = who.subject(), %error, "forbidden");
        Refused::new(Code::AdminForbidden, format!("{error}."))
    })
}

/// Who sends this token, or has the certificate of the connection, as the target knows them.
pub(crate) async fn identify(
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
    let asked = Asked { target, certificate: call.certificate.as_deref(), now: inner.now_s() };
    let authenticator = inner.admission.authenticator();
    let found = authenticator.authenticate(&own, Presented { token }, asked).await;
    found.map_err(|error| {
        // Why is for the log: what is wrong with a token helps whoever guesses.
        tracing::info!(tenant = %call.tenant.name, code = error.code(), %error, "not an admin");
        match error.status() {
            503 => Refused::new(Code::StoreUnavailable, "The keys of the token's issuer cannot be had now."),
            _ => Refused::plain(Code::AdminUnauthenticated),
        }
    })
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
    let client = request.extensions().get::<Client>().map(|Client(address)| *address);
    if let Some(class) = class
        && let Err(refused) = broker.inner().admission.admit(&tenant, class, client)
    {
        broker.inner().metrics.limited(class);
        return refused.into_response();
    }
    let permission = match needs {
        Needs::Nothing => return next.run(request).await,
        Needs::Permission(permission) => permission,
    };
    let certificate = certificate(request.headers(), request.extensions());
    let call = Call { broker: broker.clone(), tenant, certificate };
    match authorize(&call, permission, request.headers()).await {
        Ok(authorized) => {
            request.extensions_mut().insert(Arc::new(authorized));
            next.run(request).await
        }
        Err(refused) => refused.into_response(),
    }
}

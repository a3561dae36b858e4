//! Data keys wrapped by keys that stay here, in the words of Hadoop's KMS and of Vault's transit engine.
//!
//! An attested guest presents its attestation token where these clients present theirs, and the resource policies decide
//! about it as about a resource, with the plugin `wrapping` and the key's name as the path. An admin's token manages keys.
//! INVARIANT: what a guest does with a key is in the journal before the answer leaves. Left out: what the calls mean,
//! which is `server/wrapping`'s.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use coffer_core_protocol::error::{Cause, Code};
use coffer_core_secret::SecretBytes;
use coffer_server_identity::{Authorized, Permission as Right};
use coffer_server_limits::Class;
use coffer_server_wrapping::{
    Answer as Wrapped, KeyName, Moment, Permission, Request as Asking, hadoop, transit,
};

use crate::broker::Broker;
use crate::call::{Answer, Call, bearer, blocking, body};
use crate::gate::{self, Needs};
use crate::journal::NotWritten;
use crate::policies::Asked;
use crate::release::{Asker, Outcome, ROUNDS};
use crate::reply::Refused;
use crate::tenancy::InForce;

/// The plugin's name, for policies.
const PLUGIN: &str = "wrapping";
const MAX_BODY: usize = 4 << 20;
/// Where Vault's clients send their token.
const VAULT_TOKEN: &str = "x-vault-token";
/// Where Hadoop's clients send theirs, in the query.
const HADOOP_TOKEN: &str = "delegation";

/// Where the two dialects are: Hadoop's, whose clients also probe the root of its calls, and Vault's.
const PATHS: [&str; 3] = ["/kms/v1/", "/kms/v1/{*path}", "/v1/{*path}"];

pub(crate) fn router(broker: &Broker) -> Router<Broker> {
    let passing =
        || middleware::from_fn_with_state((broker.clone(), Needs::Nothing, Some(Class::Release)), gate::pass);
    Router::new()
        .route(PATHS[0], any(hadoop_call).layer(passing()))
        .route(PATHS[1], any(hadoop_call).layer(passing()))
        .route(PATHS[2], any(transit_call).layer(passing()))
}

async fn hadoop_call(call: Call, request: Request) -> Answer {
    answer(call, request, Dialect::Hadoop).await
}

async fn transit_call(call: Call, request: Request) -> Answer {
    answer(call, request, Dialect::Transit).await
}

#[derive(Clone, Copy)]
enum Dialect {
    Hadoop,
    Transit,
}

/// Who calls: an admin, a guest, or nobody that is known.
enum Caller {
    Admin(Vec<Arc<Authorized>>),
    Guest(Box<Asker>),
    Nobody,
}

/// What the gate said of one call, for the journal.
#[derive(Default)]
struct Said {
    /// The keys that a guest was permitted to use.
    permitted: Vec<String>,
    /// Why not, and of which key.
    refused: Option<(String, Vec<Cause>)>,
}

fn token(headers: &HeaderMap, query: Option<&str>, dialect: Dialect) -> Option<String> {
    let sent = bearer(headers).map(str::to_owned);
    let own = || match dialect {
        Dialect::Transit => headers.get(VAULT_TOKEN)?.to_str().ok().map(str::to_owned),
        Dialect::Hadoop => {
            let mut pairs = form_urlencoded::parse(query?.as_bytes());
            pairs.find(|(name, _)| name == HADOOP_TOKEN).map(|(_, value)| value.into_owned())
        }
    };
    sent.or_else(own)
}

async fn caller(call: &Call, token: Option<&str>) -> Caller {
    let Some(token) = token else { return Caller::Nobody };
    if let Ok(asker) = Asker::by_token(call, token).await {
        return Caller::Guest(Box::new(asker));
    }
    let mut rights = Vec::new();
    for right in [Right::ManageKeys, Right::UseKeys, Right::ReadNames] {
        if let Ok(authorized) = gate::authorize_token(call, right, Some(token)).await {
            rights.push(Arc::new(authorized));
        }
    }
    match rights.is_empty() {
        true => Caller::Nobody,
        false => Caller::Admin(rights),
    }
}

async fn answer(call: Call, request: Request, dialect: Dialect) -> Answer {
    let (method, uri) = (request.method().to_string(), request.uri().clone());
    let token = token(request.headers(), uri.query(), dialect);
    let who = Arc::new(caller(&call, token.as_deref()).await);
    // Nobody's body is read to be thrown away: what is open has none.
    let limit = if matches!(*who, Caller::Nobody) { 0 } else { MAX_BODY };
    let body = SecretBytes::copy_of(&body(request, limit).await?);
    let body = Arc::new(body);
    for _ in 0..ROUNDS {
        let in_force = call.in_force();
        let place = call.inner().deciding.enter(&call.tenant.name, &in_force.quotas).await?;
        let (own, known, sent) = (call.clone(), who.clone(), body.clone());
        let (method, uri, at) = (method.clone(), uri.clone(), in_force.clone());
        let work = move || {
            let keyring = &own.tenant.keyring;
            let asking = Asking {
                method: &method,
                path: uri.path(),
                query: uri.query().unwrap_or_default(),
                body: sent.expose(),
            };
            let mut said = Said::default();
            let now = Moment(u64::try_from(own.inner().now().as_millisecond()).unwrap_or(0));
            let gate = |permission, keys: &[&KeyName]| permits(&known, &at, permission, keys, &mut said);
            let wrapped = match dialect {
                Dialect::Hadoop => hadoop::answer(&asking, keyring, now, gate),
                Dialect::Transit => {
                    let (name, policies) = shown(&known);
                    let caller = transit::Caller { display_name: &name, policies: &policies, ttl_seconds: 0 };
                    transit::answer(&asking, keyring, &caller, now, gate)
                }
            };
            drop(place);
            (wrapped, said)
        };
        let (wrapped, said) = blocking(work).await?;
        // Nothing is refused on what another replica has replaced meanwhile.
        if wrapped.status >= 300 && !call.is_current(&in_force).await? {
            call.reload().await?;
            continue;
        }
        match write(&call, &in_force, &who, &wrapped, &said).await {
            Ok(()) => return Ok(response(wrapped)),
            Err(NotWritten::Stale) => call.reload().await?,
            Err(not) => return Err(Refused::plain(not.into())),
        }
    }
    Err(Refused::plain(Code::ChangedMeanwhile))
}

fn shown(who: &Caller) -> (String, Vec<String>) {
    match who {
        Caller::Admin(rights) => {
            let name = rights.first().map(|right| right.who().subject().to_owned()).unwrap_or_default();
            (name, rights.iter().map(|right| right.permission().name().to_owned()).collect())
        }
        Caller::Guest(asker) => (format!("attempt {}", asker.attempt), vec!["guest".to_owned()]),
        Caller::Nobody => (String::new(), Vec::new()),
    }
}

/// Whether the caller may. What it says of a guest is written down by [`write`].
fn permits(
    who: &Caller,
    in_force: &InForce,
    permission: Permission,
    keys: &[&KeyName],
    said: &mut Said,
) -> bool {
    let right = match permission {
        Permission::Open => return true,
        Permission::Read => Right::ReadNames,
        Permission::Wrap | Permission::Unwrap => Right::UseKeys,
        Permission::Manage => Right::ManageKeys,
    };
    match who {
        Caller::Nobody => false,
        Caller::Admin(rights) => rights.iter().any(|known| known.permission() == right),
        Caller::Guest(asker) => {
            if matches!(permission, Permission::Manage) || keys.is_empty() {
                return false;
            }
            for key in keys {
                let asked =
                    Asked { plugin: PLUGIN, path: key.as_str(), method: permission.word(), tee: asker.tee() };
                match asker.decide(in_force, &asked, &Asker::data(&asked)) {
                    Ok(causes) if causes.is_empty() => said.permitted.push(key.as_str().to_owned()),
                    Ok(causes) => {
                        said.refused = Some((key.as_str().to_owned(), causes));
                        return false;
                    }
                    Err(_) => return false,
                }
            }
            true
        }
    }
}

async fn write(
    call: &Call,
    in_force: &InForce,
    who: &Caller,
    wrapped: &Wrapped,
    said: &Said,
) -> Result<(), NotWritten> {
    if let (Caller::Admin(rights), true) = (who, wrapped.status < 300)
        && let Some(right) = rights.first()
    {
        tracing::info!(tenant = %call.tenant.name, by = right.who().subject(), "wrapping key used or changed");
    }
    let Caller::Guest(asker) = who else { return Ok(()) };
    if let Some((key, causes)) = &said.refused {
        return asker.write(call, &format!("{PLUGIN}/{key}"), Outcome::Refused(causes)).await;
    }
    if wrapped.status >= 300 {
        return Ok(());
    }
    for key in &said.permitted {
        let outcome = Outcome::Released { revision: in_force.revision, version: None };
        asker.write(call, &format!("{PLUGIN}/{key}"), outcome).await?;
    }
    Ok(())
}

fn response(mut wrapped: Wrapped) -> Response {
    let status = StatusCode::from_u16(wrapped.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, Body::from(std::mem::take(&mut *wrapped.body))).into_response();
    if let Some(kind) = wrapped.content_type {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    if let Some(place) = wrapped.location.and_then(|place| HeaderValue::from_str(&place).ok()) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

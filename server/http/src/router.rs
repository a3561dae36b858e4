//! Which call goes where: first to its tenant, then through the gate, then to its handler; with bounds for all of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use coffer_core_admin::TenantName;
use coffer_core_protocol::error::Code;
use tracing::Instrument;

use crate::broker::Broker;
use crate::call::{blocking, failed};
use crate::gate;
use crate::openapi;
use crate::reply::Refused;
use crate::routes::ROUTES;
use crate::tenancy::Tenant;

/// No call takes longer, from its head to the end of its body and work.
const CALL_TIME: Duration = Duration::from_secs(30);
/// Before a tenant's name in the path.
const TENANT_PREFIX: &str = "/t/";

impl Broker {
    /// The calls of the broker, without TLS around them.
    pub fn router(&self) -> Router {
        self.inner().openapi.get_or_init(openapi::text);
        let mut methods: BTreeMap<&str, MethodRouter<Broker>> = BTreeMap::new();
        for route in ROUTES {
            let needs = (self.clone(), route.needs, route.class);
            let own = (route.handler)().route_layer(middleware::from_fn_with_state(needs, gate::pass));
            let merged = match methods.remove(route.path) {
                Some(others) => others.merge(own),
                None => own,
            };
            methods.insert(route.path, merged);
        }
        let calls = methods.into_iter().fold(Router::new(), |router, (path, own)| router.route(path, own));
        let calls = calls
            .merge(crate::wrapping::router(self))
            .fallback(|| async { Refused::plain(Code::RouteUnknown) })
            .method_not_allowed_fallback(|| async { Refused::plain(Code::RouteUnknown) })
            .layer(middleware::from_fn_with_state(self.clone(), counted))
            .with_state(self.clone());
        // The tenant's part of the path is taken off before calls are looked up, so that there is one table for all.
        Router::new()
            .fallback_service(calls)
            .layer(middleware::from_fn_with_state(self.clone(), to_tenant))
            .layer(middleware::from_fn(bounded))
    }
}

async fn bounded(request: Request, next: Next) -> Response {
    let answer = tokio::time::timeout(CALL_TIME, next.run(request)).await;
    let mut response = answer.unwrap_or_else(|_| StatusCode::REQUEST_TIMEOUT.into_response());
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    response
}

/// Counts the call by what the table calls it, which bounds the labels.
async fn counted(
    State(broker): State<Broker>,
    path: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let known = path.as_ref().and_then(|path| ROUTES.iter().find(|route| route.path == path.as_str()));
    let method = request.method().clone();
    let name = known.map_or("other", |route| route.path);
    let tenant = request.extensions().get::<Arc<Tenant>>().map(|tenant| tenant.name.to_string());
    let span = tracing::info_span!("call", route = name, %method, tenant, status = tracing::field::Empty);
    let response = next.run(request).instrument(span.clone()).await;
    span.record("status", response.status().as_u16());
    broker.inner().metrics.called(name, &method, response.status(), begun.elapsed());
    response
}

async fn to_tenant(State(broker): State<Broker>, mut request: Request, next: Next) -> Response {
    match tenant_of(&broker, &mut request).await {
        Ok(tenant) => {
            request.extensions_mut().insert(tenant);
            next.run(request).await
        }
        Err(refused) => refused.into_response(),
    }
}

/// The tenant that a request is for: by its path, else by its host, else the default one.
async fn tenant_of(broker: &Broker, request: &mut Request) -> Result<Arc<Tenant>, Refused> {
    let inner = broker.inner();
    let name = match request.uri().path().strip_prefix(TENANT_PREFIX) {
        Some(rest) => {
            let (name, path) = rest.split_once('/').ok_or(Code::RouteUnknown)?;
            let name: TenantName = name.parse().map_err(|_| Code::TenantUnknown)?;
            let uri = without_prefix(request.uri(), path).ok_or(Code::RouteUnknown)?;
            *request.uri_mut() = uri;
            name
        }
        None => host(request).and_then(|host| inner.tenants.of_host(host)).unwrap_or_default(),
    };
    if let Some(tenant) = inner.tenants.get(&name) {
        return Ok(tenant);
    }
    let own = broker.clone();
    let found = blocking(move || own.inner().tenant(&name)).await?.map_err(failed)?;
    Ok(found.ok_or(Code::TenantUnknown)?)
}

/// The same address with another path, which is written without its first `/`.
fn without_prefix(uri: &Uri, path: &str) -> Option<Uri> {
    let text = match uri.query() {
        Some(query) => format!("/{path}?{query}"),
        None => format!("/{path}"),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(text.parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// The host name that the client used, without its port.
fn host(request: &Request) -> Option<&str> {
    let host = match request.uri().host() {
        Some(host) => host,
        None => request.headers().get(header::HOST)?.to_str().ok()?,
    };
    Some(
        host.rsplit_once(':')
            .map_or(host, |(name, port)| if port.bytes().all(|b| b.is_ascii_digit()) { name } else { host }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_s_prefix_is_taken_off_and_the_query_stays() {
        for (uri, path, expected) in [
            ("/t/a/kbs/v0/auth", "kbs/v0/auth", "/kbs/v0/auth"),
            ("/t/a/x?y=1", "x", "/x?y=1"),
            ("https://h:1/t/a/x?y=1", "x", "https://h:1/x?y=1"),
        ] {
            let uri: Uri = uri.parse().unwrap();
            assert_eq!(without_prefix(&uri, path).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn no_call_stands_twice_in_the_table() {
        let mut seen = std::collections::BTreeSet::new();
        for route in ROUTES {
            assert!(seen.insert((route.method, route.path)), "{} {}", route.method, route.path);
        }
    }
}

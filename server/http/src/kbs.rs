//! The calls of guests: the KBS protocol.

mod attest;
mod auth;
mod resource;

use axum::Router;
use axum::http::{HeaderMap, header};
use axum::routing::{any, get, post};
use coffer_core_protocol::error::Code;
use coffer_core_protocol::wire::COOKIE;

use crate::admin;
use crate::broker::Broker;
use crate::reply::Refused;

pub(crate) fn router(broker: &Broker) -> Router<Broker> {
    Router::new()
        .route("/kbs/v0/auth", post(auth::auth))
        .route("/kbs/v0/attest", post(attest::attest))
        .route(
            "/kbs/v0/resource/{repository}/{kind}/{tag}",
            get(resource::get).merge(admin::resource_routes(broker)),
        )
        .route("/kbs/v0/{plugin}/{*path}", any(|| async { Refused::plain(Code::PluginUnsupported) }))
}

/// The challenge cookie, if there is one.
fn cookie(headers: &HeaderMap) -> Option<&str> {
    let values = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|text| text.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

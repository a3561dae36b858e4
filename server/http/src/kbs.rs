//! The calls of guests: the KBS protocol.

pub(crate) mod attest;
pub(crate) mod auth;
pub(crate) mod plugin;
pub(crate) mod resource;

use axum::http::{HeaderMap, header};
use coffer_core_protocol::wire::COOKIE;

/// The challenge cookie, if there is one.
pub(crate) fn cookie(headers: &HeaderMap) -> Option<&str> {
    let values = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|text| text.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

//! Plugins: what is asked of them, what they answer, and both ends of the connection.

mod client;
mod error;

use std::collections::BTreeMap;

use coffer_core_secret::SecretBytes;

use crate::backend::{BackendError, BoxFuture};
use crate::wire::plugin as wire;

pub use client::{PluginClient, PluginConfig};
pub use error::{PluginConfigError, PluginError};

/// The longest media type that is passed on.
const MAX_MEDIA_TYPE: usize = 128;

/// An HTTP request under the plugin's name.
pub struct PluginCall {
    /// As in `GET`.
    pub method: String,
    /// Segments after the plugin's name.
    pub path: Vec<String>,
    /// The query's members.
    pub query: BTreeMap<String, String>,
    /// The body.
    pub body: SecretBytes,
}

/// The plugin's answer.
pub struct PluginReply {
    /// An HTTP status: 2xx, or 4xx and 5xx but never 401 and 407.
    pub status: u16,
    /// A media type, if the plugin names one.
    pub content_type: Option<String>,
    /// The body.
    pub body: SecretBytes,
}

/// A plugin, for those who write one in Rust: give it to [`crate::Services::plugin`] and serve it.
pub trait Plugin: Send + Sync {
    /// Answers a request whose caller the broker has checked.
    fn handle(&self, call: PluginCall) -> BoxFuture<'_, Result<PluginReply, BackendError>>;

    /// Whether the request is for admins. If not, it is for attested guests.
    fn requires_admin<'a>(&'a self, call: &'a PluginCall) -> BoxFuture<'a, Result<bool, BackendError>>;

    /// Whether the answer must be encrypted to the guest's key.
    fn needs_encryption<'a>(&'a self, call: &'a PluginCall) -> BoxFuture<'a, Result<bool, BackendError>>;
}

impl PluginCall {
    pub(crate) fn from_wire(message: wire::PluginRequest) -> Self {
        let wire::PluginRequest { body, query, path, method } = message;
        Self { method, path, query, body: SecretBytes::new(body) }
    }

    fn to_wire(&self) -> wire::PluginRequest {
        wire::PluginRequest {
            body: self.body.expose().clone(),
            query: self.query.clone(),
            path: self.path.clone(),
            method: self.method.clone(),
        }
    }
}

impl PluginReply {
    /// An answer of bytes.
    pub fn ok(body: SecretBytes) -> Self {
        Self { status: 200, content_type: None, body }
    }

    pub(crate) fn into_wire(self) -> wire::PluginResponse {
        wire::PluginResponse {
            body: self.body.expose().clone(),
            status_code: self.status.into(),
            content_type: self.content_type.unwrap_or_default(),
        }
    }

    /// The plugin chooses the status, within what a broker may say. A client of KBS answers 401 by attesting again,
    /// so it is the broker's alone. The error is the number that is no such status.
    fn from_wire(message: wire::PluginResponse) -> Result<Self, i32> {
        let wire::PluginResponse { body, status_code, content_type } = message;
        let body = SecretBytes::new(body);
        let status = match status_code {
            0 => 200,
            401 | 407 => 403,
            200..=299 | 400..=599 => u16::try_from(status_code).map_err(|_| status_code)?,
            found => return Err(found),
        };
        let printable = |text: &String| {
            (1..=MAX_MEDIA_TYPE).contains(&text.len())
                && text.contains('/')
                && text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
        };
        Ok(Self { status, content_type: Some(content_type).filter(printable), body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status_code: i32, content_type: &str) -> Result<PluginReply, i32> {
        PluginReply::from_wire(wire::PluginResponse {
            body: b"b".to_vec(),
            status_code,
            content_type: content_type.into(),
        })
    }

    #[test]
    fn a_plugins_status_is_kept_within_bounds() {
        for (given, expected) in [
            (0, 200),
            (200, 200),
            (204, 204),
            (404, 404),
            (429, 429),
            (503, 503),
            (599, 599),
            (401, 403),
            (407, 403),
        ] {
            assert_eq!(reply(given, "").ok().map(|reply| reply.status), Some(expected), "{given}");
        }
        for given in [-1, 1, 100, 199, 300, 302, 399, 600, i32::MAX, i32::MIN] {
            assert_eq!(reply(given, "").err(), Some(given));
        }
    }

    #[test]
    fn only_a_printable_media_type_is_passed_on() {
        let of = |text: &str| reply(0, text).ok().and_then(|reply| reply.content_type);
        assert_eq!(of("application/json; charset=utf-8").as_deref(), Some("application/json; charset=utf-8"));
        for text in ["", "json", "a/b\r\nset-cookie: x", "a/\u{e4}", &format!("a/{}", "b".repeat(127))] {
            assert_eq!(of(text), None, "{text:?}");
        }
    }
}

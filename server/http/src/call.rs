//! What every call has: a tenant, a bounded body, a bearer token, work off the serving threads, and an answer.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use coffer_core_protocol::error::Code;
use coffer_core_protocol::wire::COOKIE;
use coffer_server_identity::{Authorized, ClientCertificate};
use coffer_server_store::{Scope, StoreError};
use http_body_util::BodyExt;

use crate::broker::{Broker, Inner};
use crate::error::OpenError;
use crate::reply::Refused;
use crate::tenancy::{InForce, Tenant};

/// How much of a body that is too long is read and thrown away.
const OVERRUN: usize = 16 << 20;

/// What handlers give.
pub(crate) type Answer = Result<Response, Refused>;

/// Where a call comes from: by the connection, or by the word of a proxy that is trusted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client(pub(crate) IpAddr);

/// The client certificate of the connection, which TLS verified.
#[derive(Clone, Debug)]
pub(crate) struct Shown(pub(crate) Arc<ClientCertificate>);

/// A call to one tenant of the broker. The router puts the tenant there before any handler.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) broker: Broker,
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) certificate: Option<Arc<ClientCertificate>>,
}

impl Call {
    pub(crate) fn inner(&self) -> &Inner {
        self.broker.inner()
    }

    pub(crate) fn rows(&self) -> &Scope {
        &self.tenant.rows
    }

    pub(crate) fn in_force(&self) -> Arc<InForce> {
        self.tenant.in_force()
    }

    /// Work with the tenant's rows; off the threads that serve where the store is on a network.
    pub(crate) async fn stored<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Scope) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Refused> {
        if !self.inner().store().is_remote() {
            return Ok(work(self.rows())?);
        }
        let rows = self.rows().clone();
        Ok(blocking(move || work(&rows)).await??)
    }

    /// Whether no other replica has changed what this is, by now.
    pub(crate) async fn is_current(&self, in_force: &InForce) -> Result<bool, Refused> {
        if !self.inner().store().is_shared() {
            return Ok(true);
        }
        let revision = self.stored(Scope::revision).await?;
        Ok(revision == in_force.revision)
    }

    /// Reads what is in force anew.
    pub(crate) async fn reload(&self) -> Result<(), Refused> {
        let call = self.clone();
        let reload = move || call.tenant.reload(&call.inner().loader, call.inner().now());
        blocking(reload).await?.map_err(failed)
    }
}

impl FromRequestParts<Broker> for Call {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, broker: &Broker) -> Result<Self, Refused> {
        let tenant = parts.extensions.get::<Arc<Tenant>>().cloned().ok_or(Code::Internal)?;
        let certificate = certificate(&parts.headers, &parts.extensions);
        Ok(Self { broker: broker.clone(), tenant, certificate })
    }
}

/// The client certificate that counts for this call.
///
/// A browser shows a certificate whichever page makes it call, and says with `Origin` that a page does. Only who sends a
/// token with it means it.
pub(crate) fn certificate(headers: &HeaderMap, extensions: &Extensions) -> Option<Arc<ClientCertificate>> {
    let shown = extensions.get::<Shown>().map(|Shown(certificate)| certificate.clone());
    shown.filter(|_| bearer(headers).is_some() || !headers.contains_key(header::ORIGIN))
}

/// A call of an admin who may make it. Only the gate makes the proof.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) call: Call,
    pub(crate) who: Arc<Authorized>,
}

impl std::ops::Deref for Admin {
    type Target = Call;

    fn deref(&self) -> &Call {
        &self.call
    }
}

impl FromRequestParts<Broker> for Admin {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, broker: &Broker) -> Result<Self, Refused> {
        let who = parts.extensions.get::<Arc<Authorized>>().cloned().ok_or(Code::AdminUnauthenticated)?;
        Ok(Self { call: Call::from_request_parts(parts, broker).await?, who })
    }
}

impl Admin {
    /// One change of the tenant at a time, stored and then in force; `false` means that there was nothing to change.
    pub(crate) async fn change(
        &self,
        what: &'static str,
        name: String,
        work: impl FnOnce(&Scope) -> Result<bool, OpenError> + Send + 'static,
    ) -> Answer {
        let _changing = self.tenant.changing.lock().await;
        let call = self.call.clone();
        let changed = blocking(move || {
            let found = work(call.rows())?;
            call.tenant.reload(&call.inner().loader, call.inner().now())?;
            Ok::<_, OpenError>(found)
        });
        match changed.await?.map_err(failed)? {
            true => {
                self.told(what, &name);
                Ok(StatusCode::OK.into_response())
            }
            false => Err(Refused::missing(format!("There is no {what} of that name."))),
        }
    }

    /// A line of the log about what an admin changed.
    pub(crate) fn told(&self, what: &'static str, name: &str) {
        tracing::info!(tenant = %self.tenant.name, by = self.who.who().subject(), what, name, "changed");
    }
}

pub(crate) fn failed(error: OpenError) -> Refused {
    if let OpenError::Store(error) = error {
        return Refused::from(error);
    }
    tracing::error!(%error, "the store failed");
    Refused::plain(Code::StoreUnavailable)
}

pub(crate) fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|error| Refused::new(Code::Malformed, format!("{error}.")))
}

/// Reads a body of bounded length.
pub(crate) async fn body(request: Request, limit: usize) -> Result<Bytes, Refused> {
    let mut body = request.into_body();
    let mut read = Vec::new();
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let cut = |_| Refused::new(Code::Malformed, "The request's body could not be read to its end.");
        let Ok(data) = frame.map_err(cut)?.into_data() else { continue };
        length = length.saturating_add(data.len());
        match length {
            _ if length <= limit => read.extend_from_slice(&data),
            // Read on for a while without keeping it: a client that is still sending would not see the answer.
            _ if length <= limit.saturating_add(OVERRUN) => read = Vec::new(),
            _ => break,
        }
    }
    match length <= limit {
        true => Ok(read.into()),
        false => {
            Err(Refused::new(Code::TooLarge, format!("The request's body is longer than {limit} bytes.")))
        }
    }
}

/// The bearer token, if there is one.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The challenge cookie, if there is one.
pub(crate) fn cookie(headers: &HeaderMap) -> Option<&str> {
    let values = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|text| text.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

/// Work that waits for the disk, off the threads that serve.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refused> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a call failed");
        Refused::plain(Code::Internal)
    })
}

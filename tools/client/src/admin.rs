//! Admin calls: how they are made, and those about attempts and trust anchors. Each other subject is a file.
//!
//! A client speaks to one tenant, by the path `/t/{tenant}`; without one to the tenant of the address, which is
//! `default` unless the host's name is a tenant's. Calls about the cluster have plain paths always.

mod admins;
mod cluster;
mod collateral;
mod policies;
mod references;
mod resources;
mod revocations;
mod standards;

use std::path::Path;

use coffer_core_admin::{
    Attempt, AttemptList, AttemptSummary, Info, KeptEvidence, NamedTrustAnchor, PREFIX, TenantName,
    TrustAnchor, TrustAnchorList,
};
use reqwest::{Method, RequestBuilder};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::ClientError;
use crate::http::Server;
use crate::token::{AdminKey, Bearer};

/// A broker, seen by one of its admins.
pub struct AdminClient {
    server: Server,
    bearer: Bearer,
    /// What goes before the path of a tenant's call: nothing, or `/t/{tenant}`.
    tenant: String,
}

impl AdminClient {
    /// `url` is `https://host:port`; `ca_pem` the broker's own authority; `admin_key_pem` a PKCS#8 Ed25519 key.
    pub fn new(url: &str, ca_pem: &str, admin_key_pem: &str) -> Result<Self, ClientError> {
        let bearer = Bearer::Key(AdminKey::from_pem(admin_key_pem)?);
        Ok(Self { server: Server::pinned(url, ca_pem)?, bearer, tenant: String::new() })
    }

    /// With tokens of an OpenID issuer. The file is read at each call, so that another program can renew it.
    pub fn with_token_file(url: &str, ca_pem: &str, file: &Path) -> Result<Self, ClientError> {
        let bearer = Bearer::File(file.to_path_buf());
        Ok(Self { server: Server::pinned(url, ca_pem)?, bearer, tenant: String::new() })
    }

    /// The same admin at this tenant.
    #[must_use]
    pub fn with_tenant(self, tenant: &TenantName) -> Self {
        Self { tenant: format!("/t/{tenant}"), ..self }
    }

    /// Without TLS, for tests of paths and headers.
    #[cfg(test)]
    fn loopback(url: &str, bearer: Bearer) -> Result<Self, ClientError> {
        Ok(Self { server: Server::loopback(url)?, bearer, tenant: String::new() })
    }

    /// Trusts a root, or replaces the root of that name.
    pub async fn put_trust_anchor(&self, name: &str, anchor: &TrustAnchor) -> Result<(), ClientError> {
        self.put(&named("trust-anchors", name), anchor).await
    }

    /// Distrusts a root.
    pub async fn remove_trust_anchor(&self, name: &str) -> Result<(), ClientError> {
        self.delete(&named("trust-anchors", name)).await
    }

    /// The trusted roots.
    pub async fn list_trust_anchors(&self) -> Result<Vec<NamedTrustAnchor>, ClientError> {
        Ok(self.get::<TrustAnchorList>("/trust-anchors").await?.trust_anchors)
    }

    /// The last attestations, newest first.
    pub async fn attempts(&self) -> Result<Vec<AttemptSummary>, ClientError> {
        Ok(self.get::<AttemptList>("/attempts").await?.attempts)
    }

    /// One attestation with its verdict tree.
    pub async fn attempt(&self, id: &str) -> Result<Attempt, ClientError> {
        self.get(&named("attempts", id)).await
    }

    /// What an attestation was made with, where the broker keeps it.
    pub async fn attempt_evidence(&self, id: &str) -> Result<KeptEvidence, ClientError> {
        self.get(&format!("{}/evidence", named("attempts", id))).await
    }

    /// What the broker is. A cheap way to learn whether it answers and takes the key.
    pub async fn info(&self) -> Result<Info, ClientError> {
        self.get("/info").await
    }

    /// A call of the tenant, wherever its path begins.
    fn call(&self, method: Method, path: &str) -> Result<RequestBuilder, ClientError> {
        self.signed(method, &format!("{}{path}", self.tenant))
    }

    fn signed(&self, method: Method, path: &str) -> Result<RequestBuilder, ClientError> {
        let token = self.bearer.token(jiff::Timestamp::now().as_second())?;
        Ok(self.server.request(method, path).bearer_auth(token))
    }

    /// A call of the tenant under `/coffer/v1`.
    fn owned(&self, method: Method, path: &str) -> Result<RequestBuilder, ClientError> {
        self.call(method, &format!("{PREFIX}{path}"))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.read(path, self.owned(Method::GET, path)?).await
    }

    async fn post<T: Serialize, A: DeserializeOwned>(&self, path: &str, body: &T) -> Result<A, ClientError> {
        self.read(path, self.owned(Method::POST, path)?.json(body)).await
    }

    async fn read<A: DeserializeOwned>(&self, path: &str, request: RequestBuilder) -> Result<A, ClientError> {
        let answer = self.server.send(request).await?;
        let not_understood =
            |error: serde_json::Error| ClientError::Answer { what: path.to_string(), why: error.to_string() };
        serde_json::from_slice(&answer.body).map_err(not_understood)
    }

    async fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.done(self.owned(Method::DELETE, path)?).await
    }

    async fn put<T: Serialize>(&self, path: &str, body: &T) -> Result<(), ClientError> {
        self.done(self.owned(Method::PUT, path)?.json(body)).await
    }

    /// A call whose answer says nothing more.
    async fn done(&self, request: RequestBuilder) -> Result<(), ClientError> {
        self.server.send(request).await?;
        Ok(())
    }
}

/// A path with one segment from the caller, percent-encoded (RFC 3986, section 2.1).
fn named(collection: &str, name: &str) -> String {
    format!("/{collection}/{}", encoded(name))
}

/// Text in a path or a query.
fn encoded(text: &str) -> String {
    let mut all = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => all.push(char::from(byte)),
            // A dot is unreserved, but a segment of dots alone would be taken away by the client.
            _ => all.push_str(&format!("%{byte:02X}")),
        }
    }
    all
}

/// A query of what is there; empty if nothing is.
fn query(members: &[(&str, Option<String>)]) -> String {
    let present = members
        .iter()
        .filter_map(|(name, value)| value.as_ref().map(|value| format!("{name}={}", encoded(value))));
    let all = present.collect::<Vec<_>>().join("&");
    if all.is_empty() { all } else { format!("?{all}") }
}

#[cfg(test)]
mod tests;

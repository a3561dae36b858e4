//! Secrets: stored or made on terms, listed, revoked, removed. No call gives a value back.

use bytes::Bytes;
use coffer_core_admin::{
    GenerateResource, ResourceInfo, ResourceList, ResourceStored, ResourceTerms, ResourceVersions,
    SetResourceState,
};
use coffer_core_protocol::counter::Counter;
use coffer_core_protocol::uri::ResourcePath;
use coffer_core_secret::SecretBytes;
use reqwest::Method;

use super::{AdminClient, query};
use crate::error::ClientError;

/// How many names a page of the list has.
const PAGE: usize = 1000;
const BYTES: &str = "application/octet-stream";

/// A secret on its way out; wiped when the request is done.
struct Outgoing(SecretBytes);

impl AsRef<[u8]> for Outgoing {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

impl AdminClient {
    /// Stores a secret at `repository/type/tag`, or replaces it, on no terms. Brokers of others know this call too.
    pub async fn put_resource(&self, path: &str, value: SecretBytes) -> Result<(), ClientError> {
        let request = self.call(Method::POST, &format!("/kbs/v0/resource/{}", resource(path)?))?;
        self.done(request.header("content-type", BYTES).body(Bytes::from_owner(Outgoing(value)))).await
    }

    /// Stores a secret on terms, and says which version it is now.
    pub async fn put_resource_on(
        &self,
        path: &str,
        value: SecretBytes,
        terms: &ResourceTerms,
    ) -> Result<ResourceStored, ClientError> {
        let number = |number: Option<u64>| number.map(|number| number.to_string());
        let query = query(&[
            ("expires_at", terms.expires_at.clone()),
            ("release_limit", number(terms.release_limit)),
            ("if_version", number(terms.if_version)),
        ]);
        let path = of(path)?;
        let request = self.owned(Method::PUT, &format!("{path}{query}"))?;
        let request = request.header("content-type", BYTES).body(Bytes::from_owner(Outgoing(value)));
        self.read(&path, request).await
    }

    /// Has the broker make a key that no admin sees.
    pub async fn generate_resource(
        &self,
        path: &str,
        wanted: &GenerateResource,
    ) -> Result<ResourceStored, ClientError> {
        self.post(&format!("{}/generate", of(path)?), wanted).await
    }

    /// Says that a secret, or one version of it, is released to nobody, or again as policy says.
    pub async fn set_resource_state(&self, path: &str, state: &SetResourceState) -> Result<(), ClientError> {
        self.put(&format!("{}/state", of(path)?), state).await
    }

    /// Sets the counter of the volume whose key is at this path, also back: for a copy that was restored on purpose.
    pub async fn set_counter(&self, path: &str, counter: &Counter) -> Result<(), ClientError> {
        self.put(&format!("/counters/{}", resource(path)?), counter).await
    }

    /// Removes a secret and its versions.
    pub async fn delete_resource(&self, path: &str) -> Result<(), ClientError> {
        let request = self.call(Method::DELETE, &format!("/kbs/v0/resource/{}", resource(path)?))?;
        self.done(request).await
    }

    /// The names and terms of all secrets; never their values.
    pub async fn list_resources(&self) -> Result<Vec<ResourceInfo>, ClientError> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.resource_page(after.as_deref(), PAGE).await?;
            all.extend(page.resources);
            match page.next {
                None => return Ok(all),
                // Names are in order, so a page that does not go on would be asked for without an end.
                Some(next) if after.as_ref().is_some_and(|after| next <= *after) => {
                    let why = format!("the page after {next} begins where it did before");
                    return Err(ClientError::Answer { what: "/resources".to_string(), why });
                }
                next => after = next,
            }
        }
    }

    /// One page of the list, of the names after this one.
    pub async fn resource_page(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ResourceList, ClientError> {
        let query = query(&[("after", after.map(str::to_owned)), ("limit", Some(limit.to_string()))]);
        self.get(&format!("/resources{query}")).await
    }

    /// The versions of a secret that are kept, oldest first.
    pub async fn resource_versions(&self, path: &str) -> Result<ResourceVersions, ClientError> {
        self.get(&of(path)?).await
    }
}

fn of(path: &str) -> Result<String, ClientError> {
    Ok(format!("/resources/{}", resource(path)?))
}

fn resource(path: &str) -> Result<ResourcePath, ClientError> {
    path.parse().map_err(|error| ClientError::Path { found: path.to_string(), why: format!("{error}") })
}

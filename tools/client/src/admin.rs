//! Admin calls: resources, policies, reference values, trust anchors, attempts. What evidence is judged by and with is
//! in `standards` and `collateral`.

mod collateral;
mod standards;

use bytes::Bytes;
use coffer_core_admin::{
    Attempt, AttemptList, AttemptSummary, Info, KeptEvidence, NamedTrustAnchor, PREFIX, PolicyBody,
    PolicyList, ReferenceList, ResourceInfo, ResourceList, TrustAnchor, TrustAnchorList,
};
use coffer_core_protocol::uri::ResourcePath;
use coffer_core_secret::SecretBytes;
use reqwest::{Method, RequestBuilder};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::ClientError;
use crate::http::Server;
use crate::token::AdminKey;

/// A broker, seen by one of its admins.
pub struct AdminClient {
    server: Server,
    key: AdminKey,
}

/// A secret on its way out; wiped when the request is done.
struct Outgoing(SecretBytes);

impl AsRef<[u8]> for Outgoing {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

impl AdminClient {
    /// `url` is `https://host:port`; `ca_pem` the broker's own authority; `admin_key_pem` a PKCS#8 Ed25519 key.
    pub fn new(url: &str, ca_pem: &str, admin_key_pem: &str) -> Result<Self, ClientError> {
        Ok(Self { server: Server::pinned(url, ca_pem)?, key: AdminKey::from_pem(admin_key_pem)? })
    }

    /// The public half of the admin's key (32 bytes).
    pub fn public_key(&self) -> Vec<u8> {
        self.key.public()
    }

    /// Stores a secret at `repository/type/tag`, or replaces it.
    pub async fn put_resource(&self, path: &str, value: SecretBytes) -> Result<(), ClientError> {
        let request = self.call(Method::POST, &resource(path)?);
        let body = Bytes::from_owner(Outgoing(value));
        self.server.send(request.header("content-type", "application/octet-stream").body(body)).await?;
        Ok(())
    }

    /// Removes a secret.
    pub async fn delete_resource(&self, path: &str) -> Result<(), ClientError> {
        self.server.send(self.call(Method::DELETE, &resource(path)?)).await?;
        Ok(())
    }

    /// The names, sizes and versions of the secrets; never their values.
    pub async fn list_resources(&self) -> Result<Vec<ResourceInfo>, ClientError> {
        Ok(self.get::<ResourceList>("/resources").await?.resources)
    }

    /// Puts a policy in force; `resource` is the one that decides who gets resources.
    pub async fn put_policy(&self, name: &str, rego: &str) -> Result<(), ClientError> {
        self.put(&named("policies", name), &PolicyBody { rego: Some(rego.to_string()), preset: None }).await
    }

    /// Puts a built-in policy in force: `default` or `insecure-lab`.
    pub async fn use_preset(&self, name: &str, preset: &str) -> Result<(), ClientError> {
        self.put(&named("policies", name), &PolicyBody { rego: None, preset: Some(preset.to_string()) }).await
    }

    /// A policy's text, and the preset's name if it is one.
    pub async fn policy(&self, name: &str) -> Result<PolicyBody, ClientError> {
        self.get(&named("policies", name)).await
    }

    /// The policies' names, and the presets there are.
    pub async fn list_policies(&self) -> Result<PolicyList, ClientError> {
        self.get("/policies").await
    }

    /// Adds reference values in the JSON form of `core/launch`, or replaces those with the same `id`.
    pub async fn add_reference(&self, values: &Value) -> Result<(), ClientError> {
        let path = format!("{PREFIX}/reference-values");
        self.server.send(self.call(Method::POST, &path).json(values)).await?;
        Ok(())
    }

    /// All reference values.
    pub async fn list_references(&self) -> Result<Vec<Value>, ClientError> {
        Ok(self.get::<ReferenceList>("/reference-values").await?.reference_values)
    }

    /// Removes the reference values with this `id`.
    pub async fn remove_reference(&self, id: &str) -> Result<(), ClientError> {
        let path = format!("{PREFIX}{}", named("reference-values", id));
        self.server.send(self.call(Method::DELETE, &path)).await?;
        Ok(())
    }

    /// Trusts a root, or replaces the root of that name.
    pub async fn put_trust_anchor(&self, name: &str, anchor: &TrustAnchor) -> Result<(), ClientError> {
        self.put(&named("trust-anchors", name), anchor).await
    }

    /// Distrusts a root.
    pub async fn remove_trust_anchor(&self, name: &str) -> Result<(), ClientError> {
        let path = format!("{PREFIX}{}", named("trust-anchors", name));
        self.server.send(self.call(Method::DELETE, &path)).await?;
        Ok(())
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

    fn call(&self, method: Method, path: &str) -> RequestBuilder {
        let now = jiff::Timestamp::now().as_second();
        self.server.request(method, path).bearer_auth(self.key.token(now))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.read(path, self.call(Method::GET, &format!("{PREFIX}{path}"))).await
    }

    async fn post<T: Serialize, A: DeserializeOwned>(&self, path: &str, body: &T) -> Result<A, ClientError> {
        let request = self.call(Method::POST, &format!("{PREFIX}{path}")).json(body);
        self.read(path, request).await
    }

    async fn read<A: DeserializeOwned>(&self, path: &str, request: RequestBuilder) -> Result<A, ClientError> {
        let answer = self.server.send(request).await?;
        let not_understood =
            |error: serde_json::Error| ClientError::Answer { what: path.to_string(), why: error.to_string() };
        serde_json::from_slice(&answer.body).map_err(not_understood)
    }

    async fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.server.send(self.call(Method::DELETE, &format!("{PREFIX}{path}"))).await?;
        Ok(())
    }

    async fn put<T: Serialize>(&self, path: &str, body: &T) -> Result<(), ClientError> {
        self.server.send(self.call(Method::PUT, &format!("{PREFIX}{path}")).json(body)).await?;
        Ok(())
    }
}

fn resource(path: &str) -> Result<String, ClientError> {
    let wrong = |why: String| ClientError::Path { found: path.to_string(), why };
    let path: ResourcePath = path.parse().map_err(|error| wrong(format!("{error}")))?;
    Ok(format!("/kbs/v0/resource/{path}"))
}

/// A path with one segment from the caller, percent-encoded (RFC 3986, section 2.1).
fn named(collection: &str, name: &str) -> String {
    let mut path = format!("/{collection}/");
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => path.push(char::from(byte)),
            // A dot is unreserved, but a segment of dots alone would be taken away by the client.
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_segment() {
        assert_eq!(named("attempts", "../../kbs?x#y"), "/attempts/%2E%2E%2F%2E%2E%2Fkbs%3Fx%23y");
    }
}

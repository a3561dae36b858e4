//! Resource policies: who may have what.

use coffer_core_admin::{PolicyBody, PolicyList};

use super::{AdminClient, named};
use crate::error::ClientError;

impl AdminClient {
    /// Puts a policy in force; `resource` is the one that decides about what no other names.
    pub async fn put_policy(&self, name: &str, rego: &str) -> Result<(), ClientError> {
        self.put_policy_body(name, &PolicyBody::text(rego)).await
    }

    /// Puts a built-in policy in force: `default` or `insecure-lab`.
    pub async fn use_preset(&self, name: &str, preset: &str) -> Result<(), ClientError> {
        self.put_policy_body(name, &PolicyBody::built_in(preset)).await
    }

    /// Puts a policy in force for the paths and TEEs that it names.
    pub async fn put_policy_body(&self, name: &str, body: &PolicyBody) -> Result<(), ClientError> {
        self.put(&named("policies", name), body).await
    }

    /// A policy's text, what it decides about, and the preset's name if it is one.
    pub async fn policy(&self, name: &str) -> Result<PolicyBody, ClientError> {
        self.get(&named("policies", name)).await
    }

    /// The policies' names, and the presets there are.
    pub async fn list_policies(&self) -> Result<PolicyList, ClientError> {
        self.get("/policies").await
    }

    /// Takes a policy out of force. `resource` becomes the built-in default.
    pub async fn remove_policy(&self, name: &str) -> Result<(), ClientError> {
        self.delete(&named("policies", name)).await
    }
}

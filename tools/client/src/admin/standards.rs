//! What evidence is judged by: appraisal policies, the platform policy, platforms' keys.

use coffer_core_admin::{AttestationPolicy, AttestationPolicyInfo, AttestationPolicyList, PolicyBody};
use reqwest::Method;
use serde_json::Value;

use super::{AdminClient, named, query};
use crate::error::ClientError;

const PLATFORM_POLICY: &str = "/platform-policy";
const CCA_ENDORSEMENTS: &str = "/endorsements/cca";

impl AdminClient {
    /// Puts an appraisal policy as the current version of its name: `default_cpu`, `default_gpu`, `default_switch`.
    pub async fn put_attestation_policy(&self, name: &str, rego: &str) -> Result<(), ClientError> {
        self.put(&named("attestation-policies", name), &PolicyBody::text(rego)).await
    }

    /// The appraisal policies with their versions.
    pub async fn list_attestation_policies(&self) -> Result<Vec<AttestationPolicyInfo>, ClientError> {
        Ok(self.get::<AttestationPolicyList>("/attestation-policies").await?.attestation_policies)
    }

    /// One version's text; the current one if none is named.
    pub async fn attestation_policy(
        &self,
        name: &str,
        version: Option<u32>,
    ) -> Result<AttestationPolicy, ClientError> {
        let query = query(&[("version", version.map(|version| version.to_string()))]);
        self.get(&format!("{}{query}", named("attestation-policies", name))).await
    }

    /// Takes an appraisal policy out of force. Its versions stay.
    pub async fn remove_attestation_policy(&self, name: &str) -> Result<(), ClientError> {
        self.delete(&named("attestation-policies", name)).await
    }

    /// What platforms are acceptable, as JSON.
    pub async fn platform_policy(&self) -> Result<Value, ClientError> {
        self.get(PLATFORM_POLICY).await
    }

    /// Puts what platforms are acceptable: TOML or JSON.
    pub async fn put_platform_policy(&self, text: &str) -> Result<(), ClientError> {
        self.done(self.owned(Method::PUT, PLATFORM_POLICY)?.body(text.to_string())).await
    }

    /// Puts the built-in platform policy in force again.
    pub async fn reset_platform_policy(&self) -> Result<(), ClientError> {
        self.delete(PLATFORM_POLICY).await
    }

    /// The keys of Arm platforms that are believed, as they were put.
    pub async fn cca_endorsements(&self) -> Result<Value, ClientError> {
        self.get(CCA_ENDORSEMENTS).await
    }

    /// Believes these keys of Arm platforms, and no others.
    pub async fn put_cca_endorsements(&self, endorsements: &Value) -> Result<(), ClientError> {
        self.put(CCA_ENDORSEMENTS, endorsements).await
    }

    /// Believes no Arm platform.
    pub async fn remove_cca_endorsements(&self) -> Result<(), ClientError> {
        self.delete(CCA_ENDORSEMENTS).await
    }
}

//! Reference values: added as they are or as somebody signed them, listed with where they came from, revoked.

use std::collections::BTreeMap;

use coffer_core_admin::{NamedValueList, ReferenceList, ReferenceSigners, SetReferenceState};
use reqwest::Method;
use serde_json::Value;

use super::{AdminClient, named};
use crate::error::ClientError;

const REFERENCES: &str = "/reference-values";
const SIGNERS: &str = "/reference-signers";

impl AdminClient {
    /// Adds reference values in the JSON form of `core/launch`, or replaces those with the same `id`.
    pub async fn add_reference(&self, values: &Value) -> Result<(), ClientError> {
        self.done(self.owned(Method::POST, REFERENCES)?.json(values)).await
    }

    /// Adds a document for the broker to read and verify: JSON, a compact JWS over it, or CoRIM.
    pub async fn add_reference_document(&self, document: Vec<u8>) -> Result<(), ClientError> {
        self.done(self.owned(Method::POST, REFERENCES)?.body(document)).await
    }

    /// All reference values, each with its `provenance`.
    pub async fn list_references(&self) -> Result<Vec<Value>, ClientError> {
        Ok(self.get::<ReferenceList>(REFERENCES).await?.reference_values)
    }

    /// Removes the reference values with this `id`.
    pub async fn remove_reference(&self, id: &str) -> Result<(), ClientError> {
        self.delete(&named("reference-values", id)).await
    }

    /// Revokes reference values, or says when they end.
    pub async fn set_reference_state(&self, id: &str, state: &SetReferenceState) -> Result<(), ClientError> {
        self.put(&format!("{}/state", named("reference-values", id)), state).await
    }

    /// The reference values that appraisal policies ask for by name.
    pub async fn named_values(&self) -> Result<BTreeMap<String, Value>, ClientError> {
        Ok(self.named_value_list().await?.named_values)
    }

    /// The same, with where each came from.
    pub async fn named_value_list(&self) -> Result<NamedValueList, ClientError> {
        self.get("/named-values").await
    }

    /// Puts the value of a name.
    pub async fn put_named_value(&self, name: &str, value: &Value) -> Result<(), ClientError> {
        self.put(&named("named-values", name), value).await
    }

    /// Removes the value of a name.
    pub async fn remove_named_value(&self, name: &str) -> Result<(), ClientError> {
        self.delete(&named("named-values", name)).await
    }

    /// Revokes the value of a name, or says when it ends.
    pub async fn set_named_value_state(
        &self,
        name: &str,
        state: &SetReferenceState,
    ) -> Result<(), ClientError> {
        self.put(&format!("{}/state", named("named-values", name)), state).await
    }

    /// Who may sign reference values, and whether they must be signed.
    pub async fn reference_signers(&self) -> Result<ReferenceSigners, ClientError> {
        self.get(SIGNERS).await
    }

    /// Says who may sign reference values, and nobody else.
    pub async fn put_reference_signers(&self, signers: &ReferenceSigners) -> Result<(), ClientError> {
        self.put(SIGNERS, signers).await
    }
}

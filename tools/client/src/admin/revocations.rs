//! What nothing is released to any more.

use coffer_core_admin::{NewRevocation, Revocation, RevocationList};

use super::{AdminClient, named};
use crate::error::ClientError;

impl AdminClient {
    /// The revocations in force.
    pub async fn list_revocations(&self) -> Result<Vec<Revocation>, ClientError> {
        Ok(self.get::<RevocationList>("/revocations").await?.revocations)
    }

    /// Releases nothing to a chip, measurement, init-data or attempt any more.
    pub async fn revoke(&self, what: &NewRevocation) -> Result<Revocation, ClientError> {
        self.post("/revocations", what).await
    }

    /// Takes a revocation back.
    pub async fn remove_revocation(&self, id: &str) -> Result<(), ClientError> {
        self.delete(&named("revocations", id)).await
    }
}

//! A tenant's admins, the issuers whose tokens it takes, and the rotation of its keys.

use coffer_core_admin::{AdminInfo, AdminList, NewAdmin, WhoAmI};
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;

use super::{AdminClient, named};
use crate::error::ClientError;

const ADMIN_ISSUERS: &str = "/admin-issuers";
const TOKEN_ISSUERS: &str = "/token-issuers";

#[derive(Deserialize)]
struct NextKey {
    epoch: u32,
}

impl AdminClient {
    /// Who the broker takes this client for, and with which roles.
    pub async fn whoami(&self) -> Result<WhoAmI, ClientError> {
        self.get("/whoami").await
    }

    /// The admins with keys of their own.
    pub async fn list_admins(&self) -> Result<Vec<AdminInfo>, ClientError> {
        Ok(self.get::<AdminList>("/admins").await?.admins)
    }

    /// Adds an admin, or replaces the one of that name.
    pub async fn put_admin(&self, name: &str, admin: &NewAdmin) -> Result<(), ClientError> {
        self.put(&named("admins", name), admin).await
    }

    /// Removes an admin.
    pub async fn remove_admin(&self, name: &str) -> Result<(), ClientError> {
        self.delete(&named("admins", name)).await
    }

    /// The OpenID issuers whose tokens admins may use: `{"issuers": […]}`.
    pub async fn admin_issuers(&self) -> Result<Value, ClientError> {
        self.get(ADMIN_ISSUERS).await
    }

    /// Lets admins use the tokens of these OpenID issuers, and of no others.
    pub async fn put_admin_issuers(&self, issuers: &Value) -> Result<(), ClientError> {
        self.put(ADMIN_ISSUERS, issuers).await
    }

    /// Whose attestation tokens are taken beside the broker's own: `{"issuers": […]}`.
    pub async fn token_issuers(&self) -> Result<Value, ClientError> {
        self.get(TOKEN_ISSUERS).await
    }

    /// Takes the attestation tokens of these, and of no others.
    pub async fn put_token_issuers(&self, issuers: &Value) -> Result<(), ClientError> {
        self.put(TOKEN_ISSUERS, issuers).await
    }

    /// Makes the next key that signs the tenant's attestation tokens.
    pub async fn rotate_token_key(&self) -> Result<(), ClientError> {
        self.done(self.owned(Method::POST, "/token-keys")?).await
    }

    /// Makes the next key that the tenant's rows are sealed with, and says its epoch.
    pub async fn rotate_data_key(&self) -> Result<u32, ClientError> {
        let path = "/data-keys";
        Ok(self.read::<NextKey>(path, self.owned(Method::POST, path)?).await?.epoch)
    }
}

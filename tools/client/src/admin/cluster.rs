//! What the operator does: tenants, operators, the state of the cluster, its backup. Nothing of what a tenant holds.

use std::io::Write;

use coffer_core_admin::{
    AdminInfo, AdminList, NewAdmin, NewTenant, PREFIX, TenantInfo, TenantList, TenantName, TenantSettings,
};
use reqwest::{Method, RequestBuilder};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{AdminClient, named};
use crate::error::ClientError;
use crate::http::LONG;

impl AdminClient {
    /// The tenants.
    pub async fn list_tenants(&self) -> Result<Vec<TenantInfo>, ClientError> {
        Ok(self.read_shared::<TenantList>("/tenants").await?.tenants)
    }

    /// One tenant.
    pub async fn tenant(&self, name: &TenantName) -> Result<TenantInfo, ClientError> {
        self.read_shared(&of(name)).await
    }

    /// Makes a tenant with its first owner.
    pub async fn make_tenant(&self, name: &TenantName, new: &NewTenant) -> Result<TenantInfo, ClientError> {
        let path = of(name);
        self.read(&path, self.shared(Method::PUT, &path)?.json(new)).await
    }

    /// Replaces what the operator says of a tenant.
    pub async fn set_tenant(&self, name: &TenantName, settings: &TenantSettings) -> Result<(), ClientError> {
        self.done(self.shared(Method::PUT, &format!("{}/settings", of(name)))?.json(settings)).await
    }

    /// Removes a tenant and all that it has. There is no way back.
    pub async fn remove_tenant(&self, name: &TenantName) -> Result<(), ClientError> {
        self.done(self.shared(Method::DELETE, &of(name))?).await
    }

    /// The cluster's operators with keys of their own.
    pub async fn list_operators(&self) -> Result<Vec<AdminInfo>, ClientError> {
        Ok(self.read_shared::<AdminList>("/operators").await?.admins)
    }

    /// Adds an operator, or replaces the one of that name.
    pub async fn put_operator(&self, name: &str, operator: &NewAdmin) -> Result<(), ClientError> {
        self.done(self.shared(Method::PUT, &named("operators", name))?.json(operator)).await
    }

    /// Removes an operator.
    pub async fn remove_operator(&self, name: &str) -> Result<(), ClientError> {
        self.done(self.shared(Method::DELETE, &named("operators", name))?).await
    }

    /// Where the store is, under which master key, and what this replica is doing.
    pub async fn cluster_status(&self) -> Result<Value, ClientError> {
        self.read_shared("/cluster").await
    }

    /// How many rows older data keys seal yet, and whose.
    pub async fn cluster_data_keys(&self) -> Result<Value, ClientError> {
        self.read_shared("/cluster/data-keys").await
    }

    /// Writes a backup as it comes, and says how many bytes it has. All of it is sealed.
    pub async fn backup(&self, out: &mut (impl Write + Send)) -> Result<u64, ClientError> {
        let mut length = 0u64;
        let take = |part: &[u8], _: &str| {
            length = length.saturating_add(part.len() as u64);
            out.write_all(part).map_err(ClientError::Write)
        };
        let request = self.shared(Method::GET, "/backup")?.timeout(LONG);
        self.server.exchange(request, take).await?;
        Ok(length)
    }

    /// A call of the cluster, which is no tenant's.
    fn shared(&self, method: Method, path: &str) -> Result<RequestBuilder, ClientError> {
        self.signed(method, &format!("{PREFIX}{path}"))
    }

    async fn read_shared<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.read(path, self.shared(Method::GET, path)?).await
    }
}

fn of(name: &TenantName) -> String {
    named("tenants", name.as_str())
}

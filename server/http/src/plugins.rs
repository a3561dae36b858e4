//! Plugins: who answers calls of other names than `resource`, over gRPC, as upstream's do.

use coffer_core_admin::TenantName;
use coffer_server_grpc::PluginClient;

/// A plugin, and whose guests it answers.
pub struct Plugin {
    /// Where it is.
    pub client: PluginClient,
    /// The tenants; none means the tenant `default` only.
    pub tenants: Vec<TenantName>,
}

impl Plugin {
    /// Whether a tenant's calls go to it.
    pub(crate) fn is_for(&self, name: &str, tenant: &TenantName) -> bool {
        let named = self.tenants.contains(tenant) || (self.tenants.is_empty() && tenant.is_default());
        self.client.name() == name && named
    }
}

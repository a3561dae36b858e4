//! Resources that are not in the store: vaults that the operator configured, each for some tenants and paths.

use std::sync::Arc;

use coffer_core_admin::TenantName;
use coffer_core_protocol::error::Code;
use coffer_core_secret::SecretBytes;
use coffer_server_source::{Source, SourceError};

use crate::reply::Refused;

/// Which paths of which tenant a source answers for.
pub struct Route {
    /// The tenant. Each of its own, so that no tenant can name another's vault.
    pub tenant: TenantName,
    /// What the path of a resource begins with: `vault/`. What follows is the path in the source.
    pub prefix: String,
    /// The source.
    pub source: Arc<dyn Source>,
}

/// All of them.
pub(crate) struct Sources(Vec<Route>);

impl Sources {
    /// The longest prefix goes first.
    pub(crate) fn new(mut routes: Vec<Route>) -> Self {
        routes.sort_by_key(|route| std::cmp::Reverse(route.prefix.len()));
        Self(routes)
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.0.iter().map(|route| route.source.name()).collect()
    }

    /// The value at a path, from the source that answers for it.
    pub(crate) async fn find(&self, tenant: &TenantName, path: &str) -> Result<Option<SecretBytes>, Refused> {
        let matches = |route: &&Route| route.tenant == *tenant && path.starts_with(&route.prefix);
        let Some(route) = self.0.iter().find(matches) else { return Ok(None) };
        let rest = path.get(route.prefix.len()..).unwrap_or_default();
        match route.source.get(rest).await {
            Ok(found) => Ok(found),
            Err(SourceError::Path { .. }) => Ok(None),
            Err(error) => {
                tracing::error!(%error, tenant = %tenant, path, "a vault gave no resource");
                Err(Refused::plain(Code::ResourceSource))
            }
        }
    }
}

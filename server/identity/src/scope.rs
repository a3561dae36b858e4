//! Where roles count: in one tenant, or in the cluster.

use std::fmt;

use coffer_core_admin::{Role, TenantName};

use crate::permission::Level;

/// One tenant, or what all of them share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// What all tenants share.
    Cluster,
    /// One tenant.
    Tenant(TenantName),
}

impl Scope {
    /// Whether a role counts here: `operator` in the cluster only, the others in tenants only.
    pub fn has(&self, role: Role) -> bool {
        matches!((self, role), (Self::Cluster, Role::Operator))
            || (matches!(self, Self::Tenant(_)) && role != Role::Operator)
    }

    pub(crate) fn level(&self) -> Level {
        match self {
            Self::Cluster => Level::Cluster,
            Self::Tenant(_) => Level::Tenant,
        }
    }
}

impl From<TenantName> for Scope {
    fn from(tenant: TenantName) -> Self {
        Self::Tenant(tenant)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("the cluster"),
            Self::Tenant(tenant) => write!(f, "tenant {tenant}"),
        }
    }
}

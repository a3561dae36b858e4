//! What can be permitted, and which roles have it: one table.

use std::fmt;

use coffer_core_admin::Role;

/// Where a permission counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// In one tenant.
    Tenant,
    /// In what all tenants share.
    Cluster,
}

macro_rules! permissions {
    ($($(#[$doc:meta])* $name:ident $text:literal $level:ident [$($role:ident)*];)*) => {
        /// What a call needs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Permission { $($(#[$doc])* $name,)* }

        impl Permission {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name, as messages have it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Where it counts.
            pub const fn level(self) -> Level {
                match self { $(Self::$name => Level::$level,)* }
            }

            /// The roles that have it.
            pub const fn roles(self) -> &'static [Role] {
                match self { $(Self::$name => &[$(Role::$role,)*],)* }
            }
        }
    };
}

permissions! {
    /// Read attestations and the decisions about them.
    ReadAttempts "read attempts" Tenant [Owner Security Auditor];
    /// Read kept evidence, which names machines.
    ReadEvidence "read evidence" Tenant [Owner Security Auditor];
    /// List the names, versions and states of resources and keys. No call ever gives a value.
    ReadNames "read names" Tenant [Owner Security Auditor Publisher];
    /// Read policies, standards and trust anchors.
    ReadPolicies "read policies" Tenant [Owner Security Auditor];
    /// Read reference values.
    ReadReferences "read reference values" Tenant [Owner Security Auditor Publisher];
    /// Read settings, quotas and what is used of them.
    ReadConfig "read the configuration" Tenant [Owner Security Auditor Publisher];
    /// List admins and issuers.
    ReadAdmins "read admins" Tenant [Owner Security Auditor];
    /// Put, change and remove resources.
    PutResources "put resources" Tenant [Owner Publisher];
    /// Generate, rotate, disable and destroy keys.
    ManageKeys "manage keys" Tenant [Owner Publisher];
    /// Wrap and unwrap with a key that stays in the broker.
    UseKeys "use keys" Tenant [Owner Publisher];
    /// Change policies and standards.
    ManagePolicies "manage policies" Tenant [Owner Security];
    /// Change reference values.
    ManageReferences "manage reference values" Tenant [Owner Security Publisher];
    /// Change trust anchors.
    ManageTrust "manage trust anchors" Tenant [Owner Security];
    /// Revoke resources, chips and measurements.
    Revoke "revoke" Tenant [Owner Security];
    /// Change admins, issuers and their roles. Whom one may appoint: [`crate::Authorized::may_grant`].
    ManageAdmins "manage admins" Tenant [Owner Security];
    /// Change the tenant's own settings.
    ManageConfig "manage the configuration" Tenant [Owner];
    /// Make, change and remove tenants.
    ManageTenants "manage tenants" Cluster [Operator];
    /// Change quotas and rates.
    ManageQuotas "manage quotas" Cluster [Operator];
    /// Read the cache of collateral.
    ReadCollateral "read collateral" Cluster [Operator];
    /// Change the cache of collateral.
    ManageCollateral "manage collateral" Cluster [Operator];
    /// Take a backup, which is sealed.
    Backup "take a backup" Cluster [Operator];
    /// Rotate the cluster's keys and the tenants' data keys.
    RotateKeys "rotate the cluster's keys" Cluster [Operator];
    /// Read the cluster's settings.
    ReadCluster "read the cluster's configuration" Cluster [Operator];
    /// Change the cluster's admins and issuers.
    ManageOperators "manage the cluster's admins" Cluster [Operator];
}

impl Permission {
    /// Whether the role has it.
    pub fn is_of(self, role: Role) -> bool {
        self.roles().contains(&role)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_has_nothing_in_a_tenant_and_tenants_nothing_in_the_cluster() {
        for permission in Permission::ALL {
            assert!(!permission.roles().is_empty(), "{permission}");
            let of_operator = permission.is_of(Role::Operator);
            assert_eq!(of_operator, permission.level() == Level::Cluster, "{permission}");
            assert!(!of_operator || permission.roles().len() == 1, "{permission}");
        }
    }

    #[test]
    fn the_auditor_changes_nothing_and_the_owner_may_all_that_others_may() {
        for permission in Permission::ALL {
            let reads = permission.name().starts_with("read ");
            assert!(!permission.is_of(Role::Auditor) || reads, "{permission}");
            assert_eq!(permission.is_of(Role::Owner), permission.level() == Level::Tenant, "{permission}");
        }
    }
}

//! Who asks, and the proof that they may.

use std::fmt;

use coffer_core_admin::{Role, TenantName};

use crate::error::Forbidden;
use crate::permission::Permission;
use crate::roles::RoleSet;
use crate::scope::Scope;

/// How somebody showed who they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Via {
    /// A key that the scope knows, by its RFC 7638 thumbprint.
    LocalKey(String),
    /// An issuer of tokens, by its `iss`.
    Oidc(String),
    /// A certificate that TLS verified, by its SHA-256.
    ClientCertificate(String),
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LocalKey(thumbprint) => write!(f, "key {thumbprint}"),
            Self::Oidc(issuer) => write!(f, "issuer {issuer}"),
            Self::ClientCertificate(digest) => write!(f, "certificate {digest}"),
        }
    }
}

/// Somebody whose token or certificate was verified. It is for one request and is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    subject: String,
    scope: Scope,
    roles: RoleSet,
    via: Via,
    expires_at: u64,
}

impl Identity {
    /// Only verifiers of this crate make one. Roles that do not count in the scope are left out.
    pub(crate) fn new(subject: String, scope: Scope, roles: RoleSet, via: Via, expires_at: u64) -> Self {
        let roles = roles.iter().filter(|role| scope.has(*role)).collect();
        Self { subject, scope, roles, via, expires_at }
    }

    /// The name in the scope's or the issuer's own words; unique together with [`Identity::via`].
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Where the roles count.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The roles.
    pub fn roles(&self) -> RoleSet {
        self.roles
    }

    /// How it was shown.
    pub fn via(&self) -> &Via {
        &self.via
    }

    /// When the token or the certificate ends, in seconds since 1970.
    pub fn expires_at(&self) -> u64 {
        self.expires_at
    }

    /// Whether this identity may do that there. The answer is what handlers take.
    pub fn allows(&self, permission: Permission, target: &Scope) -> Result<Authorized, Forbidden> {
        if permission.level() != target.level() {
            return Err(Forbidden::Level { permission, target: target.clone() });
        }
        if self.scope != *target {
            return Err(Forbidden::Scope { expected: target.clone(), found: self.scope.clone() });
        }
        match self.roles.iter().any(|role| permission.is_of(role)) {
            true => Ok(Authorized { who: self.clone(), permission }),
            false => Err(Forbidden::Role { permission, needed: permission.roles(), found: self.roles }),
        }
    }
}

/// The proof that somebody may do one thing in one scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorized {
    who: Identity,
    permission: Permission,
}

impl Authorized {
    /// Who.
    pub fn who(&self) -> &Identity {
        &self.who
    }

    /// What.
    pub fn permission(&self) -> Permission {
        self.permission
    }

    /// Where: always the scope of the identity.
    pub fn scope(&self) -> &Scope {
        &self.who.scope
    }

    /// The tenant, if it is one.
    pub fn tenant(&self) -> Option<&TenantName> {
        match &self.who.scope {
            Scope::Tenant(tenant) => Some(tenant),
            Scope::Cluster => None,
        }
    }

    /// Whether an admin with these roles may be appointed, changed or removed with this proof.
    ///
    /// Without this rule `security`, which manages admins, would make itself `owner`. Asked for the roles that an
    /// admin or an issuer has and for those that it is to have.
    pub fn may_grant(&self, roles: RoleSet) -> Result<(), Forbidden> {
        let needed: Permission = match self.who.scope {
            Scope::Cluster => Permission::ManageOperators,
            Scope::Tenant(_) => Permission::ManageAdmins,
        };
        if self.permission != needed {
            return Err(Forbidden::Role {
                permission: needed,
                needed: needed.roles(),
                found: self.who.roles,
            });
        }
        if let Some(role) = roles.iter().find(|role| !self.who.scope.has(*role)) {
            return Err(Forbidden::Elsewhere { role, scope: self.who.scope.clone() });
        }
        match roles.contains(Role::Owner) && !self.who.roles.contains(Role::Owner) {
            true => Err(Forbidden::Appointment { found: self.who.roles }),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> Scope {
        Scope::Tenant(name.parse().unwrap())
    }

    fn who(scope: &Scope, roles: &[Role]) -> Identity {
        let roles = roles.iter().copied().collect();
        Identity::new("a".into(), scope.clone(), roles, Via::LocalKey("k".into()), 9)
    }

    #[test]
    fn every_role_may_what_the_table_says_in_its_own_scope_and_nothing_elsewhere() {
        let scopes = [Scope::Cluster, tenant("a"), tenant("b")];
        for role in Role::ALL {
            for own in &scopes {
                let who = who(own, &[role]);
                for target in &scopes {
                    for permission in Permission::ALL {
                        let expected = own == target
                            && own.has(role)
                            && permission.level() == target.level()
                            && permission.is_of(role);
                        let found = who.allows(*permission, target);
                        assert_eq!(found.is_ok(), expected, "{role} of {own}: {permission} at {target}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_refusal_names_the_roles_that_would_do() {
        let refused = who(&tenant("a"), &[Role::Auditor]).allows(Permission::Revoke, &tenant("a"));
        let text = refused.unwrap_err().to_string();
        assert!(text.contains("owner, security") && text.contains("auditor"), "{text}");
        let refused = who(&Scope::Cluster, &[Role::Operator]).allows(Permission::ReadNames, &tenant("a"));
        assert!(matches!(refused, Err(Forbidden::Scope { .. })));
    }

    #[test]
    fn security_makes_no_owners_and_nobody_makes_operators_in_a_tenant() {
        let at = tenant("a");
        let proof = |role| who(&at, &[role]).allows(Permission::ManageAdmins, &at).unwrap();
        let security = proof(Role::Security);
        assert!(security.may_grant(RoleSet::from(Role::Publisher)).is_ok());
        let owner = RoleSet::from_iter([Role::Owner, Role::Auditor]);
        assert!(matches!(security.may_grant(owner), Err(Forbidden::Appointment { .. })));
        assert!(proof(Role::Owner).may_grant(owner).is_ok());
        let operator = proof(Role::Owner).may_grant(Role::Operator.into());
        assert!(matches!(operator, Err(Forbidden::Elsewhere { .. })));
        let other = who(&at, &[Role::Owner]).allows(Permission::ReadNames, &at).unwrap();
        assert!(other.may_grant(RoleSet::EMPTY).is_err());
    }
}

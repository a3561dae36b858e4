//! Which tables there are and how their keys are made.
//!
//! Every key begins with its tenant and `/`; what no tenant owns, the cluster's, has nothing before the `/`. Parts of a
//! name are held apart by a zero byte, which no name has. Left out: what the rows hold.

use crate::StoreError;

/// A table of named values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// Policies by name.
    Policies,
    /// Reference values by id.
    ReferenceValues,
    /// Trust anchors by name.
    TrustAnchors,
    /// The broker's own keys.
    Keys,
    /// Appraisal policies by name, each with its versions.
    AttestationPolicies,
    /// Reference values by name, for appraisal policies.
    NamedValues,
    /// What there is one of each: the platform policy, endorsements.
    Settings,
    /// Admins and whom they are believed through.
    Admins,
    /// What gets no further release: resources, chips, measurements.
    Revocations,
    /// Where else resources come from.
    Sources,
    /// The tenants' settings, by the tenant's name; the cluster's. Tenants are made and removed by the store.
    Tenants,
    /// Keys that wrap data keys. Decisions do not rest on them.
    WrappingKeys,
    /// How often volumes were opened, by their keys' paths. Decisions do not rest on them.
    Counters,
    /// Which tenant a host name belongs to; the cluster's.
    Hosts,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Policies,
        Self::ReferenceValues,
        Self::TrustAnchors,
        Self::Keys,
        Self::AttestationPolicies,
        Self::NamedValues,
        Self::Settings,
        Self::Admins,
        Self::Revocations,
        Self::Sources,
        Self::Tenants,
        Self::WrappingKeys,
        Self::Counters,
        Self::Hosts,
    ];

    /// Its name in the engine.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Policies => "policies",
            Self::ReferenceValues => "reference-values",
            Self::TrustAnchors => "trust-anchors",
            Self::Keys => "keys",
            Self::AttestationPolicies => "attestation-policies",
            Self::NamedValues => "named-values",
            Self::Settings => "settings",
            Self::Admins => "admins",
            Self::Revocations => "revocations",
            Self::Sources => "sources",
            Self::Tenants => "tenants",
            Self::WrappingKeys => "wrapping-keys",
            Self::Counters => "counters",
            Self::Hosts => "hosts",
        }
    }

    /// Whether a change makes decisions stale that were made before it.
    pub(crate) const fn decides(self) -> bool {
        !matches!(self, Self::WrappingKeys | Self::Counters)
    }
}

/// The store's own: its format, the wrapped data key, who wrapped it. Its keys have no tenant.
pub(crate) const META: &str = "meta";
/// Each tenant's data keys by epoch, sealed by the cluster's.
pub(crate) const TENANT_KEYS: &str = "tenant-keys";
/// Each tenant's revision and the epoch of new records, sealed by the cluster's data key.
pub(crate) const REVISIONS: &str = "revisions";
/// The tenants whose removal has begun, sealed by the cluster's data key.
pub(crate) const REMOVALS: &str = "removals";
/// How far each tenant's rows are moved to its new epoch, sealed by the cluster's data key.
pub(crate) const RESEALS: &str = "reseals";
/// The names that were removed on purpose.
pub(crate) const WITHDRAWN: &str = "withdrawn";
/// What is known of a resource and its versions.
pub(crate) const RESOURCES: &str = "resources";
/// The values of resources by version.
pub(crate) const VALUES: &str = "resource-values";
/// The last version of each resource that was deleted.
pub(crate) const TOMBSTONES: &str = "resource-tombstones";
/// The attempts that a counted version was released to.
pub(crate) const RELEASES: &str = "releases";
/// How often a version was released.
pub(crate) const RELEASE_COUNTS: &str = "release-counts";
/// What is known of attempts.
pub(crate) const ATTEMPTS: &str = "attempts";
/// Where attempts stand in their rings, and how many decisions each has.
pub(crate) const ATTEMPT_STATES: &str = "attempt-states";
/// The refused attempts, in the order of time.
pub(crate) const REFUSED: &str = "attempts-refused";
/// The other attempts, in the order of time.
pub(crate) const OTHERS: &str = "attempts-others";
/// What was decided.
pub(crate) const DECISIONS: &str = "decisions";
/// Evidence by attempt.
pub(crate) const EVIDENCE: &str = "evidence";
/// Where evidence stands in its ring.
pub(crate) const EVIDENCE_PLACES: &str = "evidence-places";
/// Evidence in the order of time.
pub(crate) const EVIDENCE_RING: &str = "evidence-ring";

/// Tables whose records are sealed by the cluster's data key itself.
pub(crate) const BY_CLUSTER: [&str; 4] = [TENANT_KEYS, REVISIONS, REMOVALS, RESEALS];

/// Tables whose rows are their keys, with an empty value.
pub(crate) const RINGS: [&str; 3] = [REFUSED, OTHERS, EVIDENCE_RING];

/// Tables whose records are sealed by their tenant's data key: those of [`Table`], and these.
const BY_TENANT: [&str; 11] = [
    WITHDRAWN,
    RESOURCES,
    VALUES,
    TOMBSTONES,
    RELEASES,
    RELEASE_COUNTS,
    ATTEMPTS,
    ATTEMPT_STATES,
    DECISIONS,
    EVIDENCE,
    EVIDENCE_PLACES,
];

/// The tables with a tenant's sealed records, always in this order.
pub(crate) fn sealed_by_tenant() -> impl Iterator<Item = &'static str> {
    Table::ALL.into_iter().map(Table::name).chain(BY_TENANT)
}

/// Every table but [`META`].
pub(crate) fn all() -> impl Iterator<Item = &'static str> {
    sealed_by_tenant().chain(RINGS).chain(BY_CLUSTER)
}

/// How many rows of a table are read at once where a whole table is gone through: their values are in memory together.
pub(crate) fn page(name: &str) -> usize {
    match name {
        VALUES | EVIDENCE => 8,
        _ => 200,
    }
}

/// The longest name, in bytes. With a tenant and a number it stays below what every engine takes as a key.
pub const MAX_NAME: usize = 1024;

/// Refuses names that could be taken for another row's.
pub(crate) fn check(name: &str) -> Result<&str, StoreError> {
    match name.is_empty() || name.len() > MAX_NAME || name.contains('\0') {
        true => Err(StoreError::Name { found: name.len(), most: MAX_NAME }),
        false => Ok(name),
    }
}

/// The key of a name.
pub(crate) fn key(tenant: &str, name: &str) -> String {
    let mut key = String::with_capacity(tenant.len() + name.len() + 1);
    key.push_str(tenant);
    key.push('/');
    key.push_str(name);
    key
}

/// The key of a part of a name.
pub(crate) fn part(tenant: &str, name: &str, part: &str) -> String {
    let mut key = String::with_capacity(tenant.len() + name.len() + part.len() + 2);
    key.push_str(tenant);
    key.push('/');
    key.push_str(name);
    key.push('\0');
    key.push_str(part);
    key
}

/// The rows of a tenant: `0` is the byte after `/`, which no tenant's name has.
pub(crate) fn bounds(tenant: &str) -> (String, String) {
    (format!("{tenant}/"), format!("{tenant}0"))
}

/// The parts of a name: the byte after the zero is the first beyond them.
pub(crate) fn part_bounds(tenant: &str, name: &str) -> (String, String) {
    (format!("{tenant}/{name}\0"), format!("{tenant}/{name}\u{1}"))
}

/// The smallest key after this one.
pub(crate) fn after(key: &str) -> String {
    format!("{key}\0")
}

/// The tenant of a key, and its name.
pub(crate) fn split(key: &str) -> Option<(&str, &str)> {
    key.split_once('/')
}

/// The number of a version, in the order of versions.
pub(crate) fn version(number: u64) -> String {
    format!("{number:020}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_tenants_rows_are_among_anothers() {
        for (one, two) in [("", "a"), ("a", "a0"), ("a", "a-b"), ("default", "default1"), ("", "0")] {
            let (from, until) = bounds(one);
            for name in ["x", "/", "~", "a/b/c", "\u{10ffff}"] {
                let (own, other) = (key(one, name), key(two, name));
                assert!(from <= own && own < until, "{own}");
                assert!(other < from || until <= other, "{other} is among the rows of {one:?}");
            }
        }
    }

    #[test]
    fn parts_of_a_name_are_not_parts_of_a_longer_one() {
        let (from, until) = part_bounds("t", "a/b/c");
        let own = part("t", "a/b/c", "1");
        assert!(from <= own && own < until);
        for other in [part("t", "a/b/cc", "1"), part("t", "a/b", "1"), key("t", "a/b/c"), key("t", "a/b/c/1")]
        {
            assert!(other < from || until <= other, "{other:?}");
        }
    }

    #[test]
    fn names_that_could_be_another_rows_are_refused() {
        for bad in ["", "a\0b", &"a".repeat(MAX_NAME + 1)] {
            assert!(check(bad).is_err());
        }
        assert!(check("default/key/1").is_ok());
    }
}

//! How much a tenant may keep and do at once.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::rates::RateLimits;

macro_rules! quantities {
    ($($(#[$doc:meta])* $name:ident $field:ident $text:literal = $default:expr;)*) => {
        /// What is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Quantity { $($(#[$doc])* $name,)* }

        impl Quantity {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name, as messages have it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }

        /// A tenant's quotas. What is absent has its default.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct Quotas {
            $($(#[$doc])* pub $field: u64,)*
            /// How often calls may come.
            pub rates: RateLimits,
        }

        impl Default for Quotas {
            fn default() -> Self {
                Self { $($field: $default,)* rates: RateLimits::default() }
            }
        }

        impl Quotas {
            /// The bound of a quantity.
            pub const fn limit(&self, what: Quantity) -> u64 {
                match what { $(Quantity::$name => self.$field,)* }
            }
        }
    };
}

quantities! {
    /// Resources, whatever their versions. 10,000 unless set.
    Resources resources "resources" = 10_000;
    /// The bytes of all versions of all resources. 256 MiB unless set.
    ResourceBytes resource_bytes "bytes of resources" = 256 << 20;
    /// Policies of all kinds, whatever their versions. 200 unless set.
    Policies policies "policies" = 200;
    /// Reference values. 10,000 unless set.
    ReferenceValues reference_values "reference values" = 10_000;
    /// Trust anchors. 100 unless set.
    TrustAnchors trust_anchors "trust anchors" = 100;
    /// Wrapping keys, whatever their versions. 1,000 unless set.
    WrappingKeys wrapping_keys "wrapping keys" = 1_000;
    /// Revocations. 100,000 unless set.
    Revocations revocations "revocations" = 100_000;
    /// Admins with local keys. 200 unless set.
    Admins admins "admins" = 200;
    /// Issuers of tokens. 8 unless set.
    Issuers issuers "issuers" = 8;
    /// Attempts that are kept; beyond that the oldest goes. 10,000 unless set.
    Attempts attempts "attempts" = 10_000;
    /// Attempts whose evidence is kept; beyond that the oldest goes. 1,000 unless set.
    Evidence evidence "kept evidence" = 1_000;
    /// Attestations that are judged at once on one replica. 16 unless set; the places there are bound it too.
    Concurrent concurrent_attestations "attestations at once" = 16;
    /// Attestations that wait for a place on one replica. 256 unless set.
    Waiting waiting_attestations "waiting attestations" = 256;
}

/// It would be too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found} {}; the tenant may have {limit}. Remove some, or ask the operator for more", .what.name())]
pub struct OverQuota {
    /// Of what.
    pub what: Quantity,
    /// The bound.
    pub limit: u64,
    /// How much there would be.
    pub found: u64,
}

/// Quotas that were written down are not quotas.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these are no quotas: {0}; the names are those of the documented defaults")]
pub struct QuotasError(String);

impl Quotas {
    /// The defaults, but for what is named, as the operator's settings of a tenant have it.
    pub fn with(changes: &BTreeMap<String, Value>) -> Result<Self, QuotasError> {
        let members = changes.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        serde_json::from_value(Value::Object(members)).map_err(|error| QuotasError(error.to_string()))
    }

    /// Whether there may be so much, the new one counted.
    pub fn check(&self, found: u64, what: Quantity) -> Result<(), OverQuota> {
        let limit = self.limit(what);
        match found <= limit {
            true => Ok(()),
            false => Err(OverQuota { what, limit, found }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_one_within_the_bound_is_allowed_and_the_next_is_not() {
        let quotas = Quotas { resources: 3, ..Quotas::default() };
        assert_eq!(quotas.check(3, Quantity::Resources), Ok(()));
        let over = quotas.check(4, Quantity::Resources).unwrap_err();
        assert_eq!((over.what, over.limit, over.found), (Quantity::Resources, 3, 4));
        assert!(over.to_string().contains("4 resources"), "{over}");
        for what in Quantity::ALL {
            assert!(quotas.check(u64::MAX, *what).is_err() && quotas.check(0, *what).is_ok());
        }
    }

    #[test]
    fn what_is_not_named_stays_and_an_unknown_name_is_refused() {
        let changes = BTreeMap::from([("policies".to_owned(), json!(0))]);
        let quotas = Quotas::with(&changes).unwrap();
        assert!(quotas.check(1, Quantity::Policies).is_err());
        assert_eq!(quotas.resources, Quotas::default().resources);
        for (name, value) in [("polices", json!(1)), ("policies", json!(-1)), ("policies", json!("1"))] {
            assert!(Quotas::with(&BTreeMap::from([(name.to_owned(), value)])).is_err());
        }
    }
}

//! Rates of calls, by tenant and by client.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use coffer_core_admin::TenantName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bucket::{Rate, Table};

/// Buckets for tenants: one for each class of each that is busy.
const TENANT_BUCKETS: usize = 1 << 15;
/// Buckets for addresses.
const ADDRESS_BUCKETS: usize = 1 << 16;

/// What a call costs, roughly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// A challenge: cheap, and nobody is known yet.
    Challenge,
    /// An attestation: heavy.
    Attest,
    /// A resource, or the use of a wrapping key.
    Release,
    /// An admin's call, and attempts at one.
    Admin,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Challenge, Self::Attest, Self::Release, Self::Admin];

    /// The name, as metrics and messages have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Challenge => "challenge",
            Self::Attest => "attest",
            Self::Release => "release",
            Self::Admin => "admin",
        }
    }
}

/// The rates of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassRates {
    /// For the tenant as a whole.
    pub tenant: Rate,
    /// For each client address in it.
    pub address: Rate,
}

/// The rates of a tenant. What is absent is as in [`RateLimits::default`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimits {
    /// Challenges: 2000 a second and 4000 at once; 50 and 200 from one address.
    pub challenge: ClassRates,
    /// Attestations: 1000 a second and 2000 at once; 20 and 100 from one address.
    pub attest: ClassRates,
    /// Resources: 4000 a second and 8000 at once; 100 and 400 from one address.
    pub release: ClassRates,
    /// Admins' calls: 200 a second and 1000 at once; 50 and 500 from one address.
    pub admin: ClassRates,
}

const fn rates(tenant: (u32, u32), address: (u32, u32)) -> ClassRates {
    match (Rate::new(tenant.0, tenant.1), Rate::new(address.0, address.1)) {
        (Some(tenant), Some(address)) => ClassRates { tenant, address },
        // Only reached, at compile time, if a number below were zero.
        _ => panic!("rates are not zero"),
    }
}

const CHALLENGE: ClassRates = rates((2000, 4000), (50, 200));
const ATTEST: ClassRates = rates((1000, 2000), (20, 100));
const RELEASE: ClassRates = rates((4000, 8000), (100, 400));
const ADMIN: ClassRates = rates((200, 1000), (50, 500));

impl Default for RateLimits {
    fn default() -> Self {
        Self { challenge: CHALLENGE, attest: ATTEST, release: RELEASE, admin: ADMIN }
    }
}

impl RateLimits {
    /// The rates of a class.
    pub const fn of(&self, class: Class) -> ClassRates {
        match class {
            Class::Challenge => self.challenge,
            Class::Attest => self.attest,
            Class::Release => self.release,
            Class::Admin => self.admin,
        }
    }
}

/// Whether a call may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may.
    Allowed,
    /// Not before so many seconds: the value of `Retry-After`, at least one.
    Wait(u64),
}

/// The rates of all tenants. About 2 MiB, whoever calls.
pub struct Rates {
    tenants: Table,
    addresses: Table,
}

impl Default for Rates {
    fn default() -> Self {
        Self::with_places(TENANT_BUCKETS, ADDRESS_BUCKETS)
    }
}

impl Rates {
    /// With room for so many busy pairs of tenant and class, and for so many busy addresses.
    pub fn with_places(tenants: usize, addresses: usize) -> Self {
        Self { tenants: Table::new(tenants), addresses: Table::new(addresses) }
    }

    /// Counts a call. `now` is monotonic, since any moment of this process. Only for tenants that exist: names that
    /// somebody made up would take room from those.
    pub fn check(
        &self,
        tenant: &TenantName,
        class: Class,
        address: Option<IpAddr>,
        limits: &RateLimits,
        now: Duration,
    ) -> Decision {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let rates = limits.of(class);
        let whole = (tenant, class);
        let one = address.map(|address| (tenant, class, network(address)));
        // The address first: one client's excess must not use up what its tenant's others have.
        if let Some(one) = &one
            && let Err(wait) = self.addresses.take(one, rates.address, now)
        {
            return waiting(wait);
        }
        match self.tenants.take(&whole, rates.tenant, now) {
            Ok(()) => Decision::Allowed,
            Err(wait) => {
                if let Some(one) = &one {
                    self.addresses.give_back(one, rates.address, now);
                }
                waiting(wait)
            }
        }
    }
}

fn waiting(nanos: u64) -> Decision {
    Decision::Wait(nanos.div_ceil(1_000_000_000).max(1))
}

/// What one client has: an IPv4 address, or an IPv6 network of 64 bits (RFC 6177), of which it can use every address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantName {
        name.parse().unwrap()
    }

    fn limits(tenant: (u32, u32), address: (u32, u32)) -> RateLimits {
        RateLimits { attest: super::rates(tenant, address), ..RateLimits::default() }
    }

    fn passed(rates: &Rates, name: &str, address: &str, limits: &RateLimits, calls: usize) -> usize {
        let address: Option<IpAddr> = address.parse().ok();
        let now = Duration::from_secs(10);
        let ask =
            |_: &usize| rates.check(&tenant(name), Class::Attest, address, limits, now) == Decision::Allowed;
        (0..calls).filter(ask).count()
    }

    #[test]
    fn one_address_cannot_use_up_its_tenant_nor_one_tenant_another() {
        let (rates, limits) = (Rates::with_places(64, 64), limits((1, 20), (1, 5)));
        assert_eq!(passed(&rates, "a", "192.0.2.1", &limits, 100), 5);
        assert_eq!(passed(&rates, "a", "192.0.2.2", &limits, 100), 5);
        assert_eq!(passed(&rates, "a", "none", &limits, 100), 10);
        assert_eq!(passed(&rates, "a", "192.0.2.3", &limits, 100), 0);
        assert_eq!(passed(&rates, "b", "192.0.2.1", &limits, 100), 5);
        let other = rates.check(&tenant("a"), Class::Admin, None, &limits, Duration::from_secs(10));
        assert_eq!(other, Decision::Allowed);
    }

    #[test]
    fn a_call_that_the_tenant_has_no_room_for_is_not_counted_against_its_address() {
        let (rates, limits) = (Rates::with_places(64, 64), limits((1, 2), (1, 2)));
        assert_eq!(passed(&rates, "a", "none", &limits, 2), 2);
        assert_eq!(passed(&rates, "a", "192.0.2.1", &limits, 50), 0);
        let (a, at) = (tenant("a"), Duration::from_secs(12));
        let address = "192.0.2.1".parse().ok();
        for _ in 0..2 {
            assert_eq!(rates.check(&a, Class::Attest, address, &limits, at), Decision::Allowed);
        }
        assert_eq!(rates.check(&a, Class::Attest, address, &limits, at), Decision::Wait(1));
    }

    #[test]
    fn an_ipv6_client_is_its_network_and_a_mapped_address_is_the_ipv4_one() {
        let (rates, limits) = (Rates::with_places(64, 64), limits((1, 100), (1, 5)));
        assert_eq!(passed(&rates, "a", "2001:db8::1", &limits, 3), 3);
        assert_eq!(passed(&rates, "a", "2001:db8::ffff:1", &limits, 3), 2);
        assert_eq!(passed(&rates, "a", "2001:db8:0:1::1", &limits, 3), 3);
        assert_eq!(passed(&rates, "a", "192.0.2.9", &limits, 3), 3);
        assert_eq!(passed(&rates, "a", "::ffff:192.0.2.9", &limits, 3), 2);
    }

    #[test]
    fn a_million_addresses_take_no_memory_and_pass_no_more_than_their_tenant_may() {
        let (rates, limits) = (Rates::with_places(64, 1024), limits((1, 500), (1, 5)));
        let before = rates.addresses.places();
        let now = Duration::from_secs(1);
        let passed = (0..1_000_000_u32)
            .filter(|n| {
                let address = Some(IpAddr::V4((0x0a00_0000 | n).into()));
                rates.check(&tenant("a"), Class::Attest, address, &limits, now) == Decision::Allowed
            })
            .count();
        assert_eq!((passed, rates.addresses.places()), (500, before));
    }

    #[test]
    fn settings_are_read_with_defaults_and_a_rate_of_zero_is_refused() {
        let read = |text: &str| serde_json::from_str::<RateLimits>(text);
        assert_eq!(read("{}").unwrap(), RateLimits::default());
        let text = r#"{"admin":{"tenant":{"per_second":1,"burst":2},"address":{"per_second":3,"burst":4}}}"#;
        let limits = read(text).unwrap();
        assert_eq!((limits.admin.tenant, limits.attest), (Rate::new(1, 2).unwrap(), ATTEST));
        assert!(read(&text.replace(":3", ":0")).is_err());
        assert!(read(r#"{"attests":{}}"#).is_err());
    }
}

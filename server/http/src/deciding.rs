//! How many policies are evaluated at once, so that a tenant's slow policy waits for itself.

use std::num::NonZeroUsize;
use std::time::Duration;

use coffer_core_admin::TenantName;
use coffer_core_protocol::error::Code;
use coffer_server_limits::{Place, Quantity, Quotas, Share, Shares};

use crate::reply::Refused;

/// How long a turn is waited for.
const WAIT: Duration = Duration::from_secs(10);

/// The places.
pub(crate) struct Deciding {
    places: Shares,
    /// How many of them one tenant has at most: somebody else's turn must come.
    of_one: usize,
}

impl Default for Deciding {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, NonZeroUsize::get);
        Self { places: Shares::new(cores.saturating_mul(4)), of_one: cores.max(1) }
    }
}

impl Deciding {
    /// A place, when it is the tenant's turn.
    pub(crate) async fn enter(&self, tenant: &TenantName, quotas: &Quotas) -> Result<Place, Refused> {
        let waiting = usize::try_from(quotas.limit(Quantity::Waiting)).unwrap_or(usize::MAX).max(256);
        let share = Share { at_once: self.of_one, waiting, weight: NonZeroUsize::MIN };
        let busy =
            || Refused::new(Code::RateLimited, "The tenant's policies take longer than its calls come.");
        let entered = tokio::time::timeout(WAIT, self.places.enter(tenant, share)).await;
        entered.map_err(|_| busy())?.map_err(|_| busy())
    }
}

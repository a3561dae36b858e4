//! The calls of owners and operators. The route table says which permission each needs; the gate asks for it.

pub(crate) mod admins;
pub(crate) mod api;
pub(crate) mod appraisal;
pub(crate) mod cluster;
pub(crate) mod collateral;
pub(crate) mod compat;
pub(crate) mod data_keys;
pub(crate) mod references;
pub(crate) mod resources;
pub(crate) mod revocations;
pub(crate) mod tenants;

use coffer_core_protocol::error::Code;
use coffer_server_limits::OverQuota;

use crate::reply::Refused;

/// Reference values with their events, policies, certificates.
pub(crate) const MAX_BODY: usize = 1 << 20;
const MAX_NAME: usize = 128;

/// A tenant has as much of something as it may have.
fn over(error: OverQuota) -> Refused {
    Refused::new(Code::QuotaExceeded, format!("{error}."))
}

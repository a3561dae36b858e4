//! Times as seconds since 1970, as the protocols have them.

use coffer_verify_api::Timestamp;

/// Seconds since 1970; 0 for what was before.
pub(crate) fn seconds(at: Timestamp) -> u64 {
    u64::try_from(at.as_second()).unwrap_or(0)
}

//! What may be asked for on the word of evidence that nobody has verified.
//!
//! Anybody can make evidence that names a chip. Without a bound each such name would be one more call of the vendor's
//! service, which then refuses this broker's honest guests as well.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use coffer_verify_api::CollateralKey;
use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);

/// Whether the key is taken from evidence of which nothing is verified without its document.
pub(crate) fn is_unproven(key: &CollateralKey) -> bool {
    matches!(key, CollateralKey::AmdVcek { .. } | CollateralKey::HygonHskCek(_) | CollateralKey::NvidiaRim(_))
}

/// So many in any minute.
pub(crate) struct Budget {
    per_minute: usize,
    /// When they began, the oldest first; no more than `per_minute`.
    begun: Mutex<VecDeque<Instant>>,
}

impl Budget {
    pub(crate) fn new(per_minute: usize) -> Self {
        Self { per_minute, begun: Mutex::default() }
    }

    /// Takes one, or says when there is one again.
    pub(crate) fn take(&self) -> Result<(), Duration> {
        let now = Instant::now();
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        while begun.front().is_some_and(|first| now.saturating_duration_since(*first) >= MINUTE) {
            begun.pop_front();
        }
        if begun.len() < self.per_minute {
            begun.push_back(now);
            return Ok(());
        }
        let first = begun.front().copied().unwrap_or(now);
        Err(MINUTE.saturating_sub(now.saturating_duration_since(first)))
    }
}

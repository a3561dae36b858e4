//! CPU time of this process, all threads together.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// CPU time used so far.
pub(crate) fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

/// Microseconds, for tables.
pub(crate) fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

//! How long and how often registries are asked.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use coffer_core_patience::Schedule;

/// How long and how often registries are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How often one place is asked for one thing before the next place is.
    pub attempts: u32,
    /// The wait before the second attempt; it doubles with each, up to [`Patience::longest`].
    pub first: Duration,
    /// The longest wait between attempts, also where the registry asks for a longer one with `Retry-After`.
    pub longest: Duration,
    /// How long a registry may be silent.
    pub stall: Duration,
    /// How long one piece may take.
    pub piece: Duration,
    /// How long a place that failed is passed over while there are others.
    pub rest: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 5,
            first: Duration::from_millis(250),
            longest: Duration::from_secs(30),
            stall: Duration::from_secs(20),
            piece: Duration::from_secs(180),
            rest: Duration::from_secs(30),
        }
    }
}

impl Patience {
    /// The wait after attempt `number` (from 1).
    pub(crate) fn wait(&self, number: u32, asked_for: Option<Duration>) -> Duration {
        let schedule = Schedule { first: self.first, longest: self.longest, longest_asked: self.longest };
        let mut chance = [0];
        // Without chance all hosts wait as long as the longest would.
        let chance = aws_lc_rs::rand::fill(&mut chance).map_or(u8::MAX, |()| chance[0]);
        schedule.wait(number, chance, asked_for)
    }
}

/// What a registry asks for, now.
pub(crate) fn retry_after(text: &str) -> Option<Duration> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    coffer_core_patience::retry_after(text, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_follow_the_registry_no_further() {
        let patience = Patience::default();
        for number in 1..40 {
            let wait = patience.wait(number, None);
            let doubled = patience.first.saturating_mul(1 << (number - 1).min(20)).min(patience.longest);
            assert!(wait >= doubled / 2 && wait <= doubled, "{number}: {wait:?}");
        }
        assert_eq!(patience.wait(1, Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(patience.wait(1, Some(Duration::from_secs(7000))), patience.longest);
    }
}

//! Token buckets in their virtual-scheduling form (GCRA, ITU-T I.371): one time per bucket, in a table of fixed size.
//!
//! A bucket is the time at which it will be full again. One whose time has passed is like one that never was, so
//! a table may forget it.

use std::hash::{BuildHasher, Hash, RandomState};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const NANOS: u64 = 1_000_000_000;
/// A row of the table: keys that fall into it share so many places.
const ROW: usize = 8;

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// So often in a second, in the long run.
    pub per_second: NonZeroU32,
    /// So often at once after a pause.
    pub burst: NonZeroU32,
}

impl Rate {
    /// From numbers. None if one is zero.
    pub const fn new(per_second: u32, burst: u32) -> Option<Self> {
        match (NonZeroU32::new(per_second), NonZeroU32::new(burst)) {
            (Some(per_second), Some(burst)) => Some(Self { per_second, burst }),
            _ => None,
        }
    }

    /// The time that one call takes from a bucket, in nanoseconds, rounded up so that the rate is never exceeded.
    fn interval(self) -> u64 {
        NANOS.div_ceil(u64::from(self.per_second.get()))
    }

    /// How far ahead of now a bucket's time may be before a call is refused.
    fn tolerance(self) -> u64 {
        self.interval().saturating_mul(u64::from(self.burst.get()).saturating_sub(1))
    }
}

/// One bucket: whose, and when it is full again. The empty key is nobody's.
#[derive(Clone, Copy, Default)]
struct Bucket {
    key: u64,
    full_at: u64,
}

/// Buckets by key.
pub(crate) struct Table {
    rows: Vec<Mutex<[Bucket; ROW]>>,
    /// Keyed anew in each process, so that nobody can choose keys that fall together.
    hasher: RandomState,
}

impl Table {
    /// A table for at least so many buckets.
    pub(crate) fn new(buckets: usize) -> Self {
        let rows = buckets.div_ceil(ROW).clamp(1, 1 << 24).next_power_of_two();
        Self {
            rows: (0..rows).map(|_| Mutex::new([Bucket::default(); ROW])).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Takes one from the key's bucket. If there is none, says in how many nanoseconds there is one.
    pub(crate) fn take(&self, key: &impl Hash, rate: Rate, now: u64) -> Result<(), u64> {
        self.with(key, now, |full_at| {
            let begins = full_at.max(now);
            let ahead = begins.saturating_sub(now);
            match ahead.checked_sub(rate.tolerance()) {
                None | Some(0) => (begins.saturating_add(rate.interval()), Ok(())),
                Some(wait) => (full_at, Err(wait)),
            }
        })
    }

    /// Puts one back that was taken for nothing.
    pub(crate) fn give_back(&self, key: &impl Hash, rate: Rate, now: u64) {
        self.with(key, now, |full_at| (full_at.saturating_sub(rate.interval()), ()));
    }

    fn with<T>(&self, key: &impl Hash, now: u64, change: impl FnOnce(u64) -> (u64, T)) -> T {
        let hash = self.hasher.hash_one(key);
        // The row comes from the low bits and the key keeps them all, so equal keys are equal hashes.
        let mask = self.rows.len().saturating_sub(1);
        let index = usize::try_from(hash & u64::try_from(mask).unwrap_or(0)).unwrap_or(0);
        let key = hash.max(1);
        let Some(row) = self.rows.get(index) else { return change(0).1 };
        let mut row = row.lock().unwrap_or_else(PoisonError::into_inner);
        let found = row.iter().position(|bucket| bucket.key == key);
        // The bucket that is full soonest is the one whose loss changes least.
        let soonest = || row.iter().enumerate().min_by_key(|(_, bucket)| bucket.full_at).map(|(at, _)| at);
        let at = found.or_else(soonest);
        let Some(bucket) = at.and_then(|at| row.get_mut(at)) else { return change(0).1 };
        let (full_at, answer) = change(if found.is_some() { bucket.full_at } else { 0 });
        // Whoever has nothing to remember takes no place from those who have.
        if found.is_some() || full_at > now {
            *bucket = Bucket { key, full_at };
        }
        answer
    }

    #[cfg(test)]
    pub(crate) fn places(&self) -> usize {
        self.rows.len() * ROW
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_passes_then_the_rate_and_the_wait_is_as_long_as_it_says() {
        let (table, rate) = (Table::new(8), Rate::new(10, 3).unwrap());
        let mut now = 5 * NANOS;
        for _ in 0..3 {
            assert_eq!(table.take(&"a", rate, now), Ok(()));
        }
        let wait = table.take(&"a", rate, now).unwrap_err();
        assert_eq!(wait, NANOS / 10);
        assert!(table.take(&"a", rate, now + wait - 1).is_err());
        now += wait;
        assert_eq!(table.take(&"a", rate, now), Ok(()));
        assert!(table.take(&"a", rate, now).is_err());
        table.give_back(&"a", rate, now);
        assert_eq!(table.take(&"a", rate, now), Ok(()));
        assert_eq!(table.take(&"b", rate, now), Ok(()));
    }

    #[test]
    fn a_flood_of_keys_takes_no_memory_and_does_not_free_the_one_that_asked_most() {
        let (table, rate) = (Table::new(64), Rate::new(1, 100).unwrap());
        let passed = |calls: usize| (0..calls).filter(|_| table.take(&"busy", rate, 1).is_ok()).count();
        assert_eq!(passed(200), 100);
        for other in 0..100_000 {
            assert!(table.take(&other, rate, 1).is_ok(), "who comes new finds a full bucket");
        }
        assert_eq!((passed(100), table.places()), (0, 64));
    }

    proptest! {
        #[test]
        fn never_more_than_rate_times_time_and_burst(
            per_second in 1_u32..2000,
            burst in 1_u32..50,
            steps in prop::collection::vec(0_u64..200_000_000, 1..400),
        ) {
            let (table, rate) = (Table::new(8), Rate::new(per_second, burst).unwrap());
            let start = 1_000_000;
            let mut now = start;
            let mut passed = 0_u64;
            for step in steps {
                now += step;
                match table.take(&1, rate, now) {
                    Ok(()) => passed += 1,
                    Err(wait) => {
                        // What it says is exact: a moment before it is too early, and then it passes.
                        prop_assert!(wait > 0);
                        prop_assert!(table.take(&1, rate, now + wait - 1).is_err());
                        now += wait;
                        prop_assert!(table.take(&1, rate, now).is_ok());
                        passed += 1;
                    }
                }
                let most = u128::from(burst) * u128::from(NANOS)
                    + u128::from(now - start) * u128::from(per_second);
                prop_assert!(u128::from(passed) * u128::from(NANOS) <= most);
            }
        }
    }
}

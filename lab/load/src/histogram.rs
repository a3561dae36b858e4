//! Times in buckets that grow with them: 64 to each power of two, so a quantile is right within 1.6 %.

use std::time::Duration;

const SUB: u32 = 64;
const SUB_BITS: u32 = 6;
/// Microseconds up to 2^40, which is twelve days.
const BUCKETS: usize = (SUB * 36) as usize;

/// Counts of times.
#[derive(Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    count: u64,
    sum: u128,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], count: 0, sum: 0, max: 0 }
    }
}

impl Histogram {
    /// Adds a time.
    pub fn add(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let last = self.counts.len() - 1;
        self.counts[index(micros).min(last)] += 1;
        self.count += 1;
        self.sum += u128::from(micros);
        self.max = self.max.max(micros);
    }

    /// Adds another's times.
    pub fn merge(&mut self, other: &Self) {
        for (own, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *own += theirs;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.max)
    }

    /// The mean; zero of none.
    pub fn mean(&self) -> Duration {
        let mean = self.sum.checked_div(u128::from(self.count)).unwrap_or(0);
        Duration::from_micros(u64::try_from(mean).unwrap_or(u64::MAX))
    }

    /// The time that this share of all does not exceed: 0.99 is the 99th percentile.
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = (self.count as f64 * share.clamp(0.0, 1.0)).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (number, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_micros(upper(number).min(self.max));
            }
        }
        self.max()
    }
}

fn index(micros: u64) -> usize {
    if micros < u64::from(SUB) {
        return micros as usize;
    }
    let shift = micros.ilog2() - SUB_BITS;
    ((shift + 1) * SUB) as usize + ((micros >> shift) as usize - SUB as usize)
}

/// The last microsecond that a bucket holds.
fn upper(number: usize) -> u64 {
    let sub = SUB as usize;
    if number < sub {
        return number as u64;
    }
    let shift = number / sub - 1;
    let first = (number % sub + sub) as u64;
    ((first + 1) << shift) - 1
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_time_falls_into_the_bucket_that_holds_it() {
        for micros in (0..5_000).chain([65_535, 65_536, 1_000_000, 123_456_789, (1 << 36) + 12_345]) {
            let number = index(micros);
            assert!(upper(number) >= micros, "{micros}");
            assert!(number == 0 || upper(number - 1) < micros, "{micros}");
            assert!((upper(number) - micros) as f64 <= micros as f64 / 60.0, "{micros}");
        }
    }

    #[test]
    fn quantiles_of_a_thousand_times_are_as_counted() {
        let mut histogram = Histogram::default();
        let mut second = Histogram::default();
        for micros in 1..=1_000 {
            let own = if micros % 2 == 0 { &mut histogram } else { &mut second };
            own.add(Duration::from_micros(micros));
        }
        histogram.merge(&second);
        assert_eq!((histogram.count(), histogram.max()), (1_000, Duration::from_millis(1)));
        assert_eq!(histogram.mean(), Duration::from_micros(500));
        for (share, micros) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = histogram.quantile(share).as_micros() as f64;
            assert!((found - micros).abs() <= micros / 60.0, "{share}: {found}");
        }
    }

    #[test]
    fn a_time_without_bound_is_counted_in_the_last_bucket() {
        let mut histogram = Histogram::default();
        histogram.add(Duration::MAX);
        assert_eq!(histogram.count(), 1);
        assert_eq!(Histogram::default().quantile(0.5), Duration::ZERO);
    }
}

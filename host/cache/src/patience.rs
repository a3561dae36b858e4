//! How long and how often registries are asked.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
    /// The wait after attempt `number` (from 1): half of it fixed, half by chance, so that many hosts that were
    /// turned away together do not come back together.
    pub(crate) fn wait(&self, number: u32, asked_for: Option<Duration>) -> Duration {
        let doubled =
            self.first.saturating_mul(1_u32.checked_shl(number.saturating_sub(1)).unwrap_or(u32::MAX));
        let half = doubled.min(self.longest) / 2;
        let mut chance = [0; 4];
        // Without chance all hosts wait as long as the longest would.
        let share = match aws_lc_rs::rand::fill(&mut chance) {
            Ok(()) => f64::from(u32::from_le_bytes(chance)) / f64::from(u32::MAX),
            Err(_) => 1.0,
        };
        let own = half + half.mul_f64(share);
        asked_for.map_or(own, |asked| asked.max(own)).min(self.longest)
    }
}

/// `Retry-After` as seconds or as a date (RFC 9110, section 10.2.3); of the date's forms only the preferred one.
pub(crate) fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(u64::from(seconds)));
    }
    let now = now.duration_since(UNIX_EPOCH).ok()?;
    Some(Duration::from_secs(date(text)?).saturating_sub(now))
}

/// Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7, IMF-fixdate).
fn date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split([' ', ':']);
    let day: u64 = words.next()?.parse().ok()?;
    let name = words.next()?;
    let month = u64::try_from(MONTHS.iter().position(|month| *month == name)?).ok()? + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let mut clock = || words.next()?.parse::<u64>().ok();
    let (hour, minute, second) = (clock()?, clock()?, clock()?);
    if words.next() != Some("GMT") || !(1970..10_000).contains(&year) || !(1..=31).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days of the civil calendar, years counted from March so that a leap day is the last of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    Some((days.checked_sub(719_468)?) * 86_400 + hour * 3600 + minute * 60 + second)
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

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(retry_after(" 120 ", at(0)), Some(Duration::from_secs(120)));
        let text = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(retry_after(text, at(784_111_777 - 5)), Some(Duration::from_secs(5)));
        assert_eq!(retry_after(text, at(784_111_777 + 5)), Some(Duration::ZERO));
        assert_eq!(retry_after("Thu, 29 Feb 2024 00:00:00 GMT", at(1_709_164_800)), Some(Duration::ZERO));
        assert_eq!(
            retry_after("Fri, 01 Mar 2024 00:00:01 GMT", at(1_709_251_200)),
            Some(Duration::from_secs(1))
        );
        for wrong in [
            "",
            "-1",
            "soon",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sunday, 99 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(retry_after(wrong, at(0)), None, "{wrong}");
        }
    }
}

//! How long to wait before a server is asked again.
//!
//! SPEC: RFC 9110, sections 10.2.3 (Retry-After) and 5.6.7 (dates). INVARIANT: no wait is longer than the schedule's
//! longest, whatever a server says. Left out: clocks, chance, and how often one tries.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use std::time::Duration;

/// Waits between attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The wait before the second attempt; it doubles with each.
    pub first: Duration,
    /// The longest wait of one's own.
    pub longest: Duration,
    /// The longest wait that a server may ask for.
    pub longest_asked: Duration,
}

impl Schedule {
    /// The wait after attempt `number` (from 1): half of it fixed, half by `chance`, so that many who were turned away
    /// together do not come back together; at least as long as the server asked for.
    #[must_use]
    pub fn wait(&self, number: u32, chance: u8, asked: Option<Duration>) -> Duration {
        let doublings = number.saturating_sub(1).min(31);
        let doubled = self.first.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX));
        let half = doubled.min(self.longest).checked_div(2).unwrap_or_default();
        let share = half.checked_div(255).unwrap_or_default().saturating_mul(u32::from(chance));
        let own = half.saturating_add(share);
        asked.map_or(own, |asked| asked.min(self.longest_asked).max(own))
    }
}

/// Whether an answer with this HTTP status may be another one soon.
#[must_use]
pub const fn passes(status: u16) -> bool {
    // 501 says what a server cannot do at all.
    matches!(status, 408 | 425 | 429 | 500 | 502..=599)
}

/// `Retry-After` as seconds or as a date, of whose forms only the preferred one is read. `now` is in seconds since 1970.
#[must_use]
pub fn retry_after(text: &str, now: u64) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More than a century is as good as the longest wait.
        return Some(Duration::from_secs(text.parse::<u32>().unwrap_or(u32::MAX).into()));
    }
    Some(Duration::from_secs(date(text)?.saturating_sub(now)))
}

/// Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT` (IMF-fixdate).
fn date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split([' ', ':']);
    let day: u64 = words.next()?.parse().ok()?;
    let name = words.next()?;
    let month = u64::try_from(MONTHS.iter().position(|month| *month == name)?).ok()?;
    let year: u64 = words.next()?.parse().ok()?;
    let mut clock = || words.next()?.parse::<u64>().ok();
    let (hour, minute, second) = (clock()?, clock()?, clock()?);
    if words.next() != Some("GMT") || !(1970..10_000).contains(&year) || !(1..=31).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days of the civil calendar, years counted from March so that a leap day is the last of its year. Months count
    // from 0 here, January.
    let (year, month) = match month.checked_sub(2) {
        Some(month) => (year, month),
        None => (year.checked_sub(1)?, month.checked_add(10)?),
    };
    let leaps = (year / 4).checked_sub(year / 100)?.checked_add(year / 400)?;
    let before = year.checked_mul(365)?.checked_add(leaps)?;
    let within = month.checked_mul(153)?.checked_add(2)? / 5;
    let days = before.checked_add(within)?.checked_add(day)?.checked_sub(719_469)?;
    let seconds = hour.checked_mul(3600)?.checked_add(minute.checked_mul(60)?)?.checked_add(second)?;
    days.checked_mul(86_400)?.checked_add(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SCHEDULE: Schedule = Schedule {
        first: Duration::from_millis(250),
        longest: Duration::from_secs(10),
        longest_asked: Duration::from_secs(60),
    };

    #[test]
    fn waits_grow_to_a_bound_and_follow_the_server_no_further() {
        assert_eq!(SCHEDULE.wait(1, 0, None), Duration::from_millis(125));
        assert!(SCHEDULE.wait(1, 255, None) > Duration::from_millis(249));
        assert_eq!(SCHEDULE.wait(3, 0, None), Duration::from_millis(500));
        assert_eq!(SCHEDULE.wait(1000, 0, None), Duration::from_secs(5));
        assert_eq!(SCHEDULE.wait(1, 9, Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(SCHEDULE.wait(1, 9, Some(Duration::from_secs(7000))), Duration::from_secs(60));
        assert_eq!(SCHEDULE.wait(1, 0, Some(Duration::ZERO)), Duration::from_millis(125));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let second = |text: &str, now| retry_after(text, now).map(|wait| wait.as_secs());
        assert_eq!(second(" 120 ", 0), Some(120));
        assert_eq!(second("99999999999", 0), Some(u64::from(u32::MAX)));
        let text = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(second(text, 784_111_777 - 5), Some(5));
        assert_eq!(second(text, 784_111_777 + 5), Some(0));
        assert_eq!(second("Thu, 29 Feb 2024 00:00:00 GMT", 1_709_164_800 - 9), Some(9));
        assert_eq!(second("Fri, 01 Mar 2024 00:00:01 GMT", 1_709_251_200), Some(1));
        assert_eq!(second("Thu, 01 Jan 1970 00:00:09 GMT", 0), Some(9));
        for wrong in [
            "",
            "-1",
            "+1",
            "soon",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sunday, 99 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(retry_after(wrong, 0), None, "{wrong}");
        }
    }

    #[test]
    fn failures_of_servers_pass_and_refusals_do_not() {
        for status in [408, 425, 429, 500, 502, 503, 504, 599] {
            assert!(passes(status), "{status}");
        }
        for status in [200, 301, 400, 401, 403, 404, 410, 416, 501] {
            assert!(!passes(status), "{status}");
        }
    }

    proptest! {
        #[test]
        fn no_wait_is_longer_than_the_bounds(number: u32, chance: u8, asked: Option<u64>) {
            let wait = SCHEDULE.wait(number, chance, asked.map(Duration::from_secs));
            prop_assert!(wait <= SCHEDULE.longest_asked && wait >= SCHEDULE.first / 2);
        }

        #[test]
        fn no_text_gives_more_than_a_wait(text: String, now: u64) {
            let _ = retry_after(&text, now);
        }
    }
}

//! When something ends, as a person says it: a time, or how long from now.

use anyhow::{Context as _, Result, bail};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// When something ends.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Expiry {
    /// When it ends (RFC 3339), as in 2027-01-31T00:00:00Z.
    #[arg(long, value_name = "TIME", conflicts_with = "expires_in")]
    expires_at: Option<String>,
    /// How long from now it ends, as in 12h, 30d or 1y.
    #[arg(long, value_name = "TIME SPAN")]
    expires_in: Option<String>,
}

impl Expiry {
    /// The time in RFC 3339, if one was named.
    pub(crate) fn time(&self) -> Result<Option<String>> {
        match (&self.expires_at, &self.expires_in) {
            (Some(text), _) => time(text).map(Some),
            (None, Some(text)) => after(text, Timestamp::now()).map(Some),
            (None, None) => Ok(None),
        }
    }
}

/// A time as it was written, in the form that the broker stores.
pub(crate) fn time(text: &str) -> Result<String> {
    let at: Timestamp =
        text.parse().with_context(|| format!("{text:?} is no time; write it as in 2027-01-31T00:00:00Z"))?;
    seconds(at)
}

fn after(text: &str, now: Timestamp) -> Result<String> {
    let wrong = || format!("{text:?} is no time span; write it as in 12h, 30d or 1y");
    let span: Span = text.parse().with_context(wrong)?;
    if !span.is_positive() {
        bail!(wrong());
    }
    // Days and years have lengths in a calendar only; UTC's has no summer time.
    seconds(now.to_zoned(TimeZone::UTC).checked_add(span).with_context(wrong)?.timestamp())
}

fn seconds(at: Timestamp) -> Result<String> {
    Ok(Timestamp::from_second(at.as_second())?.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_span_counts_from_now_and_what_is_none_is_refused() {
        let now: Timestamp = "2028-02-28T10:00:00.5Z".parse().unwrap();
        for (text, end) in [
            ("12h", "2028-02-28T22:00:00Z"),
            ("2d", "2028-03-01T10:00:00Z"),
            ("1y", "2029-02-28T10:00:00Z"),
            ("90m", "2028-02-28T11:30:00Z"),
        ] {
            assert_eq!(after(text, now).unwrap(), end);
        }
        for text in ["", "30", "-1d", "0h", "soon", "99999y"] {
            assert!(after(text, now).is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_with_an_offset_is_told_in_utc() {
        assert_eq!(time("2027-01-31T02:00:00+02:00").unwrap(), "2027-01-31T00:00:00Z");
        assert!(time("2027-01-31").is_err() && time("tomorrow").is_err());
    }
}

//! Times of validity, joined over everything that a verdict rests on.

/// Seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// The earliest beginning.
    pub(crate) earliest: i64,
    /// The latest beginning: from then on all are valid.
    pub(crate) latest: i64,
    /// The earliest end: until then all are valid.
    pub(crate) until: i64,
}

impl Window {
    pub(crate) const fn new(from: i64, until: i64) -> Self {
        Self { earliest: from, latest: from, until }
    }

    pub(crate) fn of(certificate: &coffer_verify_x509::Certificate) -> Self {
        Self::new(certificate.not_before(), certificate.not_after())
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            earliest: self.earliest.min(other.earliest),
            latest: self.latest.max(other.latest),
            until: self.until.min(other.until),
        }
    }

    pub(crate) const fn holds(&self, at: i64) -> bool {
        self.latest <= at && at <= self.until
    }
}

/// RFC 3339.
pub(crate) fn text(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).to_string()
}

//! Counters and times for Prometheus. INVARIANT: every label is from a closed set, so that no caller makes series.

use std::sync::Arc;

use std::time::Duration;

use axum::http::{Method, StatusCode};
use coffer_server_limits::Class;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

type Labels = Vec<(&'static str, String)>;

/// The metrics of this process.
pub(crate) struct Metrics {
    registry: Registry,
    calls: Family<Labels, Counter>,
    times: Family<Labels, Histogram>,
    attested: Family<Labels, Counter>,
    decided: Family<Labels, Counter>,
    limited: Family<Labels, Counter>,
    pub(crate) connections: Gauge,
    tenants: Gauge,
    journal: JournalMetrics,
}

/// What the journal counts.
#[derive(Clone)]
pub(crate) struct JournalMetrics {
    entries: Counter,
    transactions: Counter,
    failures: Counter,
    times: Arc<Histogram>,
}

impl JournalMetrics {
    pub(crate) fn written(&self, entries: usize, time: Duration, good: bool) {
        match good {
            true => drop(self.entries.inc_by(entries as u64)),
            false => drop(self.failures.inc()),
        }
        self.transactions.inc();
        self.times.observe(time.as_secs_f64());
    }
}

fn times() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 2.0, 16))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("coffer");
        let calls = Family::<Labels, Counter>::default();
        let times = Family::<Labels, Histogram>::new_with_constructor(times);
        let attested = Family::<Labels, Counter>::default();
        let decided = Family::<Labels, Counter>::default();
        let limited = Family::<Labels, Counter>::default();
        let (connections, tenants) = (Gauge::default(), Gauge::default());
        let journal = JournalMetrics {
            entries: Counter::default(),
            transactions: Counter::default(),
            failures: Counter::default(),
            times: Arc::new(self::times()),
        };
        registry.register("calls", "Calls by route, method and status", calls.clone());
        registry.register("call_seconds", "Time of a call by route", times.clone());
        registry.register("attestations", "Attestations by TEE and result", attested.clone());
        registry.register("decisions", "Decisions about requests of attested guests", decided.clone());
        registry.register("rate_limited", "Calls refused for their rate, by class", limited.clone());
        registry.register("connections", "Open connections", connections.clone());
        registry.register("tenants_loaded", "Tenants held by this process", tenants.clone());
        registry.register("journal_entries", "Entries written down", journal.entries.clone());
        registry.register(
            "journal_transactions",
            "Transactions of the journal",
            journal.transactions.clone(),
        );
        registry.register("journal_failures", "Transactions that failed", journal.failures.clone());
        let journal_times = (*journal.times).clone();
        registry.register("journal_seconds", "Time of a transaction of the journal", journal_times);
        Self { registry, calls, times, attested, decided, limited, connections, tenants, journal }
    }
}

/// The methods that are counted by their name.
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "DELETE", "PATCH"];

impl Metrics {
    pub(crate) fn journal(&self) -> JournalMetrics {
        self.journal.clone()
    }

    pub(crate) fn called(&self, route: &'static str, method: &Method, status: StatusCode, time: Duration) {
        let method = METHODS.iter().find(|name| **name == method.as_str()).unwrap_or(&"other");
        let labels = vec![
            ("route", route.to_owned()),
            ("method", (*method).to_owned()),
            ("status", status.as_u16().to_string()),
        ];
        self.calls.get_or_create(&labels).inc();
        self.times.get_or_create(&vec![("route", route.to_owned())]).observe(time.as_secs_f64());
    }

    /// `tee` and `status` are of closed sets; of the code, which policies may invent, it counts whether there is one.
    pub(crate) fn attested(&self, tee: &str, status: &str, code: Option<&str>) {
        let labels = vec![
            ("tee", tee.to_owned()),
            ("status", status.to_owned()),
            ("with_cause", code.is_some().to_string()),
        ];
        self.attested.get_or_create(&labels).inc();
    }

    pub(crate) fn decided(&self, outcome: &'static str, written: bool) {
        let labels = vec![("outcome", outcome.to_owned()), ("written", written.to_string())];
        self.decided.get_or_create(&labels).inc();
    }

    pub(crate) fn limited(&self, class: Class) {
        self.limited.get_or_create(&vec![("class", class.name().to_owned())]).inc();
    }

    /// As Prometheus reads it (OpenMetrics text).
    pub(crate) fn text(&self, tenants: usize) -> Result<String, std::fmt::Error> {
        self.tenants.set(i64::try_from(tenants).unwrap_or(i64::MAX));
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

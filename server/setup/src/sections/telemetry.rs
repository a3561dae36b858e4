//! `[telemetry]`.

use std::path::PathBuf;
use std::time::Duration;

use coffer_server_http::Pause;
use serde::Deserialize;
use toml::Table;

use crate::SetupError;

/// Where traces go: `[telemetry]`.
#[derive(Clone, Debug)]
pub struct TelemetrySection {
    /// The collector: `http://…` or `https://…`, OTLP over gRPC.
    pub endpoint: String,
    /// The authority of its certificate, in PEM; for `https://`.
    pub ca: Option<PathBuf>,
    /// What the spans say that they come from.
    pub service_name: String,
    /// The share of calls that are traced, unless the caller decided.
    pub sample: f64,
    /// How long one export may take.
    pub timeout: Duration,
}

impl TelemetrySection {
    /// Reads the section; nothing where it has no endpoint.
    pub fn read(table: &Table) -> Result<Option<Self>, SetupError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Form {
            #[serde(default)]
            endpoint: String,
            ca: Option<PathBuf>,
            service_name: Option<String>,
            sample: Option<f64>,
            timeout: Option<Pause>,
        }
        const SECTION: &str = "telemetry";
        let form: Form = super::form(SECTION, table.clone())?;
        if form.endpoint.is_empty() {
            return Ok(None);
        }
        let is_tls = form.endpoint.starts_with("https://");
        if !is_tls && !form.endpoint.starts_with("http://") {
            let why =
                format!("{:?} is no endpoint; expected http://host:port or https://host:port", form.endpoint);
            return Err(SetupError::section(SECTION, why));
        }
        if is_tls != form.ca.is_some() {
            return Err(SetupError::section(SECTION, "expected https:// and ca together, or neither"));
        }
        let sample = form.sample.unwrap_or(1.0);
        if !(0.0..=1.0).contains(&sample) {
            return Err(SetupError::section(SECTION, format!("sample is {sample}, expected 0.0 to 1.0")));
        }
        Ok(Some(Self {
            endpoint: form.endpoint,
            ca: form.ca,
            service_name: form.service_name.unwrap_or_else(|| "coffer-broker".to_owned()),
            sample,
            timeout: form.timeout.map_or(Duration::from_secs(10), |pause| pause.0),
        }))
    }
}

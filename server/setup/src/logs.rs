//! The log on standard error: JSON for machines, text for people.

use std::str::FromStr;

use tracing::Subscriber;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer};

/// The variables that say what is logged; the first one that is set counts.
const VARIABLES: [&str; 2] = ["COFFER_LOG", "RUST_LOG"];
const USUAL: &str = "info";

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For a person who reads along.
    Text,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            other => Err(format!("{other:?} is no form of a log; expected json or text")),
        }
    }
}

/// What writes the log.
pub(crate) fn layer<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let named = VARIABLES.iter().find_map(|name| EnvFilter::try_from_env(name).ok());
    let filter = named.unwrap_or_else(|| EnvFilter::new(USUAL));
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Json => layer.json().with_filter(filter).boxed(),
        LogFormat::Text => layer.with_ansi(false).with_filter(filter).boxed(),
    }
}

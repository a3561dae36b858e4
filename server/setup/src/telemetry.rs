//! Spans of calls, exported by OTLP over gRPC where the configuration names a collector.
//!
//! Only spans of ours leave, and of them only their fields: events are the log, which stays. What stands in a field
//! is public among operators: routes, tenants, statuses. A collector that is away costs spans and never a call.
//! SPEC: OpenTelemetry Protocol 1.x, `opentelemetry.proto.collector.trace.v1.TraceService/Export`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData};
use tokio::runtime::Runtime;
use tonic::transport::{Certificate, ClientTlsConfig};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use crate::SetupError;
use crate::logs::{self, LogFormat};
use crate::sections::TelemetrySection;

/// What targets of our own spans begin with.
const OURS: &str = "coffer";
/// How long the last spans may take to leave.
const LAST: Duration = Duration::from_secs(5);

/// The log and the spans of this process, until it is stopped.
pub struct Telemetry {
    exporting: Option<Exporting>,
}

struct Exporting {
    provider: SdkTracerProvider,
    /// The exporter's own, so that it does not wait behind calls.
    runtime: Runtime,
}

impl Telemetry {
    /// Starts the log, and the export of spans where there is a collector. Once in a process.
    pub fn start(format: LogFormat, section: Option<&TelemetrySection>) -> Result<Self, SetupError> {
        let exporting = section.map(export).transpose()?;
        let spans = exporting.as_ref().map(|exporting| {
            let tracer = exporting.provider.tracer("coffer-broker");
            let ours = filter_fn(|metadata| metadata.is_span() && metadata.target().starts_with(OURS));
            tracing_opentelemetry::layer::<Registry>()
                .with_tracer(tracer)
                .with_location(false)
                .with_threads(false)
                .with_filter(ours)
        });
        tracing_subscriber::registry()
            .with(spans)
            .with(logs::layer(format))
            .try_init()
            .map_err(|error| SetupError::Telemetry(format!("the log was started before: {error}")))?;
        Ok(Self { exporting })
    }

    /// Sends what is left. Not to be called on a thread that serves: it waits.
    pub fn stop(self) {
        let Some(Exporting { provider, runtime }) = self.exporting else { return };
        if let Err(error) = provider.shutdown_with_timeout(LAST) {
            tracing::warn!(%error, "the last spans were not exported");
        }
        runtime.shutdown_background();
    }
}

fn export(section: &TelemetrySection) -> Result<Exporting, SetupError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("spans")
        .enable_all()
        .build()
        .map_err(SetupError::Threads)?;
    // The channel's task goes where it is made.
    let inside = runtime.enter();
    let mut builder =
        SpanExporter::builder().with_tonic().with_endpoint(&section.endpoint).with_timeout(section.timeout);
    if let Some(ca) = &section.ca {
        let pem = std::fs::read(ca).map_err(SetupError::file("cannot read", ca))?;
        builder = builder.with_tls_config(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)));
    }
    let exporter = builder.build().map_err(|error| SetupError::Telemetry(error.to_string()))?;
    let resource = Resource::builder_empty()
        .with_service_name(section.service_name.clone())
        .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(section.sample)));
    let provider = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_sampler(sampler)
        .with_batch_exporter(Told { exporter, failing: Arc::default() })
        .build();
    drop(inside);
    Ok(Exporting { provider, runtime })
}

/// An exporter whose failure is told once, and whose recovery too.
#[derive(Debug)]
struct Told {
    exporter: SpanExporter,
    failing: Arc<AtomicBool>,
}

impl opentelemetry_sdk::trace::SpanExporter for Told {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.exporter.export(batch).await;
        match (&result, self.failing.swap(result.is_err(), Ordering::SeqCst)) {
            (Err(error), false) => tracing::warn!(%error, "spans cannot be exported and are dropped"),
            (Ok(()), true) => tracing::info!("spans are exported again"),
            _ => (),
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

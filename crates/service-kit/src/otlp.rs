//! Traces and metrics for an OpenTelemetry collector (OTLP), as the standard `OTEL_*` variables say.
//! Without them nothing of this costs anything.

mod exporters;
mod variables;

use std::time::Duration;

use opentelemetry::{
    KeyValue,
    metrics::{Meter, MeterProvider as _},
    trace::TracerProvider as _,
};
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::{
    Resource,
    metrics::SdkMeterProvider,
    trace::{SdkTracer, SdkTracerProvider},
};
use tokio::sync::oneshot;
use uuid::Uuid;

use self::variables::{Signal, Variables};

/// How long the last batches may take at the end of the process.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// The export of one service's traces and metrics. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Otlp {
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
}

/// What is wrong with the variables. No text repeats a value: a URL or a header may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OtlpError {
    /// A variable cannot be used.
    #[error("invalid settings:\n  {0}: {1}")]
    Variable(String, &'static str),
    /// The exporter of a signal cannot be made.
    #[error("the OTLP exporter of {0} cannot be made: see the OTEL_EXPORTER_OTLP_* variables")]
    Exporter(&'static str),
}

impl Otlp {
    /// Starts what the environment asks for; nothing, where it asks for nothing. Must be called
    /// inside the runtime.
    ///
    /// # Errors
    ///
    /// Where a variable cannot be used, such as an endpoint that is no URL.
    pub fn start(service: &'static str, version: &'static str) -> Result<Self, OtlpError> {
        let variables = Variables::read()?;
        let resource = resource(service, version);
        let failed =
            |signal: &'static str| move |_: ExporterBuildError| OtlpError::Exporter(signal);
        let mut otlp = Self::default();
        if let Some(protocol) = variables.protocol(Signal::Traces) {
            let exporter = exporters::spans(service, protocol).map_err(failed("traces"))?;
            let provider = SdkTracerProvider::builder().with_resource(resource.clone());
            otlp.traces = Some(provider.with_batch_exporter(exporter).build());
        }
        if let Some(protocol) = variables.protocol(Signal::Metrics) {
            let exporter = exporters::metrics(service, protocol).map_err(failed("metrics"))?;
            let provider = SdkMeterProvider::builder().with_resource(resource);
            otlp.metrics = Some(provider.with_periodic_exporter(exporter).build());
        }
        if otlp.traces.is_some() || otlp.metrics.is_some() {
            let (traces, metrics) = (otlp.traces.is_some(), otlp.metrics.is_some());
            tracing::info!(service, traces, metrics, "sending telemetry by OTLP");
        }
        Ok(otlp)
    }

    pub(crate) fn tracer(&self) -> Option<SdkTracer> {
        self.traces.as_ref().map(|provider| provider.tracer("latchkey"))
    }

    pub(crate) fn meter(&self) -> Option<Meter> {
        self.metrics.as_ref().map(|provider| provider.meter("latchkey"))
    }

    /// Sends what has not been sent yet, as far as the collector takes it in time.
    pub(crate) async fn shut_down(self) {
        // The providers block until their threads have finished, however long that takes. Threads of
        // our own can be left behind at the end of the process; those of the runtime could not.
        let traces = detached(move || self.traces.map(|provider| provider.shutdown()));
        let metrics = detached(move || self.metrics.map(|provider| provider.shutdown()));
        let flushed = async { tokio::join!(traces, metrics) };
        if tokio::time::timeout(FLUSH_TIMEOUT, flushed).await.is_err() {
            tracing::warn!("the collector does not take the last telemetry: it is lost");
        }
    }
}

/// Runs `work` on a thread that nobody has to wait for.
async fn detached<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) {
    let (done, ended) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = done.send(work());
    });
    let _ = ended.await;
}

/// What the telemetry is about. Each start is an instance of its own: two replicas must not be added
/// up as if they were one.
fn resource(service: &'static str, version: &'static str) -> Resource {
    let mut attributes = vec![KeyValue::new("service.version", version)];
    if !variables::names_an_instance() {
        attributes.push(KeyValue::new("service.instance.id", Uuid::new_v4().to_string()));
    }
    let builder = Resource::builder().with_attributes(attributes);
    // The SDK reads the variable; without it, it would not know who this is.
    if variables::names_a_service() {
        builder.build()
    } else {
        builder.with_service_name(service).build()
    }
}

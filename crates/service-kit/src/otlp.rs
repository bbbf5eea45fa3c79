//! Export of traces and metrics to an OpenTelemetry collector (OTLP), configured by the standard
//! `OTEL_*` variables. Without them it costs nothing.

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

/// The time limit for sending the last batches at the end of the process.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// The exporters of one service's traces and metrics. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Otlp {
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
}

/// An error in the variables. No text quotes a value, because a URL or header may contain a
/// password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OtlpError {
    /// A variable cannot be used.
    #[error("invalid settings:\n  {0}: {1}")]
    Variable(String, &'static str),
    /// The exporter of a signal cannot be created.
    #[error("the OTLP exporter of {0} cannot be made: see the OTEL_EXPORTER_OTLP_* variables")]
    Exporter(&'static str),
}

impl Otlp {
    /// Starts the exporters that the environment configures, if any. Must be called inside the
    /// runtime.
    ///
    /// # Errors
    ///
    /// If a variable is invalid, for example an endpoint that is not a URL.
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

    /// Sends the remaining data, as far as the collector accepts it in time.
    pub(crate) async fn shut_down(self) {
        // The providers block until their threads have finished, which may take arbitrarily long.
        // Separate threads can be abandoned at the end of the process; threads of the runtime
        // cannot.
        let traces = detached(move || self.traces.map(|provider| provider.shutdown()));
        let metrics = detached(move || self.metrics.map(|provider| provider.shutdown()));
        let flushed = async { tokio::join!(traces, metrics) };
        if tokio::time::timeout(FLUSH_TIMEOUT, flushed).await.is_err() {
            tracing::warn!("the collector does not take the last telemetry: it is lost");
        }
    }
}

/// Runs `work` on a thread that may be abandoned.
async fn detached<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) {
    let (done, ended) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = done.send(work());
    });
    let _ = ended.await;
}

/// The resource attributes. Each start is an instance of its own, so that the data of two replicas
/// is not merged.
fn resource(service: &'static str, version: &'static str) -> Resource {
    let mut attributes = vec![KeyValue::new("service.version", version)];
    if !variables::names_an_instance() {
        attributes.push(KeyValue::new("service.instance.id", Uuid::new_v4().to_string()));
    }
    let builder = Resource::builder().with_attributes(attributes);
    // The SDK reads the variable itself. If it is not set, the name of the service is set here.
    if variables::names_a_service() {
        builder.build()
    } else {
        builder.with_service_name(service).build()
    }
}

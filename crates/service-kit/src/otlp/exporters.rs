//! The exporters, and the logging of their failures.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{
    ExporterBuildError, MetricExporter, Protocol as Encoding, SpanExporter, WithExportConfig as _,
    WithHttpConfig as _,
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    metrics::{Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
    trace::{SpanData, SpanExporter as ExportsSpans},
};
use rustls::crypto::aws_lc_rs;
use tokio::runtime::Handle;

use super::variables::Protocol;

/// The timeout of sending a batch.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_ANSWER: usize = 64 * 1024;

pub(super) fn spans(
    service: &'static str,
    protocol: Protocol,
) -> Result<LoggingExporter<SpanExporter>, ExporterBuildError> {
    let builder = SpanExporter::builder();
    let exporter = match protocol {
        Protocol::Grpc => builder.with_tonic().build(),
        Protocol::Http => {
            let builder = builder.with_http().with_http_client(Http::new()?);
            builder.with_protocol(Encoding::HttpBinary).build()
        }
    };
    Ok(LoggingExporter::new(exporter?, service, "traces"))
}

pub(super) fn metrics(
    service: &'static str,
    protocol: Protocol,
) -> Result<LoggingExporter<MetricExporter>, ExporterBuildError> {
    let builder = MetricExporter::builder();
    let exporter = match protocol {
        Protocol::Grpc => builder.with_tonic().build(),
        Protocol::Http => {
            let builder = builder.with_http().with_http_client(Http::new()?);
            builder.with_protocol(Encoding::HttpBinary).build()
        }
    };
    Ok(LoggingExporter::new(exporter?, service, "metrics"))
}

/// An exporter that logs once when the collector becomes unavailable, and once when it is back.
#[derive(Debug)]
pub(super) struct LoggingExporter<E> {
    exporter: E,
    service: &'static str,
    signal: &'static str,
    failing: AtomicBool,
}

impl<E> LoggingExporter<E> {
    fn new(exporter: E, service: &'static str, signal: &'static str) -> Self {
        Self { exporter, service, signal, failing: AtomicBool::new(false) }
    }

    fn tell(&self, result: OTelSdkResult) -> OTelSdkResult {
        let (service, signal) = (self.service, self.signal);
        let failed = result.is_err();
        if self.failing.swap(failed, Relaxed) != failed {
            match &result {
                Ok(()) => tracing::info!(service, signal, "the collector takes telemetry again"),
                Err(error) => tracing::warn!(
                    service,
                    signal,
                    %error,
                    "the collector takes no telemetry: it is lost until it does"
                ),
            }
        }
        result
    }
}

impl ExportsSpans for LoggingExporter<SpanExporter> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.tell(self.exporter.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl PushMetricExporter for LoggingExporter<MetricExporter> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.tell(self.exporter.export(metrics).await)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

/// An HTTP client for exporters. They run on their own threads, outside the runtime that hyper
/// needs, so each request is spawned on the runtime.
struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    runtime: Handle,
}

impl Http {
    fn new() -> Result<Self, ExporterBuildError> {
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(aws_lc_rs::default_provider())
            .map_err(|error| ExporterBuildError::InternalFailure(error.to_string()))?
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, runtime: Handle::current() })
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Http")
    }
}

#[async_trait]
impl HttpClient for Http {
    async fn send_bytes(
        &self,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<Bytes>, HttpError> {
        let call = self.client.request(request.map(Full::new));
        let exchange = async move {
            let (head, body) = call.await?.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
            Ok(http::Response::from_parts(head, body))
        };
        let task = async { tokio::time::timeout(EXPORT_TIMEOUT, exchange).await? };
        self.runtime.spawn(task).await?
    }
}

//! The access log: one line for each request, on both edges.

use std::time::Instant;

use http::StatusCode;
use opentelemetry::KeyValue;
use tracing::{Level, Span};

use crate::{
    code::grpc_name,
    context::RequestContext,
    metrics::Metrics,
    trace::{RequestSpan, SpanEnd},
};

/// One request under way.
#[derive(Debug)]
pub(crate) struct Access {
    metrics: Metrics,
    started: Instant,
    endpoint: String,
    method: &'static str,
    /// Taken when the request has ended.
    span: Option<RequestSpan>,
}

/// How a request ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ending {
    Http(StatusCode),
    Grpc(tonic::Code),
    /// The client left before the answer.
    Cancelled,
}

impl Ending {
    /// By the names of OpenTelemetry's semantic conventions.
    fn attributes(self, endpoint: &str) -> SpanEnd {
        let method = endpoint.trim_start_matches('/');
        match self {
            Self::Http(status) => {
                let code = i64::from(status.as_u16());
                let mut attributes = vec![KeyValue::new("http.response.status_code", code)];
                if status.is_server_error() {
                    attributes.push(KeyValue::new("error.type", status.as_str().to_owned()));
                }
                SpanEnd { name: None, attributes }
            }
            Self::Grpc(status) => {
                let mut attributes = vec![
                    KeyValue::new("rpc.method", method.to_owned()),
                    KeyValue::new("rpc.response.status_code", grpc_name(status)),
                ];
                if is_fault(status) {
                    attributes.push(KeyValue::new("error.type", grpc_name(status)));
                }
                SpanEnd { name: Some(method.to_owned()), attributes }
            }
            Self::Cancelled => {
                SpanEnd { name: None, attributes: vec![KeyValue::new("error.type", "cancelled")] }
            }
        }
    }
}

impl Access {
    pub(crate) fn start(
        metrics: Metrics,
        endpoint: String,
        method: &'static str,
        span: RequestSpan,
    ) -> Self {
        Self { metrics, started: Instant::now(), endpoint, method, span: Some(span) }
    }

    /// Writes the line and counts the request.
    pub(crate) fn end(mut self, ending: Ending) {
        self.write(ending);
    }

    fn write(&mut self, ending: Ending) {
        let Some(span) = self.span.take() else {
            return;
        };
        let took = self.started.elapsed();
        let (endpoint, method) = (self.endpoint.as_str(), self.method);
        match ending {
            Ending::Http(status) => self.metrics.http(method, endpoint, status.as_u16(), took),
            Ending::Grpc(status) => self.metrics.rpc(endpoint, grpc_name(status), took),
            Ending::Cancelled => self.metrics.http(method, endpoint, CLIENT_CLOSED_REQUEST, took),
        }
        let (status, grpc_status, failed) = match ending {
            Ending::Http(status) => (i32::from(status.as_u16()), None, status.is_server_error()),
            Ending::Grpc(status) => (status as i32, Some(grpc_name(status)), is_fault(status)),
            Ending::Cancelled => (i32::from(CLIENT_CLOSED_REQUEST), None, false),
        };
        span.end(|| ending.attributes(endpoint), failed);
        let latency_ms = (took.as_secs_f64() * 1e6).round() / 1e3;
        // A level must be known to the macro, hence the two branches.
        if failed {
            tracing::event!(target: "access", Level::WARN, endpoint, method, status, grpc_status, latency_ms, "request");
        } else {
            tracing::event!(target: "access", Level::INFO, endpoint, method, status, grpc_status, latency_ms, "request");
        }
    }

    /// Names of methods that do not exist are the client's invention; the log's and the metrics'
    /// must stay few.
    pub(crate) fn unmatched(mut self) -> Self {
        UNMATCHED.clone_into(&mut self.endpoint);
        self
    }
}

/// What proxies log for a client that has left; no registered status says it.
const CLIENT_CLOSED_REQUEST: u16 = 499;
/// The method of all gRPC calls.
pub(crate) const GRPC: &str = "GRPC";
/// The endpoint of a request that no route matches.
pub(crate) const UNMATCHED: &str = "unmatched";

/// Whether a status tells of a fault of the service.
fn is_fault(status: tonic::Code) -> bool {
    use tonic::Code;

    matches!(status, Code::Internal | Code::Unknown | Code::Unavailable | Code::DataLoss)
}

impl Drop for Access {
    /// A client that leaves before the answer takes its request's future with it.
    fn drop(&mut self) {
        let is_grpc = self.method == GRPC;
        self.write(if is_grpc { Ending::Grpc(tonic::Code::Cancelled) } else { Ending::Cancelled });
    }
}

/// The span that puts `service`, `request_id` and `trace_id` on every log line of a request. Of the
/// highest level, so that it is there whichever lines are logged.
pub(crate) fn span(service: &'static str, context: &RequestContext) -> Span {
    tracing::error_span!(
        "request",
        service,
        request_id = context.request_id,
        trace_id = context.trace_id,
    )
}

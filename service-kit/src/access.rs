//! The access log: one line for each request, on both edges.

use std::time::Instant;

use http::StatusCode;
use tracing::{Level, Span};

use crate::{code::grpc_name, context::RequestContext, metrics::Metrics};

/// One request under way.
#[derive(Debug)]
pub(crate) struct Access {
    metrics: Metrics,
    started: Instant,
    endpoint: String,
    method: &'static str,
    logged: bool,
}

/// How a request ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ending {
    Http(StatusCode),
    Grpc(tonic::Code),
    /// The client left before the answer.
    Cancelled,
}

impl Access {
    pub(crate) fn start(metrics: Metrics, endpoint: String, method: &'static str) -> Self {
        Self { metrics, started: Instant::now(), endpoint, method, logged: false }
    }

    /// Writes the line and counts the request.
    pub(crate) fn end(mut self, ending: Ending) {
        self.write(ending);
    }

    fn write(&mut self, ending: Ending) {
        self.logged = true;
        let took = self.started.elapsed();
        let (endpoint, method) = (self.endpoint.as_str(), self.method);
        match ending {
            Ending::Http(status) => self.metrics.http(method, endpoint, status.as_u16(), took),
            Ending::Grpc(status) => self.metrics.rpc(endpoint, grpc_name(status), took),
            Ending::Cancelled => {}
        }
        let (status, grpc_status, failed) = match ending {
            Ending::Http(status) => (i32::from(status.as_u16()), None, status.is_server_error()),
            Ending::Grpc(status) => (status as i32, Some(grpc_name(status)), is_fault(status)),
            Ending::Cancelled => (CLIENT_CLOSED_REQUEST, None, false),
        };
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
const CLIENT_CLOSED_REQUEST: i32 = 499;
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
        if !self.logged {
            self.write(Ending::Cancelled);
        }
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

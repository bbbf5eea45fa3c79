//! The access log: one line for each request, on both edges.

use std::time::Instant;

use tracing::{Level, Span};

use crate::context::RequestContext;

/// One request under way.
#[derive(Debug)]
pub(crate) struct Access {
    started: Instant,
    endpoint: String,
    method: &'static str,
    logged: bool,
}

impl Access {
    pub(crate) fn start(endpoint: String, method: &'static str) -> Self {
        Self {
            started: Instant::now(),
            endpoint,
            method,
            logged: false,
        }
    }

    /// Writes the line. `status` is the HTTP status, or the name of the gRPC status; `failed` says
    /// whether it was a fault of the service.
    pub(crate) fn log(mut self, endpoint: Option<&str>, status: &str, failed: bool) {
        self.write(endpoint, status, failed);
        self.logged = true;
    }

    fn write(&self, endpoint: Option<&str>, status: &str, failed: bool) {
        let latency_ms = (self.started.elapsed().as_secs_f64() * 1e6).round() / 1e3;
        let (endpoint, method) = (endpoint.unwrap_or(&self.endpoint), self.method);
        // A level must be known to the macro, hence the two branches.
        if failed {
            tracing::event!(target: "access", Level::WARN, endpoint, method, status, latency_ms, "request");
        } else {
            tracing::event!(target: "access", Level::INFO, endpoint, method, status, latency_ms, "request");
        }
    }
}

impl Drop for Access {
    /// A client that leaves before the answer takes its request's future with it.
    fn drop(&mut self) {
        if !self.logged {
            self.write(None, "CANCELLED", false);
        }
    }
}

/// The span that puts `service`, `request_id` and `trace_id` on every log line of a request.
pub(crate) fn span(service: &'static str, context: &RequestContext) -> Span {
    tracing::info_span!(
        target: "access",
        "request",
        service,
        request_id = context.request_id,
        trace_id = context.trace_id,
    )
}

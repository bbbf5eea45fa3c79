//! The access log: one line for each request, on both edges. It says who (`account`), from where
//! (`network`) and, of a refusal, why (`code`).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use http::StatusCode;
use opentelemetry::KeyValue;
use tracing::{Level, Span};

use crate::{
    catalogue::grpc_name,
    client_address::Network,
    context::RequestContext,
    metrics::Metrics,
    trace::{RequestSpan, SpanEnd},
};

tokio::task_local! {
    static NOTES: Notes;
}

/// What becomes known of a request while it is answered. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    account: Option<String>,
    code: Option<&'static str>,
}

impl Notes {
    /// Answers a request whose notes these are.
    pub(crate) async fn during<T>(self, answer: impl Future<Output = T>) -> T {
        NOTES.scope(self, answer).await
    }

    pub(crate) fn code(&self, code: &'static str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).code = Some(code);
    }
}

/// Notes for the access line whose request the present task answers: the account that it comes from
/// or that it tries to log in to.
pub fn note_account(id: impl std::fmt::Display) {
    let _ = NOTES.try_with(|notes| {
        let mut noted = notes.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.account = Some(id.to_string());
    });
}

/// The account that was noted, for other lines of the same request.
#[must_use]
pub fn noted_account() -> Option<String> {
    let noted = NOTES
        .try_with(|notes| notes.0.lock().unwrap_or_else(PoisonError::into_inner).account.clone());
    noted.ok().flatten()
}

/// Notes the code of an error that a gRPC call is answered with.
pub(crate) fn note_code(code: &'static str) {
    let _ = NOTES.try_with(|notes| notes.code(code));
}

/// One request under way.
#[derive(Debug)]
pub(crate) struct Access {
    metrics: Metrics,
    started: Instant,
    endpoint: String,
    method: &'static str,
    network: Network,
    notes: Notes,
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
        network: Network,
        span: RequestSpan,
    ) -> Self {
        let (started, notes) = (Instant::now(), Notes::default());
        Self { metrics, started, endpoint, method, network, notes, span: Some(span) }
    }

    /// What becomes known of the request.
    pub(crate) fn notes(&self) -> Notes {
        self.notes.clone()
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
        let noted =
            std::mem::take(&mut *self.notes.0.lock().unwrap_or_else(PoisonError::into_inner));
        let is_refused = status >= 400 || grpc_status.is_some_and(|status| status != "OK");
        let (account, code) = (noted.account, noted.code.filter(|_| is_refused));
        let network = tracing::field::display(self.network);
        // A level must be known to the macro, hence the branches.
        macro_rules! line {
            ($level:expr) => {
                tracing::event!(
                    target: "access", $level, endpoint, method, status, grpc_status, latency_ms, code,
                    network, account, "request"
                )
            };
        }
        if is_probe(endpoint) {
            line!(Level::DEBUG);
        } else if failed {
            line!(Level::WARN);
        } else {
            line!(Level::INFO);
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

/// Whether an endpoint is one that machines ask every few seconds.
fn is_probe(endpoint: &str) -> bool {
    matches!(endpoint, "/livez" | "/readyz" | "/health" | "/metrics")
        || endpoint.starts_with("/grpc.health.v1.Health/")
}

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

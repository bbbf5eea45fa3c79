//! The access log: one line for each request, on both edges. It contains the account (`account`),
//! the client's network (`network`) and, for a refused request, the reason (`code`).

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use http::StatusCode;
use opentelemetry::{KeyValue, trace::FutureExt as _};
use tracing::Level;

use crate::{
    catalogue::grpc_name, client_address::Network, code, context::RequestContext, edge::Edge,
    trace::RequestSpan,
};

tokio::task_local! {
    static NOTES: Notes;
}

/// What is known about a request while it is processed. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Notes(Arc<Known>);

#[derive(Debug)]
struct Known {
    service: &'static str,
    context: Arc<RequestContext>,
    noted: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    account: Option<String>,
    code: Option<&'static str>,
    is_poll: bool,
}

impl Notes {
    pub(crate) fn new(service: &'static str, context: &Arc<RequestContext>) -> Self {
        let (context, noted) = (Arc::clone(context), Mutex::default());
        Self(Arc::new(Known { service, context, noted }))
    }

    /// Processes a request to which these notes belong.
    pub(crate) async fn during<T>(self, answer: impl Future<Output = T>) -> T {
        NOTES.scope(self, answer).await
    }

    pub(crate) fn code(&self, code: &'static str) {
        self.noted().code = Some(code);
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the log lines, notes and spans of a future belong to the present request, even if it outlives the
/// request or runs in another task.
pub fn in_present_request<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let notes = NOTES.try_with(Notes::clone).ok();
    let future = async move {
        match notes {
            Some(notes) => notes.during(future).await,
            None => future.await,
        }
    };
    future.with_context(opentelemetry::Context::current())
}

/// Calls `each` with the names and values that every log line of the present request has. They are kept
/// here and not in a span of `tracing`, which would cost every request some allocations and locks.
pub(crate) fn for_fields_of_request(mut each: impl FnMut(&'static str, &str)) {
    let _ = NOTES.try_with(|Notes(known)| {
        each("service", known.service);
        each("request_id", &known.context.request_id);
        each("trace_id", &known.context.trace_id);
    });
}

/// Records the account that the present request comes from, or tries to log in to, for its access
/// line.
pub fn note_account(id: impl std::fmt::Display) {
    let _ = NOTES.try_with(|notes| notes.noted().account = Some(id.to_string()));
}

/// Records that the present request is one that other services repeat every few seconds. Its access
/// line has the level DEBUG, as that of a probe has, unless it is refused for another reason than that
/// the service is unavailable, which its health checks log.
pub fn note_poll() {
    let _ = NOTES.try_with(|notes| notes.noted().is_poll = true);
}

/// The recorded account, for other log lines of the same request.
#[must_use]
pub fn noted_account() -> Option<String> {
    NOTES.try_with(|notes| notes.noted().account.clone()).ok().flatten()
}

/// Records the error code of a gRPC response.
pub(crate) fn note_code(code: &'static str) {
    let _ = NOTES.try_with(|notes| notes.code(code));
}

/// A request in progress.
#[derive(Debug)]
pub(crate) struct Access {
    edge: Arc<Edge>,
    started: Instant,
    endpoint: String,
    method: &'static str,
    network: Network,
    notes: Notes,
    /// `None` once the request has ended.
    span: Option<RequestSpan>,
}

/// How a request ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ending {
    Http(StatusCode),
    Grpc(tonic::Code),
    /// The client disconnected before the response.
    Cancelled,
}

impl Ending {
    /// Whether the answer is an error, or there is none.
    fn is_refusal(self) -> bool {
        match self {
            Self::Http(status) => status.is_client_error() || status.is_server_error(),
            Self::Grpc(status) => status != tonic::Code::Ok,
            Self::Cancelled => true,
        }
    }

    /// Whether the service failed.
    fn is_fault(self) -> bool {
        match self {
            Self::Http(status) => status.is_server_error(),
            Self::Grpc(status) => is_fault(status),
            Self::Cancelled => false,
        }
    }

    /// Whether the service cannot answer at present.
    fn is_unavailable(self) -> bool {
        match self {
            Self::Http(status) => status == StatusCode::SERVICE_UNAVAILABLE,
            Self::Grpc(status) => status == tonic::Code::Unavailable,
            Self::Cancelled => false,
        }
    }

    /// Names attributes by OpenTelemetry's semantic conventions.
    fn attributes(self) -> Vec<KeyValue> {
        let error = |kind: &str| KeyValue::new("error.type", kind.to_owned());
        match self {
            Self::Http(status) => {
                let code = i64::from(status.as_u16());
                let error = status.is_server_error().then(|| error(status.as_str()));
                let status = KeyValue::new("http.response.status_code", code);
                std::iter::once(status).chain(error).collect()
            }
            Self::Grpc(status) => {
                let error = is_fault(status).then(|| error(grpc_name(status)));
                let status = KeyValue::new("rpc.response.status_code", grpc_name(status));
                std::iter::once(status).chain(error).collect()
            }
            Self::Cancelled => vec![error("cancelled")],
        }
    }
}

impl Access {
    pub(crate) fn start(
        edge: &Arc<Edge>,
        context: &Arc<RequestContext>,
        endpoint: String,
        method: &'static str,
        network: Network,
        span: RequestSpan,
    ) -> Self {
        let (started, notes) = (Instant::now(), Notes::new(edge.service, context));
        let edge = Arc::clone(edge);
        Self { edge, started, endpoint, method, network, notes, span: Some(span) }
    }

    /// What is learnt about the request.
    pub(crate) fn notes(&self) -> Notes {
        self.notes.clone()
    }

    /// Writes the access line and counts the request.
    pub(crate) fn end(mut self, ending: Ending) {
        self.write(ending);
    }

    fn write(&mut self, ending: Ending) {
        let Some(span) = self.span.take() else {
            return;
        };
        let took = self.started.elapsed();
        let (endpoint, method) = (self.endpoint.as_str(), self.method);
        let metrics = &self.edge.metrics;
        match ending {
            Ending::Http(status) => metrics.http(method, endpoint, status.as_u16(), took),
            Ending::Grpc(status) => metrics.rpc(endpoint, grpc_name(status), took),
            Ending::Cancelled => metrics.http(method, endpoint, CLIENT_CLOSED_REQUEST, took),
        }
        let (status, grpc_status) = match ending {
            Ending::Http(status) => (i32::from(status.as_u16()), None),
            Ending::Grpc(status) => (status as i32, Some(grpc_name(status))),
            Ending::Cancelled => (i32::from(CLIENT_CLOSED_REQUEST), None),
        };
        span.end(|| ending.attributes(), ending.is_fault());
        let latency_ms = milliseconds(took);
        let noted = std::mem::take(&mut *self.notes.noted());
        let (account, code) = (noted.account, noted.code.filter(|_| ending.is_refusal()));
        let network = tracing::field::display(self.network);
        // The macro needs a constant level, hence the branches.
        macro_rules! line {
            ($level:expr) => {
                tracing::event!(
                    target: "access", $level, endpoint, method, status, grpc_status, latency_ms, code,
                    network, account, "request"
                )
            };
        }
        NOTES.sync_scope(self.notes.clone(), || match level(endpoint, noted.is_poll, ending) {
            Level::DEBUG => line!(Level::DEBUG),
            Level::WARN => line!(Level::WARN),
            _ => line!(Level::INFO),
        });
    }
}

/// Writes the access line of a request that cannot be parsed. Not more is known about it than the peer
/// that has sent it.
pub(crate) fn line_of_unparsed(
    service: &'static str,
    context: &Arc<RequestContext>,
    status: StatusCode,
    peer: IpAddr,
    took: Duration,
) {
    let (status, network) =
        (i32::from(status.as_u16()), tracing::field::display(Network::of(peer)));
    let latency_ms = milliseconds(took);
    let (endpoint, method, code) = (UNMATCHED, OTHER, code::MALFORMED_REQUEST.as_str());
    NOTES.sync_scope(Notes::new(service, context), || {
        tracing::info!(
            target: "access", endpoint, method, status, latency_ms, code, network, "request"
        );
    });
}

/// Milliseconds with three decimals.
fn milliseconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e6).round() / 1e3
}

/// The status that proxies log if a client disconnects. No registered status means this.
const CLIENT_CLOSED_REQUEST: u16 = 499;
/// The method of requests whose own is unknown (OpenTelemetry's semantic conventions).
pub(crate) const OTHER: &str = "_OTHER";
/// The method of all gRPC calls.
pub(crate) const GRPC: &str = "GRPC";
/// The endpoint of a request that no route matches.
pub(crate) const UNMATCHED: &str = "unmatched";

/// Whether an endpoint is a probe, which is polled every few seconds.
fn is_probe(endpoint: &str) -> bool {
    matches!(endpoint, "/livez" | "/readyz" | "/health" | "/metrics")
        || endpoint.starts_with("/grpc.health.v1.Health/")
}

/// The level of an access line.
fn level(endpoint: &str, is_poll: bool, ending: Ending) -> Level {
    // That the service is unavailable is logged by its health checks, once.
    if is_probe(endpoint) || is_poll && (!ending.is_refusal() || ending.is_unavailable()) {
        Level::DEBUG
    } else if ending.is_fault() {
        Level::WARN
    } else {
        Level::INFO
    }
}

/// Whether a status means that the service failed.
fn is_fault(status: tonic::Code) -> bool {
    use tonic::Code;

    matches!(status, Code::Internal | Code::Unknown | Code::Unavailable | Code::DataLoss)
}

impl Drop for Access {
    /// If a client disconnects before the response, the future of its request is dropped.
    fn drop(&mut self) {
        let is_grpc = self.method == GRPC;
        self.write(if is_grpc { Ending::Grpc(tonic::Code::Cancelled) } else { Ending::Cancelled });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_repeated_every_few_seconds_does_not_fill_the_log() {
        let of = |endpoint, is_poll, ending| level(endpoint, is_poll, ending);
        let (ok, away) = (StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(of("/readyz", false, Ending::Http(away)), Level::DEBUG);
        assert_eq!(of("/revocations", true, Ending::Http(ok)), Level::DEBUG);
        assert_eq!(of("/revocations", true, Ending::Http(away)), Level::DEBUG);
        assert_eq!(of("/list", true, Ending::Grpc(tonic::Code::Unavailable)), Level::DEBUG);
        // A poll that is refused for another reason is worth a line, and so is every other request.
        assert_eq!(of("/revocations", true, Ending::Http(StatusCode::BAD_REQUEST)), Level::INFO);
        assert_eq!(of("/list", true, Ending::Grpc(tonic::Code::Unauthenticated)), Level::INFO);
        assert_eq!(of("/list", true, Ending::Grpc(tonic::Code::Internal)), Level::WARN);
        assert_eq!(of("/users", false, Ending::Http(ok)), Level::INFO);
        assert_eq!(of("/users", false, Ending::Http(away)), Level::WARN);
        assert_eq!(of("/users", false, Ending::Cancelled), Level::INFO);
    }
}

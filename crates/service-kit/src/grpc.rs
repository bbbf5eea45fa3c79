//! What every gRPC answer has in common: the request id, the deadline, the status of what tonic
//! itself refuses, the access line, and streams that end when the service stops.

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue};
use http_body::{Frame, SizeHint};
use opentelemetry::{KeyValue, context::FutureExt as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code as GrpcCode, Status};
use tracing::{Instrument as _, Span};

use crate::{
    access::{self, Access, Ending, GRPC, UNMATCHED},
    code::Code,
    context::{RequestContext, X_REQUEST_ID},
    edge::Edge,
    error::ApiError,
    trace::SpanStart,
};

/// The deadline of a call that states none.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);
/// How long streams go on when the service stops.
const LAST_WORD: Duration = Duration::from_millis(100);
const GRPC_STATUS: &str = "grpc-status";
const GRPC_DETAILS: &str = "grpc-status-details-bin";

/// Completes the gRPC routes of a service. Streams end with UNAVAILABLE when the service stops.
pub fn finish(shared: &Edge, routes: tonic::service::Routes) -> Router {
    routes
        .prepare()
        .into_axum_router()
        .layer(axum::middleware::from_fn_with_state(shared.clone(), edge))
}

/// Adds server reflection, v1 and v1alpha, for the services in `descriptors` (an encoded
/// `FileDescriptorSet`) and the health service.
///
/// # Errors
///
/// Where `descriptors` is no such set.
pub fn add_reflection(
    routes: &mut tonic::service::RoutesBuilder,
    descriptors: &[u8],
) -> Result<(), tonic_reflection::server::Error> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(descriptors)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // With these, grpcurl shows the details of an error.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    routes.add_service(builder().build_v1()?);
    routes.add_service(builder().build_v1alpha()?);
    Ok(())
}

async fn edge(State(shared): State<Edge>, mut request: Request, next: Next) -> Response {
    let Edge { service, metrics, traces, trusted_proxies, draining, .. } = shared;
    let mut context = RequestContext::from_headers(request.headers());
    let path = request.uri().path().to_owned();
    // Whether there is such a method is known at the end; until then the path may be anything.
    let trace = traces.begin(&mut context, request.headers(), || SpanStart {
        name: UNMATCHED.to_owned(),
        attributes: vec![KeyValue::new("rpc.system.name", "grpc")],
    });
    let present = trace.context();
    let network = trusted_proxies.client(request.headers(), request.extensions());
    let access = Access::start(metrics, path.clone(), GRPC, network, trace);
    let notes = access.notes();
    let streaming = is_streaming(&path);
    let deadline = deadline(request.headers(), streaming);
    let end_at = deadline.and_then(|deadline| Instant::now().checked_add(deadline));
    request.extensions_mut().insert(context.clone());
    request.extensions_mut().insert(network);
    let span = access::span(service, &context);

    let answer = async {
        let call = AssertUnwindSafe(next.run(request)).catch_unwind();
        let answered = match deadline {
            Some(deadline) => tokio::time::timeout(deadline, call).await,
            None => Ok(call.await),
        };
        let mut response = match answered {
            Ok(Ok(response)) => correct(response),
            Ok(Err(_panic)) => refuse(ApiError::new(Code::Internal, "the service failed")),
            Err(_elapsed) => refuse(ApiError::new(
                Code::DeadlineExceeded,
                "the deadline passed before the answer was ready",
            )),
        };
        response.headers_mut().insert(X_REQUEST_ID, context.request_id_value());
        let status = status_of(response.headers());
        if let Some(status) = status {
            log(access, status);
            return response;
        }
        // The status comes after the messages: log it then.
        let (parts, body) = response.into_parts();
        let body = Watched {
            inner: body,
            access: Some(access),
            span: span.clone(),
            stop: streaming.then(|| Box::pin(end(draining, end_at)) as Stop),
            ended: false,
        };
        Response::from_parts(parts, Body::new(body))
    }
    .instrument(span.clone());
    let answer = notes.during(answer);
    match present {
        Some(present) => answer.with_context(present).await,
        None => answer.await,
    }
}

/// Streams live as long as their client wants, so they have no default deadline, and nothing but
/// the service itself would end them when it stops.
fn is_streaming(path: &str) -> bool {
    path == "/grpc.health.v1.Health/Watch" || path.starts_with("/grpc.reflection.")
}

fn log(access: Access, status: GrpcCode) {
    let unmatched = status == GrpcCode::Unimplemented;
    let access = if unmatched { access.unmatched() } else { access };
    access.end(Ending::Grpc(status));
}

fn status_of(headers: &HeaderMap) -> Option<GrpcCode> {
    headers.get(GRPC_STATUS).map(|value| GrpcCode::from_bytes(value.as_bytes()))
}

fn refuse(error: ApiError) -> Response {
    Status::from(error).into_http::<Body>().into_response()
}

/// Gives tonic's own refusals the status that the contract has for them. Ours carry details.
fn correct(response: Response) -> Response {
    let headers = response.headers();
    if headers.contains_key(GRPC_DETAILS) {
        return response;
    }
    match status_of(headers) {
        // A message over the limit.
        Some(GrpcCode::OutOfRange) => {
            refuse(ApiError::new(Code::PayloadTooLarge, "the message is over 4 MiB"))
        }
        // A message that is not what its type says.
        Some(GrpcCode::Internal) => {
            refuse(ApiError::new(Code::MalformedRequest, "the message cannot be decoded"))
        }
        Some(GrpcCode::Unimplemented) if !headers.contains_key("grpc-message") => {
            refuse(ApiError::new(Code::Unimplemented, "the service has no such method"))
        }
        _ => response,
    }
}

/// The time that is left for the call: the client's `grpc-timeout` (gRPC over HTTP/2, Requests) or
/// the default.
fn deadline(headers: &HeaderMap, streaming: bool) -> Option<Duration> {
    let stated =
        headers.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(timeout);
    match stated {
        Some(stated) => Some(stated),
        None => (!streaming).then_some(DEFAULT_DEADLINE),
    }
}

fn timeout(value: &str) -> Option<Duration> {
    let unit = value.bytes().last()?;
    let digits = value.get(..value.len() - 1)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount = digits.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(amount * 3600)),
        b'M' => Some(Duration::from_secs(amount * 60)),
        b'S' => Some(Duration::from_secs(amount)),
        b'm' => Some(Duration::from_millis(amount)),
        b'u' => Some(Duration::from_micros(amount)),
        b'n' => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

/// A body that logs the status in its trailers, and ends when the service stops.
struct Watched {
    inner: Body,
    access: Option<Access>,
    span: Span,
    stop: Option<Stop>,
    /// Whether that has happened.
    ended: bool,
}

/// Why a stream has to end.
type Stop = Pin<Box<dyn Future<Output = (GrpcCode, &'static str)> + Send>>;

/// The end of a stream: its deadline, if it has one; or the service stops, with a moment for a `Watch`
/// to say NOT_SERVING before.
async fn end(draining: CancellationToken, at: Option<Instant>) -> (GrpcCode, &'static str) {
    let stopping = async {
        draining.cancelled().await;
        tokio::time::sleep(LAST_WORD).await;
    };
    let deadline = async {
        match at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = stopping => (GrpcCode::Unavailable, "the service is stopping"),
        () = deadline => (GrpcCode::DeadlineExceeded, "the deadline has passed"),
    }
}

impl Watched {
    fn finish(&mut self, status: GrpcCode) {
        if let Some(access) = self.access.take() {
            self.span.in_scope(|| log(access, status));
        }
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
            match &frame {
                Some(Ok(frame)) => {
                    if let Some(status) = frame.trailers_ref().and_then(status_of) {
                        self.finish(status);
                    }
                }
                Some(Err(_)) => self.finish(GrpcCode::Unknown),
                None => {}
            }
            return Poll::Ready(frame);
        }
        let Some(stop) = &mut self.stop else {
            return Poll::Pending;
        };
        let (status, text) = ready!(stop.as_mut().poll(context));
        self.stop = None;
        self.ended = true;
        self.finish(status);
        let mut trailers = HeaderMap::new();
        trailers.insert(GRPC_STATUS, HeaderValue::from(status as i32));
        trailers.insert("grpc-message", HeaderValue::from_static(text));
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // The client went away before the end.
        self.finish(GrpcCode::Cancelled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_read_as_the_specification_says() {
        assert_eq!(timeout("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(timeout("2M"), Some(Duration::from_secs(120)));
        assert_eq!(timeout("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(timeout("5m"), Some(Duration::from_millis(5)));
        assert_eq!(timeout("5u"), Some(Duration::from_micros(5)));
        assert_eq!(timeout("5n"), Some(Duration::from_nanos(5)));
        for value in ["", "S", "1", "1s", "-1S", "123456789S", "1.5S", "é", "1é"] {
            assert_eq!(timeout(value), None, "{value:?}");
        }
    }
}

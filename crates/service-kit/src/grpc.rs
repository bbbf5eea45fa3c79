//! What all gRPC responses have in common: the request id, the deadline, corrected statuses of
//! tonic's own refusals, the access line, and streams that end when the service stops.

mod admission;
mod answer;
mod deadline;
mod messages;
mod methods;
mod protocol;
mod reflection;

use std::{panic::AssertUnwindSafe, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName};
use opentelemetry::{KeyValue, context::FutureExt as _};
use tokio::time::Instant;
use tonic::{Code as GrpcCode, Status};

pub use self::{
    admission::{Admit, Admitted},
    reflection::add_reflection,
};
use self::{
    answer::{AnswerBody, Stop, end},
    deadline::deadline,
    messages::Messages,
    methods::Methods,
};
use crate::{
    access::{Access, Ending, GRPC, UNMATCHED},
    code,
    context::{RequestContext, X_REQUEST_ID},
    edge::Edge,
    error::ApiError,
    listen::Overloaded,
    target,
    trace::SpanStart,
};

/// The only call without a maximum duration: its client decides how long it lasts.
const WATCH: &str = "/grpc.health.v1.Health/Watch";
const GRPC_STATUS: &str = "grpc-status";
const GRPC_DETAILS: &str = "grpc-status-details-bin";
const GRPC_ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// Completes the gRPC routes of a service, whose `descriptors` are an encoded `FileDescriptorSet`. Its streams
/// end with UNAVAILABLE when the service stops.
///
/// # Errors
///
/// If `descriptors` cannot be decoded.
pub fn finish(
    shared: &Edge,
    descriptors: &[u8],
    routes: tonic::service::Routes,
) -> Result<Router, prost::DecodeError> {
    let state = EdgeState { shared: Arc::new(shared.clone()), methods: Methods::of(descriptors)? };
    Ok(routes
        .prepare()
        .into_axum_router()
        .layer(axum::middleware::from_fn_with_state(Arc::new(state), edge)))
}

/// What [`edge`] needs.
struct EdgeState {
    shared: Arc<Edge>,
    methods: Methods,
}

async fn edge(State(state): State<Arc<EdgeState>>, mut request: Request, next: Next) -> Response {
    let EdgeState { shared, methods } = &*state;
    let mut context = RequestContext::from_headers(request.headers());
    let path = request.uri().path().to_owned();
    // Never the path of a method that does not exist, not even if the caller is refused before that is found
    // out: clients can make up any number of paths, but logs and metrics need a bounded number.
    let endpoint = if methods.contains(&path) { path.as_str() } else { UNMATCHED };
    let trace = shared.traces.begin(&mut context, request.headers(), || {
        let method = endpoint.trim_start_matches('/').to_owned();
        let attributes = vec![
            KeyValue::new("rpc.system.name", "grpc"),
            KeyValue::new("rpc.method", method.clone()),
        ];
        SpanStart { name: method, attributes }
    });
    let (context, present) = (Arc::new(context), trace.context());
    let network = shared.trusted_proxies.client(request.headers(), request.extensions());
    let access = Access::start(shared, &context, endpoint.to_owned(), GRPC, network, trace);
    let notes = access.notes();
    let streaming = is_streaming(&path);
    let deadline = deadline(request.headers(), path == WATCH);
    let end_at = match deadline {
        Ok(Some(deadline)) => Instant::now().checked_add(deadline),
        _ => None,
    };
    request.extensions_mut().insert(Arc::clone(&context));
    request.extensions_mut().insert(network);

    let answer = async {
        let refusal = Overloaded::refusal(request.extensions())
            .map(refuse)
            .or_else(|| protocol::refusal(&request, &context, &access.notes()))
            .or_else(|| {
                target::has_too_large_headers(&request).then(|| refuse(too_much_metadata()))
            });
        let (refusal, deadline) = match deadline {
            Ok(deadline) => (refusal, deadline),
            Err(error) => (refusal.or_else(|| Some(refuse(error))), None),
        };
        if let Some(response) = refusal {
            // A request that is not a gRPC call has no gRPC status.
            let status = status_of(response.headers()).unwrap_or(GrpcCode::Unimplemented);
            log(access, status);
            return with_request_id(response, &context);
        }
        // A call is polled before its timeout, so it would begin, and could write, after its deadline.
        if end_at.is_some_and(|end_at| Instant::now() >= end_at) {
            log(access, GrpcCode::DeadlineExceeded);
            return with_request_id(refuse(too_late()), &context);
        }
        let (request, breach) = Messages::guard(request);
        let call = AssertUnwindSafe(next.run(request)).catch_unwind();
        let answered = match deadline {
            Some(deadline) => tokio::time::timeout(deadline, call).await,
            None => Ok(call.await),
        };
        let mut response = match answered {
            Ok(Ok(response)) => match breach.found() {
                Some(breach) if !streaming => refuse_status(breach.status()),
                _ => correct(response),
            },
            Ok(Err(_panic)) => refuse(ApiError::new(code::INTERNAL, "the service failed")),
            Err(_elapsed) => refuse(too_late()),
        };
        response = with_request_id(response, &context);
        let status = status_of(response.headers());
        if let Some(status) = status {
            log(access, status);
            return response;
        }
        // The status is in the trailers, after the messages, so it is logged then.
        let (parts, body) = response.into_parts();
        let body = AnswerBody {
            inner: body,
            access: Some(access),
            stop: streaming.then(|| Box::pin(end(shared.draining.clone(), end_at)) as Stop),
            ended: false,
        };
        Response::from_parts(parts, Body::new(body))
    };
    let answer = notes.during(answer);
    match present {
        Some(present) => answer.with_context(present).await,
        None => answer.await,
    }
}

/// Whether the path is that of a stream. Only the service itself can end streams when it stops.
fn is_streaming(path: &str) -> bool {
    path == WATCH || path.starts_with("/grpc.reflection.")
}

fn log(access: Access, status: GrpcCode) {
    access.end(Ending::Grpc(status));
}

fn too_much_metadata() -> ApiError {
    ApiError::new(code::PAYLOAD_TOO_LARGE, "the metadata is over 32 KiB")
}

fn too_late() -> ApiError {
    ApiError::new(code::DEADLINE_EXCEEDED, "the deadline passed before the answer was ready")
}

fn status_of(headers: &HeaderMap) -> Option<GrpcCode> {
    headers.get(GRPC_STATUS).map(|value| GrpcCode::from_bytes(value.as_bytes()))
}

fn with_request_id(mut response: Response, context: &RequestContext) -> Response {
    response.headers_mut().insert(X_REQUEST_ID, context.request_id_value());
    response
}

fn refuse(error: ApiError) -> Response {
    refuse_status(error.into())
}

fn refuse_status(status: Status) -> Response {
    status.into_http::<Body>().into_response()
}

/// Replaces the status of tonic's own refusals by the one that the API documents. Our own refusals
/// are recognised by their details.
fn correct(response: Response) -> Response {
    let headers = response.headers();
    if headers.contains_key(GRPC_DETAILS) {
        return response;
    }
    match status_of(headers) {
        // A message exceeds tonic's limit.
        Some(GrpcCode::OutOfRange) => refuse(messages::too_large()),
        // A message does not match its type.
        Some(GrpcCode::Internal) => {
            refuse(ApiError::new(code::MALFORMED_REQUEST, "the message cannot be decoded"))
        }
        Some(GrpcCode::Unimplemented) => refuse(unimplemented(headers)),
        _ => response,
    }
}

/// The error of a call that tonic does not implement: its method, or its compression (gRPC over HTTP/2,
/// Message-Encoding), where the response names the encodings that are accepted.
fn unimplemented(headers: &HeaderMap) -> ApiError {
    match headers.get(GRPC_ACCEPT_ENCODING) {
        Some(accepted) => {
            ApiError::new(code::UNIMPLEMENTED, "messages with this compression are not accepted")
                .header(HeaderName::from_static(GRPC_ACCEPT_ENCODING), accepted.clone())
        }
        None => ApiError::new(code::UNIMPLEMENTED, "the service has no such method"),
    }
}

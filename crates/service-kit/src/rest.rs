//! What all REST responses have in common: the request id, the problem document of errors, the security
//! headers, the access line, and the handling of panics.

use std::{collections::HashSet, panic::AssertUnwindSafe, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt as _;
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header};
use opentelemetry::{KeyValue, context::FutureExt as _};
use serde::Serialize;

use crate::{
    access::{Access, Ending, Notes, OTHER, UNMATCHED},
    body,
    catalogue::Catalogue,
    code,
    context::{RequestContext, X_REQUEST_ID},
    edge::Edge,
    error::{ApiError, Fault},
    error_page, field_code,
    health::Verbatim,
    json::fault,
    listen::Overloaded,
    target,
    trace::SpanStart,
};

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
/// One year, without subdomains, because other hosts of the domain may not belong to this service (RFC
/// 6797).
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Completes the router of a service: adds `GET /errors` with the codes of the kit and of `errors`, handles
/// unknown routes, and wraps everything in the layers of this module. Nothing may be added to the router
/// afterwards.
pub fn finish(shared: &Edge, errors: Catalogue, routes: Router) -> Router {
    with_answers(shared, routes.merge(single_parameters(error_page::routes(errors))))
}

/// Handles unknown routes, and wraps everything in the layers of this module.
pub(crate) fn with_answers(shared: &Edge, routes: Router) -> Router {
    let mut routes = routes
        .fallback(|| async { ApiError::new(code::NOT_FOUND, "there is nothing at this path") });
    if !shared.allowed_origins.is_empty() {
        routes = routes.layer(shared.cors());
    }
    routes.layer(axum::middleware::from_fn_with_state(Arc::new(shared.clone()), edge))
}

async fn edge(State(shared): State<Arc<Edge>>, mut request: Request, next: Next) -> Response {
    let mut context = RequestContext::from_headers(request.headers());
    // The route and not the raw path, because a path can be anything and the number of names must stay
    // small.
    let endpoint = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| UNMATCHED.to_owned(), |path| path.as_str().to_owned());
    let method = method_name(request.method());
    let span = shared.traces.begin(&mut context, request.headers(), || SpanStart {
        name: format!("{method} {endpoint}"),
        attributes: vec![
            KeyValue::new("http.request.method", method),
            KeyValue::new("http.route", endpoint.clone()),
            KeyValue::new("url.scheme", if shared.tls { "https" } else { "http" }),
        ],
    });
    let (context, present) = (Arc::new(context), span.context());
    let network = shared.trusted_proxies.client(request.headers(), request.extensions());
    let access = Access::start(&shared, &context, endpoint, method, network, span);
    let notes = access.notes();
    request.extensions_mut().insert(Arc::clone(&context));
    request.extensions_mut().insert(network);
    let is_http1 = request.version() < Version::HTTP_2;

    let answer = async {
        let refusal =
            Overloaded::refusal(request.extensions()).or_else(|| target::refusal(&request));
        let asks_for_methods = target::asks_for_methods(&request);
        // If a request has both lengths, hyper may have ignored one of them, so nothing after it can be
        // trusted (RFC 9112, section 6.1).
        let is_chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
        let (request, unread) = body::watched(request);
        let mut response = match refusal {
            Some(error) => error.into_response(),
            None if target::has_too_large_headers(&request) => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE.into_response()
            }
            None if asks_for_methods => {
                (StatusCode::NO_CONTENT, [(header::ALLOW, target::METHODS)]).into_response()
            }
            None => AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_| {
                // The panic hook has already logged the message and the location.
                ApiError::new(code::INTERNAL, "the service failed").into_response()
            }),
        };
        let status = response.status();
        let is_error = status.is_client_error() || status.is_server_error();
        if is_error && response.extensions().get::<Verbatim>().is_none() {
            response = problem(response, &context, &access.notes());
        }
        if is_http1 && (is_chunked || unread.is_left() || shared.draining.is_cancelled()) {
            // The connection is closed after this response, because the body was not read or the service
            // stops. Without this header, the client might send its next request on it.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let headers = response.headers_mut();
        headers.insert(X_REQUEST_ID, context.request_id_value());
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if shared.tls {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
        }
        access.end(Ending::Http(status));
        response
    };
    let answer = notes.during(answer);
    match present {
        Some(present) => answer.with_context(present).await,
        None => answer.await,
    }
}

fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => OTHER,
    }
}

/// Refuses requests with a repeated query parameter.
pub fn single_parameters(routes: Router) -> Router {
    routes.layer(axum::middleware::from_fn(async |request: Request, next: Next| {
        match refused_parameters(request.uri(), None) {
            Some(error) => error.into_response(),
            None => next.run(request).await,
        }
    }))
}

/// Refuses a URI with any query parameter.
///
/// # Errors
///
/// As [`refused_parameters`].
pub fn no_parameters(uri: &Uri) -> Result<(), ApiError> {
    refused_parameters(uri, Some(&[])).map_or(Ok(()), Err)
}

/// The error for a URI with a repeated query parameter, or with one that is not `known`. If `known` is `None`,
/// any name is accepted here; the handler may call [`unknown_parameters`] itself.
#[must_use]
pub fn refused_parameters(uri: &Uri, known: Option<&[&str]>) -> Option<ApiError> {
    repeated_parameter(uri).or_else(|| {
        let faults = unknown_parameters(uri, known?);
        (!faults.is_empty()).then(|| ApiError::validation(faults))
    })
}

/// The faults of query parameters that are not `known`.
#[must_use]
pub fn unknown_parameters(uri: &Uri, known: &[&str]) -> Vec<Fault> {
    form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
        .filter(|(name, _)| !known.contains(&&**name))
        .map(|(name, _)| {
            fault(&name, field_code::UNKNOWN_PARAMETER, "is not a parameter of this path")
        })
        .collect()
}

/// The error for a URI with a repeated query parameter. Programs differ in which one they use, which
/// attackers can exploit.
#[must_use]
pub fn repeated_parameter(uri: &Uri) -> Option<ApiError> {
    let mut seen = HashSet::new();
    form_urlencoded::parse(uri.query()?.as_bytes())
        .any(|(name, _)| !seen.insert(name))
        .then(|| ApiError::new(code::MALFORMED_REQUEST, "a query parameter is given twice"))
}

/// The problem document of RFC 9457, section 3.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<ProblemFault<'a>>,
}

#[derive(Serialize)]
struct ProblemFault<'a> {
    pointer: &'a str,
    code: &'a str,
    detail: &'a str,
}

/// Writes the body of an error. Rejections by the framework have no [`ApiError`]: their status determines
/// the code, and their text, which is meant for programmers, is dropped.
pub(crate) fn problem(response: Response, context: &RequestContext, notes: &Notes) -> Response {
    let (mut parts, _) = response.into_parts();
    let error = parts.extensions.remove::<ApiError>().unwrap_or_else(|| of_framework(parts.status));
    notes.code(error.code().as_str());
    let body = document(&error, parts.status, context);
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
    parts.headers.insert(header::CACHE_CONTROL, NO_STORE);
    Response::from_parts(parts, Body::from(body))
}

/// The problem document for a rejection by the framework that has no response yet.
pub(crate) fn problem_of_framework(status: StatusCode, context: &RequestContext) -> Vec<u8> {
    document(&of_framework(status), status, context)
}

fn document(error: &ApiError, status: StatusCode, context: &RequestContext) -> Vec<u8> {
    let code = error.code();
    let document = Problem {
        r#type: format!("/errors#{}", code.as_str()),
        title: code.title(),
        status: status.as_u16(),
        detail: error.detail(),
        code: code.as_str(),
        request_id: &context.request_id,
        errors: error
            .faults()
            .iter()
            .map(|fault| ProblemFault {
                pointer: &fault.pointer,
                code: fault.code.code,
                detail: &fault.detail,
            })
            .collect(),
    };
    serde_json::to_vec(&document).unwrap_or_default()
}

fn of_framework(status: StatusCode) -> ApiError {
    match status {
        StatusCode::NOT_FOUND => ApiError::new(code::NOT_FOUND, "there is nothing at this path"),
        StatusCode::METHOD_NOT_ALLOWED => {
            ApiError::new(code::METHOD_NOT_ALLOWED, "this path does not have this method")
        }
        StatusCode::REQUEST_TIMEOUT => {
            ApiError::new(code::REQUEST_TIMEOUT, "the request did not arrive in time")
        }
        StatusCode::PAYLOAD_TOO_LARGE => {
            ApiError::new(code::PAYLOAD_TOO_LARGE, "the body is over 64 KiB")
        }
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            ApiError::new(code::UNSUPPORTED_MEDIA_TYPE, "this path does not read this media type")
        }
        status if status.is_client_error() => {
            ApiError::new(code::MALFORMED_REQUEST, "the request is malformed")
        }
        _ => ApiError::new(code::INTERNAL, "the service failed"),
    }
}

/// The header that keeps personal data out of caches (RFC 9111, section 5.2.2.5).
#[must_use]
pub fn no_store() -> [(HeaderName, HeaderValue); 1] {
    [(header::CACHE_CONTROL, NO_STORE)]
}

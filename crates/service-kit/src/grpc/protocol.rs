//! Requests that are not gRPC calls. They are refused with an HTTP status and a problem document,
//! because their sender does not use gRPC.

use axum::{
    extract::Request,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::{access::Notes, code, context::RequestContext, error::ApiError, rest, target};

/// The refusal of a request that is not a call (gRPC over HTTP/2, Requests; HTTP-Status-Codes).
pub(super) fn refusal(
    request: &Request,
    context: &RequestContext,
    notes: &Notes,
) -> Option<Response> {
    let error = target::refusal(request).or_else(|| {
        if request.method() != Method::POST {
            let error = ApiError::new(code::METHOD_NOT_ALLOWED, "gRPC calls are made with POST");
            return Some(error.header(header::ALLOW, HeaderValue::from_static("POST")));
        }
        (!is_grpc(request.headers())).then(|| {
            let text =
                "the Content-Type of gRPC calls is application/grpc or application/grpc+proto";
            ApiError::new(code::UNSUPPORTED_MEDIA_TYPE, text)
        })
    })?;
    let refused = if target::has_too_large_headers(request) {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE.into_response()
    } else {
        error.into_response()
    };
    Some(rest::problem(refused, context, notes))
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let text = value.to_str().unwrap_or_default();
    let media_type = text.split(';').next().unwrap_or_default().trim();
    ["application/grpc", "application/grpc+proto"]
        .iter()
        .any(|known| media_type.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::Body;

    use super::*;

    fn status(method: &str, content_type: &[&str]) -> Option<StatusCode> {
        let mut request =
            Request::builder().version(http::Version::HTTP_2).method(method).uri("http://a/b.C/D");
        for value in content_type {
            request = request.header("content-type", *value);
        }
        let request = request.body(Body::empty()).unwrap();
        let context = Arc::new(RequestContext::from_headers(request.headers()));
        refusal(&request, &context, &Notes::new("test", &context)).map(|response| response.status())
    }

    #[test]
    fn calls_are_posted_in_grpc_s_own_type() {
        for accepted in
            ["application/grpc", "application/grpc+proto", "Application/GRPC; charset=utf-8"]
        {
            assert_eq!(status("POST", &[accepted]), None, "{accepted}");
        }
        for other in ["application/json", "application/grpc-web", "application/grpc+json", ""] {
            let refused = Some(StatusCode::UNSUPPORTED_MEDIA_TYPE);
            assert_eq!(status("POST", &[other]), refused, "{other}");
        }
        assert_eq!(status("POST", &[]), Some(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        assert_eq!(status("GET", &["application/grpc"]), Some(StatusCode::METHOD_NOT_ALLOWED));
    }
}

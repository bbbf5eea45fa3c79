//! The integration with axum: an extractor.

use axum::extract::{FromRef, FromRequestParts};
use axum::http::{HeaderValue, header, request::Parts};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::claims::Claims;
use crate::verifier::{AuthError, Verifier};
use crate::verify::VerifyError;

/// The caller of a handler, authenticated by the bearer token of the request.
///
/// Works in every router whose state gives a [`Verifier`] through [`FromRef`]. A request without a
/// valid token does not reach the handler; it is answered with a [`Rejection`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(pub Claims);

impl<S: Send + Sync> FromRequestParts<S> for Caller
where
    Verifier: FromRef<S>,
{
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Rejection> {
        let verifier = Verifier::from_ref(state);
        verifier.verify_authorization(&parts.headers).await.map(Self).map_err(Rejection)
    }
}

/// The response to a request without a valid token: 401, 400 or 503 with a problem body (RFC 9457)
/// and, for a 401, a challenge (RFC 6750 section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejection(pub AuthError);

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        let Self(error) = self;
        let status = error.status();
        let problem = json!({
            "type": "about:blank",
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            // Only the log says which check failed, except that clients learn when a genuine token
            // has expired or was revoked.
            "detail": match error {
                AuthError::Invalid(VerifyError::Expired) => VerifyError::Expired.to_string(),
                AuthError::Invalid(_) => "the token is not valid".to_owned(),
                _ => error.to_string(),
            },
            "code": error.code(),
        });
        let json = HeaderValue::from_static("application/problem+json");
        let mut response =
            (status, [(header::CONTENT_TYPE, json)], problem.to_string()).into_response();
        if let Some(challenge) = error.www_authenticate() {
            let challenge = HeaderValue::from_static(challenge);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

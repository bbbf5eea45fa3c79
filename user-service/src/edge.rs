//! The two edges: thin adapters over [`crate::service::Service`].

pub mod grpc;
pub mod rest;

use http::HeaderMap;
use service_kit::{
    access,
    context::RequestContext,
    error::{ApiError, Fault},
};
use token_verifier::{AuthError, Verifier, VerifyError};

use crate::{
    code,
    domain::{Broken, Caller, PageSize, UserId},
    service::Service,
    store::Origin,
};

/// Authenticates the sender of a request by its headers.
async fn authenticate(
    service: &Service,
    verifier: &Verifier,
    headers: &HeaderMap,
) -> Result<Caller, ApiError> {
    match verifier.verify_authorization(headers).await {
        Ok(claims) => {
            access::note_account(claims.sub);
            Ok(Caller::new(claims.sub, claims.email, claims.iat))
        }
        Err(error) => {
            if let AuthError::Revoked { sub } = error {
                access::note_account(sub);
                // A deletion also revokes the tokens of the account. The token of its owner is still
                // accepted here, so that they learn the reason and can repeat the deletion; the service
                // refuses them everything else.
                if service.is_deleted(UserId(sub)).await {
                    return Ok(Caller::new(sub, None, 0));
                }
            }
            tracing::info!(event = "access.unauthenticated", reason = error.reason(), "refused");
            Err(unauthenticated(error))
        }
    }
}

fn unauthenticated(error: AuthError) -> ApiError {
    let (code, text) = match error {
        AuthError::Missing => (code::UNAUTHENTICATED, "a bearer token is needed"),
        AuthError::Ambiguous => {
            (code::MALFORMED_REQUEST, "there is more than one Authorization field")
        }
        AuthError::Invalid(VerifyError::Expired) => (code::TOKEN_EXPIRED, "the token has expired"),
        AuthError::Revoked { .. } => (code::TOKEN_REVOKED, "the token was revoked"),
        AuthError::KeysUnavailable => {
            (code::SIGNING_KEYS_UNAVAILABLE, "the signing keys have not arrived yet")
        }
        AuthError::RevocationsStale => {
            (code::REVOCATIONS_STALE, "the list of revoked tokens is not up to date")
        }
        // Only the log says which check failed.
        _ => (code::INVALID_TOKEN, "the token is not valid"),
    };
    let refused = ApiError::new(code, text);
    match error.www_authenticate() {
        Some(challenge) => refused
            .header(http::header::WWW_AUTHENTICATE, http::HeaderValue::from_static(challenge)),
        None if code.http() == http::StatusCode::SERVICE_UNAVAILABLE => {
            refused.retry_after(std::time::Duration::from_secs(1))
        }
        None => refused,
    }
}

/// The largest response that a page can be, in bytes. A profile has a name of up to 200 and a bio of up
/// to 4,000 code points of at most 4 bytes each, and little else. JSON escapes double only characters
/// of one byte, so they cannot exceed this.
const fn page_bytes(size: PageSize) -> usize {
    const PROFILE: usize = 18 * 1024;
    size.get() as usize * PROFILE
}

/// The part of the request context that a deletion stores.
fn origin(context: &RequestContext) -> Origin {
    Origin { request_id: context.request_id.clone(), traceparent: context.traceparent() }
}

/// The fault of one input value.
fn fault(pointer: &str, (code, detail): Broken) -> Fault {
    Fault { pointer: pointer.to_owned(), code, detail: detail.into() }
}

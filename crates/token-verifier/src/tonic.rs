//! The integration with tonic: an interceptor.

use tonic::{Request, Status, service::Interceptor};

use crate::verifier::{AuthError, Verifier, bearer_token};
use crate::verify::VerifyError;

/// Verifies the bearer token in the metadata of every call, and stores the [`Claims`](crate::Claims)
/// in the request's extensions.
///
/// An interceptor cannot wait, so a token with an unknown key is refused once while the keys are
/// fetched in the background ([`Verifier::verify_cached`]).
#[derive(Debug, Clone)]
pub struct BearerInterceptor {
    verifier: Verifier,
}

impl BearerInterceptor {
    /// An interceptor that uses this verifier.
    #[must_use]
    pub fn new(verifier: Verifier) -> Self {
        Self { verifier }
    }
}

impl Interceptor for BearerInterceptor {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let token = bearer_token(request.metadata().as_ref()).map_err(status)?;
        let claims = self.verifier.verify_cached(token).map_err(status)?;
        request.extensions_mut().insert(claims);
        Ok(request)
    }
}

/// The gRPC status of a refusal: UNAUTHENTICATED; INVALID_ARGUMENT for two `authorization` entries;
/// UNAVAILABLE while there are no keys or the list of revocations is stale. Only the log says which
/// check failed, except that clients learn when a genuine token has expired or was revoked.
#[must_use]
pub fn status(error: AuthError) -> Status {
    match error {
        AuthError::Missing
        | AuthError::Malformed
        | AuthError::Revoked { .. }
        | AuthError::Invalid(VerifyError::Expired) => Status::unauthenticated(error.to_string()),
        AuthError::Invalid(_) => Status::unauthenticated("the token is not valid"),
        AuthError::Ambiguous => Status::invalid_argument(error.to_string()),
        AuthError::KeysUnavailable | AuthError::RevocationsStale => {
            Status::unavailable(error.to_string())
        }
    }
}

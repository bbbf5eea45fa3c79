//! The errors of the service, each with its code.

use std::time::Duration;

use http::{HeaderValue, header::WWW_AUTHENTICATE};
use service_kit::error::{ApiError, Fault};

use crate::{code, store::StoreError};

/// Why the service did not fulfil a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The input breaks rules.
    #[error("the input breaks one or more rules")]
    Invalid(Vec<Fault>),
    /// The request breaks a rule of its protocol.
    #[error("{0}")]
    Malformed(&'static str),
    /// The page token was not issued by this service.
    #[error("the page token was not issued for this list")]
    InvalidPageToken,
    /// The caller has deleted their account.
    #[error("the account of this token was deleted")]
    AccountDeleted,
    /// The caller is not allowed to do this.
    #[error("only its owner may change a profile")]
    Forbidden,
    /// No profile has this id.
    #[error("there is no profile with this id")]
    UserNotFound,
    /// The profile has changed since its tag was read.
    #[error("the profile is not in the version that the request demands")]
    PreconditionFailed,
    /// The database is unavailable, or not migrated yet.
    #[error("the database is unavailable")]
    DatabaseUnavailable,
    /// An internal error, which was logged where it occurred.
    #[error("the service failed")]
    Internal,
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        if error.is_transient() { Self::DatabaseUnavailable } else { Self::Internal }
    }
}

/// The challenge of a 401 for a token that was presented (RFC 6750, section 3.1).
const CHALLENGE: HeaderValue =
    HeaderValue::from_static(r#"Bearer realm="latchkey", error="invalid_token""#);

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Invalid(faults) => Self::validation(faults),
            Error::Malformed(_) => Self::new(code::MALFORMED_REQUEST, text),
            Error::InvalidPageToken => Self::new(code::INVALID_PAGE_TOKEN, text),
            Error::AccountDeleted => {
                Self::new(code::ACCOUNT_DELETED, text).header(WWW_AUTHENTICATE, CHALLENGE)
            }
            Error::Forbidden => Self::new(code::FORBIDDEN, text),
            Error::UserNotFound => Self::new(code::USER_NOT_FOUND, text),
            Error::PreconditionFailed => Self::new(code::PRECONDITION_FAILED, text),
            Error::DatabaseUnavailable => {
                Self::new(code::DATABASE_UNAVAILABLE, text).retry_after(Duration::from_secs(1))
            }
            Error::Internal => Self::new(code::INTERNAL, text),
        }
    }
}

//! What the service refuses, each with its code.

use std::time::Duration;

use http::{HeaderValue, header::WWW_AUTHENTICATE};
use service_kit::{
    code::Code,
    error::{ApiError, Fault},
};

use crate::{hashing::Refused, password::HashError, store::StoreError};

/// Why the service did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The input breaks rules.
    #[error("the input breaks one or more rules")]
    Invalid(Vec<Fault>),
    /// The email has an account.
    #[error("the email has an account")]
    EmailAlreadyRegistered,
    /// No account has this email and password.
    #[error("no account has this email and password")]
    InvalidCredentials,
    /// The caller is not a service that we know.
    #[error("a valid service token is needed")]
    UnknownService,
    /// Too much waits to be hashed.
    #[error("too many passwords wait to be hashed")]
    Overloaded(Duration),
    /// The database, or the keys in it, cannot be had.
    #[error("the database is unavailable")]
    DatabaseUnavailable,
    /// A fault of ours, logged where it arose.
    #[error("the service failed")]
    Internal,
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        if error.is_transient() { Self::DatabaseUnavailable } else { Self::Internal }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Overloaded(delay) => Self::Overloaded(delay),
            Refused::Failed => Self::Internal,
        }
    }
}

impl From<HashError> for Error {
    fn from(error: HashError) -> Self {
        tracing::error!(%error, "hashing failed");
        Self::Internal
    }
}

/// The challenge of a 401 (RFC 9110, section 11.6.1). Login takes credentials in its body, for which
/// no scheme is registered; `Bearer` is what the caller is about to obtain.
const CHALLENGE: HeaderValue = HeaderValue::from_static(r#"Bearer realm="latchkey""#);

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Invalid(faults) => Self::validation(faults),
            Error::EmailAlreadyRegistered => Self::new(Code::EmailAlreadyRegistered, text),
            Error::InvalidCredentials => {
                Self::new(Code::InvalidCredentials, text).header(WWW_AUTHENTICATE, CHALLENGE)
            }
            Error::UnknownService => Self::new(Code::Unauthenticated, text),
            Error::Overloaded(delay) => Self::new(Code::Overloaded, text).retry_after(delay),
            Error::DatabaseUnavailable => {
                Self::new(Code::DatabaseUnavailable, text).retry_after(Duration::from_secs(1))
            }
            Error::Internal => Self::new(Code::Internal, text),
        }
    }
}

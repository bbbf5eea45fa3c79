//! The errors of the service, each with its code.

use std::time::Duration;

use http::{HeaderName, HeaderValue, header::WWW_AUTHENTICATE};
use service_kit::{
    catalogue::Code,
    error::{ApiError, Fault, whole_seconds},
};

use crate::{code, hashing::Refused, password::HashError, store::StoreError, throttle::Exhausted};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Why the service did not fulfil a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The input breaks rules.
    #[error("the input breaks one or more rules")]
    Invalid(Vec<Fault>),
    /// The email already has an account.
    #[error("the email has an account")]
    EmailAlreadyRegistered,
    /// No account has this email and password.
    #[error("no account has this email and password")]
    InvalidCredentials,
    /// The caller's account has another password.
    #[error("the current password is wrong")]
    WrongPassword,
    /// The email and the password are right, but the email is not confirmed.
    #[error("the email has to be confirmed first")]
    EmailNotVerified,
    /// Registration is closed.
    #[error("registration is closed")]
    RegistrationClosed,
    /// The service sends no mail.
    #[error("the service sends no mail")]
    MailDisabled,
    /// A link is malformed, unknown, used or expired.
    #[error("the link does not work, or not any more")]
    InvalidLink,
    /// A refresh token is malformed, forged, expired or withdrawn, or its session has ended.
    #[error("the refresh token is not valid")]
    InvalidRefreshToken,
    /// The caller has no session with this id.
    #[error("there is no session with this id")]
    SessionNotFound,
    /// No account has this id or email.
    #[error("there is no account with this id or email")]
    AccountNotFound,
    /// The account is disabled.
    #[error("the account is disabled")]
    AccountDisabled,
    /// A page token was not issued for this list.
    #[error("the page token is not one of this list")]
    InvalidPageToken,
    /// The request carries no access token.
    #[error("a bearer token is needed")]
    Unauthenticated,
    /// The request carries more than one access token.
    #[error("there is more than one Authorization field")]
    AmbiguousCredentials,
    /// The access token is not valid.
    #[error("the token is not valid")]
    InvalidToken,
    /// The access token has expired.
    #[error("the token has expired")]
    TokenExpired,
    /// The access token was revoked.
    #[error("the token was revoked")]
    TokenRevoked,
    /// The caller is not a known service.
    #[error("a valid service token is needed")]
    UnknownService,
    /// The caller is not a known operator.
    #[error("a valid admin token is needed")]
    UnknownOperator,
    /// The account has had too many failed logins.
    #[error("too many failed logins for this account")]
    TooManyAttempts(Exhausted),
    /// The network has sent too many requests.
    #[error("too many requests from this network")]
    TooManyRequests(Exhausted),
    /// Too many passwords are waiting to be hashed.
    #[error("too many passwords wait to be hashed")]
    Overloaded(Duration),
    /// The database, or the keys in it, are unavailable.
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

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Overloaded(delay) => Self::Overloaded(delay),
            // The client has gone, so nobody receives this error.
            Refused::Withdrawn => Self::Overloaded(Duration::ZERO),
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
/// no scheme is registered; `Bearer` names the token that the caller is about to obtain.
const CHALLENGE: HeaderValue = HeaderValue::from_static(r#"Bearer realm="latchkey""#);

/// The challenge of a 401 for a token that was presented (RFC 6750, section 3.1).
const TOKEN_CHALLENGE: HeaderValue =
    HeaderValue::from_static(r#"Bearer realm="latchkey", error="invalid_token""#);

fn refused_token(code: Code, text: String) -> ApiError {
    ApiError::new(code, text).header(WWW_AUTHENTICATE, TOKEN_CHALLENGE)
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Invalid(faults) => Self::validation(faults),
            Error::EmailAlreadyRegistered => Self::new(code::EMAIL_ALREADY_REGISTERED, text),
            Error::InvalidCredentials => {
                Self::new(code::INVALID_CREDENTIALS, text).header(WWW_AUTHENTICATE, CHALLENGE)
            }
            Error::WrongPassword => Self::new(code::INVALID_CREDENTIALS, text).forbidden(),
            Error::EmailNotVerified => Self::new(code::EMAIL_NOT_VERIFIED, text),
            Error::RegistrationClosed => Self::new(code::REGISTRATION_CLOSED, text),
            Error::MailDisabled => Self::new(code::MAIL_DISABLED, text),
            Error::InvalidLink => Self::new(code::INVALID_LINK, text),
            Error::InvalidRefreshToken => {
                Self::new(code::INVALID_REFRESH_TOKEN, text).header(WWW_AUTHENTICATE, CHALLENGE)
            }
            Error::SessionNotFound => Self::new(code::SESSION_NOT_FOUND, text),
            Error::AccountNotFound => Self::new(code::ACCOUNT_NOT_FOUND, text),
            Error::AccountDisabled => Self::new(code::ACCOUNT_DISABLED, text),
            Error::InvalidPageToken => Self::new(code::INVALID_PAGE_TOKEN, text),
            Error::Unauthenticated => {
                Self::new(code::UNAUTHENTICATED, text).header(WWW_AUTHENTICATE, CHALLENGE)
            }
            Error::AmbiguousCredentials => Self::new(code::MALFORMED_REQUEST, text),
            Error::InvalidToken => refused_token(code::INVALID_TOKEN, text),
            Error::TokenExpired => refused_token(code::TOKEN_EXPIRED, text),
            Error::TokenRevoked => refused_token(code::TOKEN_REVOKED, text),
            Error::UnknownService | Error::UnknownOperator => {
                Self::new(code::UNAUTHENTICATED, text)
            }
            Error::TooManyAttempts(exhausted) => limited(code::TOO_MANY_ATTEMPTS, text, exhausted),
            Error::TooManyRequests(exhausted) => limited(code::TOO_MANY_REQUESTS, text, exhausted),
            Error::Overloaded(delay) => Self::new(code::OVERLOADED, text).retry_after(delay),
            Error::DatabaseUnavailable => {
                Self::new(code::DATABASE_UNAVAILABLE, text).retry_after(Duration::from_secs(1))
            }
            Error::Internal => Self::new(code::INTERNAL, text),
        }
    }
}

/// Describes an exhausted limit in the fields of draft-ietf-httpapi-ratelimit-headers-10.
fn limited(code: Code, text: String, exhausted: Exhausted) -> ApiError {
    let Exhausted { policy, quota, window, retry_after } = exhausted;
    let delay = whole_seconds(retry_after);
    let window = window.as_secs();
    let error = ApiError::new(code, text).retry_after(retry_after);
    [
        (RATE_LIMIT, format!("\"{policy}\";r=0;t={delay}")),
        (RATE_LIMIT_POLICY, format!("\"{policy}\";q={quota};w={window}")),
    ]
    .into_iter()
    .fold(error, |error, (name, value)| match HeaderValue::from_str(&value) {
        Ok(value) => error.header(name, value),
        Err(_) => error,
    })
}

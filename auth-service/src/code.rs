//! The codes of the errors that this service answers with: those of every service, and its own.

use service_kit::catalogue::Catalogue;
pub use service_kit::code::*;

use crate::field_code::FIELD_CODES;

/// What this service adds to the codes of every service.
pub const CATALOGUE: Catalogue = Catalogue { codes: CODES, field_codes: FIELD_CODES };

service_kit::codes! {
    INVALID_LINK = "invalid_link", BAD_REQUEST, InvalidArgument,
        "Invalid link",
        "The one-time link does not work: it is malformed, unknown, used or expired, or the password or email has changed since. The answer does not say which.",
        "Ask the person to request another one.";
    INVALID_REFRESH_TOKEN = "invalid_refresh_token", UNAUTHORIZED, Unauthenticated,
        "Invalid refresh token",
        "The refresh token is malformed, forged, expired or withdrawn, or its session has ended. The answer does not say which.",
        "Log in again.";
    INVALID_CREDENTIALS = "invalid_credentials", UNAUTHORIZED, Unauthenticated,
        "Invalid credentials",
        "The email and the password do not match an account. The answer does not say which of them is wrong. Where a request with an access token also takes the current password, a wrong one has this code with 403 (7 on gRPC).",
        "Ask the person for both again, or for the current password.";
    EMAIL_NOT_VERIFIED = "email_not_verified", FORBIDDEN, PermissionDenied,
        "Email not verified",
        "The email and the password are right, but the email has to be confirmed first, by the link that was sent to it.",
        "Ask the person to follow the link; `POST /auth/email/verification` sends another one.";
    REGISTRATION_CLOSED = "registration_closed", FORBIDDEN, PermissionDenied,
        "Registration closed",
        "People cannot register themselves here.",
        "Ask an operator for an account.";
    MAIL_DISABLED = "mail_disabled", NOT_FOUND, NotFound,
        "Mail disabled",
        "The service sends no mail, so it has no links to reset a password or to confirm an email.",
        "Offer something else, or have the operator set `SMTP_URL`.";
    SESSION_NOT_FOUND = "session_not_found", NOT_FOUND, NotFound,
        "Session not found",
        "The caller has no session with this id: it has ended, never was, or is somebody else's.",
        "Treat the session as ended.";
    ACCOUNT_NOT_FOUND = "account_not_found", NOT_FOUND, NotFound,
        "Account not found",
        "There is no account with this id or email. Only operators are told.",
        "Look for the account in the list; it may have been deleted, or have another email now.";
    EMAIL_ALREADY_REGISTERED = "email_already_registered", CONFLICT, AlreadyExists,
        "Email already registered",
        "The email has an account, in this or another letter case.",
        "Log in instead, or use another email.";
    ACCOUNT_DISABLED = "account_disabled", CONFLICT, FailedPrecondition,
        "Account disabled",
        "The account is disabled, so that no link to choose a password can be sent. Only operators are told.",
        "Enable the account first.";
    TOO_MANY_ATTEMPTS = "too_many_attempts", TOO_MANY_REQUESTS, ResourceExhausted,
        "Too many attempts",
        "Too many failed logins for this account lately. The right password is refused as well until the time is over.",
        "Wait for the seconds in `Retry-After` (`RetryInfo` on gRPC).";
    TOO_MANY_REQUESTS = "too_many_requests", TOO_MANY_REQUESTS, ResourceExhausted,
        "Too many requests",
        "Too many requests from this network lately.",
        "Wait for the seconds in `Retry-After` (`RetryInfo` on gRPC).";
}

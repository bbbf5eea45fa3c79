//! The catalogue of errors: one stable code for each, with its form on both edges.

use http::StatusCode;

use crate::field_codes::FIELD_CODES;

macro_rules! catalogue {
    ($($name:ident = $slug:literal, $http:ident, $grpc:ident, $title:literal, $meaning:literal, $advice:literal;)*) => {
        /// The stable code of an error. A client may rely on [`Code::as_str`]; texts may change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code {
            $(#[doc = $meaning] $name,)*
        }

        impl Code {
            /// Every code, in the order of the catalogue.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code as clients see it: in `code` on REST, and as the reason of `ErrorInfo` on
            /// gRPC.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $slug,)* }
            }

            /// The HTTP status (RFC 9110, section 15).
            #[must_use]
            pub const fn http(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$http,)* }
            }

            /// The gRPC status code.
            #[must_use]
            pub const fn grpc(self) -> tonic::Code {
                match self { $(Self::$name => tonic::Code::$grpc,)* }
            }

            /// A short summary that does not change from one occurrence to the next (RFC 9457,
            /// section 3.1.3).
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// What the error means.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }

            /// What the caller should do.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$name => $advice,)* }
            }
        }
    };
}

catalogue! {
    MalformedRequest = "malformed_request", BAD_REQUEST, InvalidArgument,
        "Malformed request",
        "The request breaks a rule of its protocol: a parameter given twice, two Authorization fields, a message that cannot be decoded.",
        "Correct the request; sending it again unchanged fails again.";
    MalformedJson = "malformed_json", BAD_REQUEST, InvalidArgument,
        "Malformed JSON",
        "The body is not one JSON object in UTF-8, has a member twice, or nests too deeply.",
        "Correct the body; `detail` says where it breaks.";
    ValidationFailed = "validation_failed", BAD_REQUEST, InvalidArgument,
        "Validation failed",
        "Well-formed input breaks rules. `errors` (`BadRequest` on gRPC) lists all of them, each with a JSON pointer (RFC 6901), a code and a text.",
        "Correct the members that `errors` names.";
    InvalidPageToken = "invalid_page_token", BAD_REQUEST, InvalidArgument,
        "Invalid page token",
        "The page token was not issued by this service for this list.",
        "Start again from the first page.";
    InvalidLink = "invalid_link", BAD_REQUEST, InvalidArgument,
        "Invalid link",
        "The one-time link does not work: it is malformed, unknown, used or expired, or the password or email has changed since. The answer does not say which.",
        "Ask the person to request another one.";
    Unauthenticated = "unauthenticated", UNAUTHORIZED, Unauthenticated,
        "Authentication needed",
        "The request carries no credentials.",
        "Log in and send the access token as `Authorization: Bearer <token>`.";
    InvalidToken = "invalid_token", UNAUTHORIZED, Unauthenticated,
        "Invalid token",
        "The token is malformed, forged, not valid yet or not meant for this service.",
        "Log in again for a new access token.";
    TokenExpired = "token_expired", UNAUTHORIZED, Unauthenticated,
        "Token expired",
        "The token is genuine, and its time is over.",
        "Get a new access token with the refresh token, or log in again.";
    TokenRevoked = "token_revoked", UNAUTHORIZED, Unauthenticated,
        "Token revoked",
        "The token's session was ended, or every token of its account: by a logout, a change of the password or the email, or an operator.",
        "Forget the token and log in again.";
    InvalidRefreshToken = "invalid_refresh_token", UNAUTHORIZED, Unauthenticated,
        "Invalid refresh token",
        "The refresh token is malformed, forged, expired or withdrawn, or its session has ended. The answer does not say which.",
        "Log in again.";
    InvalidCredentials = "invalid_credentials", UNAUTHORIZED, Unauthenticated,
        "Invalid credentials",
        "The email and the password do not match an account. The answer does not say which of them is wrong. Where a request with an access token also takes the current password, a wrong one has this code with 403 (7 on gRPC).",
        "Ask the person for both again, or for the current password.";
    AccountDeleted = "account_deleted", UNAUTHORIZED, Unauthenticated,
        "Account deleted",
        "The token is of an account that its owner has deleted.",
        "Forget the token.";
    Forbidden = "forbidden", FORBIDDEN, PermissionDenied,
        "Forbidden",
        "The caller may not do this to this resource, whether it exists or not.",
        "Do it as the owner, or not at all.";
    EmailNotVerified = "email_not_verified", FORBIDDEN, PermissionDenied,
        "Email not verified",
        "The email and the password are right, but the email has to be confirmed first, by the link that was sent to it.",
        "Ask the person to follow the link; `POST /auth/email/verification` sends another one.";
    RegistrationClosed = "registration_closed", FORBIDDEN, PermissionDenied,
        "Registration closed",
        "People cannot register themselves here.",
        "Ask an operator for an account.";
    NotFound = "not_found", NOT_FOUND, NotFound,
        "Not found",
        "There is nothing at this path.",
        "Check the path against the API's description at `/openapi.json`.";
    UserNotFound = "user_not_found", NOT_FOUND, NotFound,
        "User not found",
        "There is no profile with this id.",
        "Treat the person as gone.";
    MailDisabled = "mail_disabled", NOT_FOUND, NotFound,
        "Mail disabled",
        "The service sends no mail, so it has no links to reset a password or to confirm an email.",
        "Offer something else, or have the operator set `SMTP_URL`.";
    SessionNotFound = "session_not_found", NOT_FOUND, NotFound,
        "Session not found",
        "The caller has no session with this id: it has ended, never was, or is somebody else's.",
        "Treat the session as ended.";
    AccountNotFound = "account_not_found", NOT_FOUND, NotFound,
        "Account not found",
        "There is no account with this id or email. Only operators are told.",
        "Look for the account in the list; it may have been deleted, or have another email now.";
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, Unimplemented,
        "Method not allowed",
        "The path exists, the method does not.",
        "Use a method that the `Allow` field lists.";
    RequestTimeout = "request_timeout", REQUEST_TIMEOUT, DeadlineExceeded,
        "Request timeout",
        "The body did not arrive in time.",
        "Send the request again over a better connection.";
    EmailAlreadyRegistered = "email_already_registered", CONFLICT, AlreadyExists,
        "Email already registered",
        "The email has an account, in this or another letter case.",
        "Log in instead, or use another email.";
    AccountDisabled = "account_disabled", CONFLICT, FailedPrecondition,
        "Account disabled",
        "The account is disabled, so that no link to choose a password can be sent. Only operators are told.",
        "Enable the account first.";
    PreconditionFailed = "precondition_failed", PRECONDITION_FAILED, Aborted,
        "Precondition failed",
        "The resource has changed since the entity tag was read.",
        "Read it again, redo the change, send it with the new tag.";
    PayloadTooLarge = "payload_too_large", PAYLOAD_TOO_LARGE, ResourceExhausted,
        "Payload too large",
        "The body (REST) or the message (gRPC) is over 64 KiB.",
        "Send less.";
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, InvalidArgument,
        "Unsupported media type",
        "The Content-Type is missing, or not one that this path reads.",
        "Send `Content-Type: application/json`.";
    TooManyAttempts = "too_many_attempts", TOO_MANY_REQUESTS, ResourceExhausted,
        "Too many attempts",
        "Too many failed logins for this account lately. The right password is refused as well until the time is over.",
        "Wait for the seconds in `Retry-After` (`RetryInfo` on gRPC).";
    TooManyRequests = "too_many_requests", TOO_MANY_REQUESTS, ResourceExhausted,
        "Too many requests",
        "Too many requests from this network lately.",
        "Wait for the seconds in `Retry-After` (`RetryInfo` on gRPC).";
    Internal = "internal", INTERNAL_SERVER_ERROR, Internal,
        "Internal error",
        "A fault of the service, not of the request. The log has it under the request id.",
        "Try once more; then report the request id.";
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, Unavailable,
        "Overloaded",
        "The service has more to do than it can do in time: passwords wait to be hashed, or too many answers to be read.",
        "Wait for the seconds in `Retry-After` (`RetryInfo` on gRPC), then try again.";
    DatabaseUnavailable = "database_unavailable", SERVICE_UNAVAILABLE, Unavailable,
        "Database unavailable",
        "The service cannot reach its database at the moment.",
        "Try again with increasing delays.";
    SigningKeysUnavailable = "signing_keys_unavailable", SERVICE_UNAVAILABLE, Unavailable,
        "Signing keys unavailable",
        "The service has not received the keys that validate tokens yet.",
        "Try again with increasing delays.";
    RevocationsStale = "revocations_stale", SERVICE_UNAVAILABLE, Unavailable,
        "Revocations stale",
        "The service cannot tell which tokens are revoked: its list of them is older than `REVOCATIONS_MAX_AGE`, or has never arrived.",
        "Try again with increasing delays.";
    ServiceUnavailable = "service_unavailable", SERVICE_UNAVAILABLE, Unavailable,
        "Service unavailable",
        "No replica of the service can be reached. Only the gateway of `deploy/gateway` says so, in the service's place.",
        "Wait for the seconds in `Retry-After`, then try again with increasing delays.";
    DeadlineExceeded = "deadline_exceeded", GATEWAY_TIMEOUT, DeadlineExceeded,
        "Deadline exceeded",
        "The call's deadline passed before the answer was ready.",
        "Try again, with a longer deadline if it was short.";
    Unimplemented = "unimplemented", NOT_IMPLEMENTED, Unimplemented,
        "Unimplemented",
        "The service has no such method.",
        "Check the name against server reflection or `proto/`.";
}

/// The catalogue as a Markdown document: the text of `docs/errors.md`.
#[must_use]
pub fn catalogue_markdown() -> String {
    use std::fmt::Write as _;

    let mut text = String::from(
        "# Errors\n\n\
         REST answers every 4xx and 5xx with `application/problem+json` (RFC 9457): `type`, `title`, \
         `status`, `detail`, `code`, `request_id`, and `errors` where single members are at fault. gRPC \
         carries the same code as the reason of `google.rpc.ErrorInfo` with the domain `latchkey`, \
         single faults as `BadRequest` and the delay before another try as `RetryInfo`. Rely on the \
         codes; the texts may change.\n",
    );
    for code in Code::ALL {
        let _ = write!(
            text,
            "\n## {slug}\n\n{meaning}\n\n- REST: {http}\n- gRPC: {grpc} ({number})\n- What to do: {advice}\n",
            slug = code.as_str(),
            meaning = code.meaning(),
            http = code.http(),
            grpc = grpc_name(code.grpc()),
            number = code.grpc() as i32,
            advice = code.advice(),
        );
    }
    text.push_str(
        "\n## Codes of fields\n\nWith `validation_failed`, each entry of `errors` has one of these.\n\n\
         | code | the rule |\n|---|---|\n",
    );
    for (code, rule) in FIELD_CODES {
        let _ = writeln!(text, "| `{code}` | {rule} |");
    }
    text
}

/// The name of a gRPC status code as the specification writes it, such as `NOT_FOUND`.
#[must_use]
pub const fn grpc_name(code: tonic::Code) -> &'static str {
    match code {
        tonic::Code::Ok => "OK",
        tonic::Code::Cancelled => "CANCELLED",
        tonic::Code::Unknown => "UNKNOWN",
        tonic::Code::InvalidArgument => "INVALID_ARGUMENT",
        tonic::Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        tonic::Code::NotFound => "NOT_FOUND",
        tonic::Code::AlreadyExists => "ALREADY_EXISTS",
        tonic::Code::PermissionDenied => "PERMISSION_DENIED",
        tonic::Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        tonic::Code::FailedPrecondition => "FAILED_PRECONDITION",
        tonic::Code::Aborted => "ABORTED",
        tonic::Code::OutOfRange => "OUT_OF_RANGE",
        tonic::Code::Unimplemented => "UNIMPLEMENTED",
        tonic::Code::Internal => "INTERNAL",
        tonic::Code::Unavailable => "UNAVAILABLE",
        tonic::Code::DataLoss => "DATA_LOSS",
        tonic::Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_in_the_docs_is_the_one_in_the_code() {
        #[expect(clippy::disallowed_methods, reason = "no setting of a service")]
        let update = std::env::var_os("UPDATE_DOCS").is_some();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors.md");
        if update {
            std::fs::write(path, catalogue_markdown()).unwrap();
        }
        assert_eq!(
            std::fs::read_to_string(path).unwrap(),
            catalogue_markdown(),
            "docs/errors.md is stale: run the tests with UPDATE_DOCS=1"
        );
    }

    #[test]
    fn codes_are_unique_and_snake_case() {
        let mut seen = std::collections::BTreeSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.as_str()), "{} twice", code.as_str());
            assert!(code.as_str().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        }
    }
}

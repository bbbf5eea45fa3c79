//! The codes of the errors that any service may answer with.

crate::codes! {
    MALFORMED_REQUEST = "malformed_request", BAD_REQUEST, InvalidArgument,
        "Malformed request",
        "The request breaks a rule of its protocol: a parameter given twice, two Authorization fields, a message that cannot be decoded. Too many or too large headers get it with status 431 (RFC 6585, section 5).",
        "Correct the request; sending it again unchanged fails again.";
    MALFORMED_JSON = "malformed_json", BAD_REQUEST, InvalidArgument,
        "Malformed JSON",
        "The body is not one JSON object in UTF-8, has a member twice, or nests too deeply.",
        "Correct the body; `detail` says where it breaks.";
    VALIDATION_FAILED = "validation_failed", BAD_REQUEST, InvalidArgument,
        "Validation failed",
        "Well-formed input breaks rules. `errors` (`BadRequest` on gRPC) lists them, each with a JSON pointer (RFC 6901), a code and a text; of very many only the first 4 KiB.",
        "Correct the members that `errors` names.";
    INVALID_PAGE_TOKEN = "invalid_page_token", BAD_REQUEST, InvalidArgument,
        "Invalid page token",
        "The page token was not issued by this service for this list.",
        "Start again from the first page.";
    UNAUTHENTICATED = "unauthenticated", UNAUTHORIZED, Unauthenticated,
        "Authentication needed",
        "The request carries no credentials.",
        "Log in and send the access token as `Authorization: Bearer <token>`.";
    INVALID_TOKEN = "invalid_token", UNAUTHORIZED, Unauthenticated,
        "Invalid token",
        "The token is malformed, forged, not valid yet or not meant for this service.",
        "Log in again for a new access token.";
    TOKEN_EXPIRED = "token_expired", UNAUTHORIZED, Unauthenticated,
        "Token expired",
        "The token is genuine, and its time is over.",
        "Get a new access token with the refresh token, or log in again.";
    TOKEN_REVOKED = "token_revoked", UNAUTHORIZED, Unauthenticated,
        "Token revoked",
        "The token's session was ended, or every token of its account: by a logout, a change of the password or the email, or an operator.",
        "Forget the token and log in again.";
    FORBIDDEN = "forbidden", FORBIDDEN, PermissionDenied,
        "Forbidden",
        "The caller may not do this to this resource, whether it exists or not.",
        "Do it as the owner, or not at all.";
    NOT_FOUND = "not_found", NOT_FOUND, NotFound,
        "Not found",
        "There is nothing at this path.",
        "Check the path against the API's description at `/openapi.json`.";
    METHOD_NOT_ALLOWED = "method_not_allowed", METHOD_NOT_ALLOWED, Unimplemented,
        "Method not allowed",
        "The path exists, the method does not.",
        "Use a method that the `Allow` field lists.";
    REQUEST_TIMEOUT = "request_timeout", REQUEST_TIMEOUT, DeadlineExceeded,
        "Request timeout",
        "The body did not arrive in time.",
        "Send the request again over a better connection.";
    PAYLOAD_TOO_LARGE = "payload_too_large", PAYLOAD_TOO_LARGE, ResourceExhausted,
        "Payload too large",
        "The body (REST) or the message (gRPC) is over 64 KiB.",
        "Send less.";
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, InvalidArgument,
        "Unsupported media type",
        "The Content-Type is missing, or not one that this path reads.",
        "Send `Content-Type: application/json`.";
    INTERNAL = "internal", INTERNAL_SERVER_ERROR, Internal,
        "Internal error",
        "A fault of the service, not of the request. The log has it under the request id.",
        "Try once more; then report the request id.";
    OVERLOADED = "overloaded", SERVICE_UNAVAILABLE, Unavailable,
        "Overloaded",
        "The service has more to do than it can do in time: passwords wait to be hashed, or too many answers to be read.",
        "Wait for the seconds in `Retry-After` (`RetryInfo` on gRPC), then try again.";
    DATABASE_UNAVAILABLE = "database_unavailable", SERVICE_UNAVAILABLE, Unavailable,
        "Database unavailable",
        "The service cannot reach its database at the moment.",
        "Try again with increasing delays.";
    SERVICE_UNAVAILABLE = "service_unavailable", SERVICE_UNAVAILABLE, Unavailable,
        "Service unavailable",
        "No replica of the service can be reached. Only the gateway of `deploy/gateway` says so, in the service's place.",
        "Wait for the seconds in `Retry-After`, then try again with increasing delays.";
    DEADLINE_EXCEEDED = "deadline_exceeded", GATEWAY_TIMEOUT, DeadlineExceeded,
        "Deadline exceeded",
        "The call's deadline passed before the answer was ready.",
        "Try again, with a longer deadline if it was short.";
    UNIMPLEMENTED = "unimplemented", NOT_IMPLEMENTED, Unimplemented,
        "Unimplemented",
        "The service has no such method, or it does not accept messages with this compression.",
        "Check the name against server reflection or `proto/`; send messages without compression.";
}

//! The codes of the single faults that this service finds in its input: those of every service, and its own.

pub use service_kit::field_code::*;

service_kit::field_codes! {
    NOT_SUPPORTED = "not_supported", "The service does not offer what the member asks for.";
    INVALID_EMAIL = "invalid_email", "It must be an email address such as `name@example.com`.";
    EMAIL_TOO_LONG = "email_too_long", "An email has at most 254 bytes.";
    PASSWORD_TOO_SHORT = "password_too_short", "The password has fewer characters than the service demands.";
    PASSWORD_TOO_LONG = "password_too_long", "A password has at most 1,024 bytes.";
    PASSWORD_HAS_NUL = "password_has_nul", "A password has no NUL character.";
    PASSWORD_IS_EMAIL = "password_is_email", "A password is neither the email nor the part before its `@`.";
    PASSWORD_COMMON = "password_common", "The password is on a list of common ones.";
    PASSWORD_BREACHED = "password_breached", "The password has appeared in a data breach: others know it and will try it. Choose another one.";
    INVALID_ACCOUNT = "invalid_account", "It must be an email, or a UUID in lower case with hyphens.";
    FILTERS_EXCLUDE = "filters_exclude", "The list can be filtered by one of these at a time.";
    UNUSABLE_PASSWORD_HASH = "unusable_password_hash", "No password could be checked against the hash: it is of no known form, or its parameters are not taken.";
}

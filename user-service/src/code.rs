//! The codes of the errors that this service answers with: those of every service, and its own.

use service_kit::catalogue::Catalogue;
pub use service_kit::code::*;

use crate::field_code::FIELD_CODES;

/// What this service adds to the codes of every service.
pub const CATALOGUE: Catalogue = Catalogue { codes: CODES, field_codes: FIELD_CODES };

service_kit::codes! {
    ACCOUNT_DELETED = "account_deleted", UNAUTHORIZED, Unauthenticated,
        "Account deleted",
        "The token is of an account that its owner has deleted.",
        "Forget the token.";
    USER_NOT_FOUND = "user_not_found", NOT_FOUND, NotFound,
        "User not found",
        "There is no profile with this id.",
        "Treat the person as gone.";
    PRECONDITION_FAILED = "precondition_failed", PRECONDITION_FAILED, Aborted,
        "Precondition failed",
        "The resource has changed since the entity tag was read.",
        "Read it again, redo the change, send it with the new tag.";
    SIGNING_KEYS_UNAVAILABLE = "signing_keys_unavailable", SERVICE_UNAVAILABLE, Unavailable,
        "Signing keys unavailable",
        "The service has not received the keys that validate tokens yet.",
        "Try again with increasing delays.";
    REVOCATIONS_STALE = "revocations_stale", SERVICE_UNAVAILABLE, Unavailable,
        "Revocations stale",
        "The service cannot tell which tokens are revoked: its list of them is older than `REVOCATIONS_MAX_AGE`, or has never arrived.",
        "Try again with increasing delays.";
}

//! The codes of single faults, as they stand in `errors` of a problem document and as the reasons of
//! `BadRequest`.

/// Each code with the rule that is broken.
pub const FIELD_CODES: &[(&str, &str)] = &[
    ("required", "The member is missing."),
    ("not_a_string", "The member must be a string."),
    ("not_a_boolean", "The member must be `true` or `false`."),
    ("not_supported", "The service does not offer what the member asks for."),
    ("unknown_member", "There is no such member, or no such path in a field mask."),
    ("unknown_parameter", "The path has no such query parameter."),
    ("read_only", "The member may be sent back as it is, or left out, but not changed."),
    ("not_a_uuid", "It must be a UUID in lower case with hyphens."),
    ("control_character", "It has a control character that is not allowed there."),
    ("invalid_email", "It must be an email address such as `name@example.com`."),
    ("email_too_long", "An email has at most 254 bytes."),
    ("password_too_short", "The password has fewer characters than the service demands."),
    ("password_too_long", "A password has at most 1,024 bytes."),
    ("password_has_nul", "A password has no NUL character."),
    ("password_is_email", "A password is neither the email nor the part before its `@`."),
    ("password_common", "The password is on a list of common ones."),
    (
        "password_breached",
        "The password has appeared in a data breach: others know it and will try it. Choose another one.",
    ),
    ("name_too_long", "A name has at most 200 characters."),
    ("bio_too_long", "A bio has at most 4,000 characters."),
    ("invalid_account", "It must be an email, or a UUID in lower case with hyphens."),
    ("filters_exclude", "The list can be filtered by one of these at a time."),
    (
        "unusable_password_hash",
        "No password could be checked against the hash: it is of no known form, or its parameters are not taken.",
    ),
    ("invalid_page_size", "The page size must be a whole number that is not negative."),
];

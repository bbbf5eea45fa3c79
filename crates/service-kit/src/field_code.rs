//! The codes of the single faults that any service may find in its input.

crate::field_codes! {
    REQUIRED = "required", "The member is missing.";
    NOT_A_STRING = "not_a_string", "The member must be a string.";
    NOT_A_BOOLEAN = "not_a_boolean", "The member must be `true` or `false`.";
    UNKNOWN_MEMBER = "unknown_member", "There is no such member, or no such path in a field mask.";
    UNKNOWN_PARAMETER = "unknown_parameter", "The path has no such query parameter.";
    NOT_A_UUID = "not_a_uuid", "It must be a UUID in lower case with hyphens.";
    INVALID_PAGE_SIZE = "invalid_page_size", "The page size must be a whole number that is not negative.";
}

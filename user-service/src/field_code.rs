//! The codes of the single faults that this service finds in its input: those of every service, and its own.

pub use service_kit::field_code::*;

service_kit::field_codes! {
    READ_ONLY = "read_only", "The member may be sent back as it is, or left out, but not changed.";
    CONTROL_CHARACTER = "control_character", "It has a control character that is not allowed there.";
    NAME_TOO_LONG = "name_too_long", "A name has at most 200 characters.";
    BIO_TOO_LONG = "bio_too_long", "A bio has at most 4,000 characters.";
}

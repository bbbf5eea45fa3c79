//! What the service is about: profiles and who calls; and the values of requests, parsed once, at
//! the door.

mod profile;

use crate::field_code;
use service_kit::catalogue::FieldCode;
use std::fmt;

use uuid::Uuid;

pub use self::profile::{Audience, Caller, Profile, Visibility};

/// The most code points of a name.
pub const NAME_MAX: usize = 200;
/// The most code points of a bio.
pub const BIO_MAX: usize = 4_000;
/// How many profiles a page has where the caller says nothing.
pub const PAGE_SIZE_DEFAULT: u32 = 50;
/// How many profiles a page has at most.
pub const PAGE_SIZE_MAX: u32 = 200;

/// The rule that a value breaks: a code and a text.
pub type Broken = (FieldCode, &'static str);

/// The id of an account and of its profile: a UUID of any version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(pub Uuid);

impl UserId {
    /// Reads the canonical form: 36 characters, lower case, with hyphens. One person has one URL.
    ///
    /// # Errors
    ///
    /// The rule that it breaks.
    pub fn parse(text: &str) -> Result<Self, Broken> {
        Uuid::try_parse(text)
            .ok()
            .filter(|id| {
                let mut buffer = Uuid::encode_buffer();
                id.hyphenated().encode_lower(&mut buffer) == text
            })
            .map(Self)
            .ok_or((field_code::NOT_A_UUID, "must be a UUID in lower case with hyphens, or me"))
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Whose profile a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The caller's own.
    Me,
    /// That of this account, which may be the caller's.
    User(UserId),
}

impl Target {
    /// Reads an id as [`UserId::parse`] does, or `me` for the caller.
    ///
    /// # Errors
    ///
    /// The rule that it breaks.
    pub fn parse(text: &str) -> Result<Self, Broken> {
        match text {
            "me" => Ok(Self::Me),
            id => UserId::parse(id).map(Self::User),
        }
    }

    /// The id that is meant where `caller` says it.
    #[must_use]
    pub const fn id(self, caller: &Caller) -> UserId {
        match self {
            Self::Me => caller.id,
            Self::User(id) => id,
        }
    }
}

/// The name to show. May be empty, as it is in a new profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// Reads a name, exactly as it is.
    ///
    /// # Errors
    ///
    /// The rule that it breaks.
    pub fn parse(text: String) -> Result<Self, Broken> {
        if text.chars().count() > NAME_MAX {
            Err((field_code::NAME_TOO_LONG, "must be at most 200 characters"))
        } else if text.chars().any(char::is_control) {
            Err((field_code::CONTROL_CHARACTER, "must not contain control characters"))
        } else {
            Ok(Self(text))
        }
    }

    /// The text.
    #[must_use]
    pub fn into_text(self) -> String {
        self.0
    }
}

/// A text about the person. May be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bio(String);

impl Bio {
    /// Reads a bio, exactly as it is.
    ///
    /// # Errors
    ///
    /// The rule that it breaks.
    pub fn parse(text: String) -> Result<Self, Broken> {
        if text.chars().count() > BIO_MAX {
            Err((field_code::BIO_TOO_LONG, "must be at most 4,000 characters"))
        } else if text.chars().any(|c| c.is_control() && !['\n', '\t'].contains(&c)) {
            Err((
                field_code::CONTROL_CHARACTER,
                "must not contain control characters other than line feed and tab",
            ))
        } else {
            Ok(Self(text))
        }
    }

    /// No text.
    #[must_use]
    pub const fn empty() -> Self {
        Self(String::new())
    }

    /// The text.
    #[must_use]
    pub fn into_text(self) -> String {
        self.0
    }
}

/// What the owner wants to change. What is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edit {
    /// The new name.
    pub name: Option<Name>,
    /// The new bio.
    pub bio: Option<Bio>,
}

/// How many profiles a page has at most: 1 to [`PAGE_SIZE_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageSize(u32);

impl PageSize {
    /// Reads a decimal number of any length. Zero stands for the default; more than the most is the
    /// most.
    ///
    /// # Errors
    ///
    /// Where it is something else, such as a negative number.
    pub fn parse(text: &str) -> Result<Self, Broken> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(INVALID_PAGE_SIZE);
        }
        // What does not fit is more than the most.
        Ok(Self::at_most(match text.trim_start_matches('0') {
            "" => 0,
            digits => digits.parse().unwrap_or(u32::MAX),
        }))
    }

    /// Reads a number as [`PageSize::parse`] does.
    ///
    /// # Errors
    ///
    /// Where it is negative.
    pub fn from_number(number: i32) -> Result<Self, Broken> {
        u32::try_from(number).map(Self::at_most).map_err(|_| INVALID_PAGE_SIZE)
    }

    fn at_most(number: u32) -> Self {
        Self(if number == 0 { PAGE_SIZE_DEFAULT } else { number.min(PAGE_SIZE_MAX) })
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

const INVALID_PAGE_SIZE: Broken =
    (field_code::INVALID_PAGE_SIZE, "must be a whole number, 0 or more");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_form() {
        let id = "0197a3c2-7b5e-7cc1-8a01-0123456789ab";
        assert_eq!(UserId::parse(id).unwrap().to_string(), id);
        let upper = id.to_uppercase();
        let simple = id.replace('-', "");
        let braced = format!("{{{id}}}");
        let urn = format!("urn:uuid:{id}");
        for text in ["", "1", &upper, &simple, &braced, &urn, &format!("{id} "), &id[1..]] {
            assert!(UserId::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn me_is_the_caller() {
        let caller = Caller::new(Uuid::from_u128(7), None, 0);
        assert_eq!(Target::parse("me").unwrap().id(&caller), caller.id);
        let other = "0197a3c2-7b5e-7cc1-8a01-0123456789ab";
        assert_eq!(Target::parse(other).unwrap().id(&caller).to_string(), other);
        for text in ["", "Me", "ME", "me ", "me/", "@me", "self"] {
            assert!(Target::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_name_is_measured_in_code_points_and_has_no_control_characters() {
        for text in ["", " ", "é".repeat(200).as_str(), "\u{200d}\u{feff}"] {
            assert_eq!(Name::parse(text.to_owned()).unwrap().into_text(), text);
        }
        for text in ["é".repeat(201).as_str(), "a\nb", "\t", "\u{7f}", "\u{85}", "\u{9f}"] {
            assert!(Name::parse(text.to_owned()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_bio_may_have_lines_and_tabs() {
        for text in ["", "a\n\tb\n", "é".repeat(4_000).as_str()] {
            assert_eq!(Bio::parse(text.to_owned()).unwrap().into_text(), text);
        }
        for text in ["é".repeat(4_001).as_str(), "a\r\nb", "\u{1b}[0m", "\u{80}"] {
            assert!(Bio::parse(text.to_owned()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_page_size_has_a_default_and_a_limit() {
        let long = "9".repeat(1000);
        let zeros = format!("{}7", "0".repeat(1000));
        let read = [
            ("0", 50),
            ("000", 50),
            ("1", 1),
            ("200", 200),
            ("201", 200),
            ("4294967296", 200),
            (&long, 200),
            (&zeros, 7),
        ];
        for (text, size) in read {
            assert_eq!(PageSize::parse(text).unwrap().get(), size, "{text:?}");
        }
        for text in ["", "-1", "-0", "+1", "1.0", "1e2", " 1", "x", "١", "0x10"] {
            assert!(PageSize::parse(text).is_err(), "{text:?}");
        }
        assert!(PageSize::from_number(-1).is_err());
        assert_eq!(PageSize::from_number(i32::MAX).unwrap().get(), 200);
    }
}

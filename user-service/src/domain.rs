//! The domain: profiles, callers, and the values of requests, which are parsed once, when they
//! enter the service.

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
/// How many profiles a page has if the request does not say.
pub const PAGE_SIZE_DEFAULT: u32 = 50;
/// The most profiles that a page can have.
pub const PAGE_SIZE_MAX: u32 = 200;

/// A rule that a value breaks: its code and a description.
pub type Broken = (FieldCode, &'static str);

/// The id of an account and of its profile: a UUID of any version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(pub Uuid);

impl UserId {
    /// Parses the canonical form: 36 characters, lower case, with hyphens. Other forms are rejected
    /// so that each profile has exactly one URL.
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

/// The profile that a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The caller's own profile.
    Me,
    /// The profile of this account, which may be the caller's.
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

    /// The id of the profile, if `caller` made the request.
    #[must_use]
    pub const fn id(self, caller: &Caller) -> UserId {
        match self {
            Self::Me => caller.id,
            Self::User(id) => id,
        }
    }
}

/// The text, if it breaks no rule.
fn unbroken(text: String, broken: [Option<Broken>; 2]) -> Result<String, Vec<Broken>> {
    let broken: Vec<_> = broken.into_iter().flatten().collect();
    if broken.is_empty() { Ok(text) } else { Err(broken) }
}

/// The display name. It may be empty, and is in a new profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// Parses a name. It is kept unchanged, without trimming or normalisation.
    ///
    /// # Errors
    ///
    /// The rules that it breaks.
    pub fn parse(text: String) -> Result<Self, Vec<Broken>> {
        let is_too_long = text.chars().count() > NAME_MAX;
        let has_control = text.chars().any(char::is_control);
        let broken = [
            is_too_long.then_some((field_code::NAME_TOO_LONG, "must be at most 200 characters")),
            has_control
                .then_some((field_code::CONTROL_CHARACTER, "must not contain control characters")),
        ];
        unbroken(text, broken).map(Self)
    }

    /// The text.
    #[must_use]
    pub fn into_text(self) -> String {
        self.0
    }
}

/// A text about the person. It may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bio(String);

impl Bio {
    /// Parses a bio. It is kept unchanged, without trimming or normalisation.
    ///
    /// # Errors
    ///
    /// The rules that it breaks.
    pub fn parse(text: String) -> Result<Self, Vec<Broken>> {
        let is_too_long = text.chars().count() > BIO_MAX;
        let has_control = text.chars().any(|c| c.is_control() && !['\n', '\t'].contains(&c));
        let broken = [
            is_too_long.then_some((field_code::BIO_TOO_LONG, "must be at most 4,000 characters")),
            has_control.then_some((
                field_code::CONTROL_CHARACTER,
                "must not contain control characters other than line feed and tab",
            )),
        ];
        unbroken(text, broken).map(Self)
    }

    /// The empty bio.
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

/// The change that the owner requests. Absent fields stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edit {
    /// The new name.
    pub name: Option<Name>,
    /// The new bio.
    pub bio: Option<Bio>,
}

/// The page size that the caller requests: 1 to [`PAGE_SIZE_MAX`] profiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageSize(u32);

impl PageSize {
    /// Parses a decimal number of any length. Zero means the default, and anything above
    /// [`PAGE_SIZE_MAX`] means [`PAGE_SIZE_MAX`].
    ///
    /// # Errors
    ///
    /// If the text is not such a number, for example if it is negative.
    pub fn parse(text: &str) -> Result<Self, Broken> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(INVALID_PAGE_SIZE);
        }
        // A number that does not fit into the integer type exceeds the maximum as well.
        Ok(Self::at_most(match text.trim_start_matches('0') {
            "" => 0,
            digits => digits.parse().unwrap_or(u32::MAX),
        }))
    }

    /// Converts a number by the rules of [`PageSize::parse`].
    ///
    /// # Errors
    ///
    /// If it is negative.
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
        assert_eq!(Name::parse("\u{1}".repeat(201)).unwrap_err().len(), 2);
    }

    #[test]
    fn a_bio_may_have_lines_and_tabs() {
        for text in ["", "a\n\tb\n", "é".repeat(4_000).as_str()] {
            assert_eq!(Bio::parse(text.to_owned()).unwrap().into_text(), text);
        }
        for text in ["é".repeat(4_001).as_str(), "a\r\nb", "\u{1b}[0m", "\u{80}"] {
            assert!(Bio::parse(text.to_owned()).is_err(), "{text:?}");
        }
        assert_eq!(Bio::parse("\u{1}".repeat(4_001)).unwrap_err().len(), 2);
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

//! Emails, passwords and account keys, which are parsed once, when they enter the service.

mod account_key;

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use service_kit::{catalogue::FieldCode, error::Fault, json::fault};
use unicode_normalization::UnicodeNormalization as _;
use uuid::Uuid;

pub use self::account_key::AccountKey;
use crate::{blocklist::Blocklist, field_code};

/// The largest password, in bytes after normalisation.
pub const PASSWORD_MAX_BYTES: usize = 1024;
const EMAIL_MAX_BYTES: usize = 254;
const LOCAL_PART_MAX_BYTES: usize = 64;
const LABEL_MAX_BYTES: usize = 63;

/// Formats a time as the APIs and events do: RFC 3339 in UTC, to the microsecond.
#[must_use]
pub fn timestamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// The id of an account: a UUID, version 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AccountId(pub Uuid);

impl AccountId {
    /// Generates an id that sorts after all earlier ones of this process.
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// An email address in lower case: the grammar of HTML's `input type=email`, and dots only between
/// other characters of the local part.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Email(String);

impl Email {
    /// Parses an address that a client sent.
    ///
    /// # Errors
    ///
    /// The rule that the text breaks, as a code and a description.
    pub fn parse(text: &str) -> Result<Self, (FieldCode, &'static str)> {
        if text.len() > EMAIL_MAX_BYTES {
            return Err((field_code::EMAIL_TOO_LONG, "must be at most 254 bytes"));
        }
        let valid = text
            .split_once('@')
            .is_some_and(|(local, domain)| is_local_part(local) && is_domain(domain));
        if valid {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err((field_code::INVALID_EMAIL, "must be an email address such as name@example.com"))
        }
    }

    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn local_part(&self) -> &str {
        self.0.split('@').next().unwrap_or_default()
    }
}

/// Shows only the domain, because emails are personal data.
impl fmt::Debug for Email {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "[redacted]@{}", self.0.split('@').nth(1).unwrap_or_default())
    }
}

fn is_local_part(local: &str) -> bool {
    local.len() <= LOCAL_PART_MAX_BYTES
        && local.split('.').all(|atom| {
            !atom.is_empty()
                && atom
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~-".contains(&b))
        })
}

fn is_domain(domain: &str) -> bool {
    domain.split('.').all(|label| {
        (1..=LABEL_MAX_BYTES).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    })
}

/// The rules for new passwords.
#[derive(Debug, Clone)]
pub struct PasswordRules {
    /// The least number of code points.
    pub min_length: usize,
    /// The passwords that are refused.
    pub blocklist: Blocklist,
}

/// A password in Unicode NFC, otherwise exactly as it was sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(zeroize::Zeroizing<String>);

impl Password {
    /// Normalises a password without checking any rule, as a login needs it.
    #[must_use]
    pub fn normalize(text: &str) -> Self {
        Self(zeroize::Zeroizing::new(text.nfc().collect()))
    }

    /// Whether it can be the password of any account. If not, hashing it would be wasted work.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        !self.0.is_empty() && self.0.len() <= PASSWORD_MAX_BYTES && !self.0.contains('\0')
    }

    /// The bytes to hash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Parses a password for a new account.
    ///
    /// # Errors
    ///
    /// The rule that the text breaks, as a code and a description.
    pub fn parse_new(
        text: &str,
        email: Option<&Email>,
        rules: &PasswordRules,
    ) -> Result<Self, (FieldCode, String)> {
        let password = Self::normalize(text);
        if password.0.len() > PASSWORD_MAX_BYTES {
            return Err((field_code::PASSWORD_TOO_LONG, "must be at most 1,024 bytes".to_owned()));
        }
        if password.0.contains('\0') {
            return Err((
                field_code::PASSWORD_HAS_NUL,
                "must not contain a NUL character".to_owned(),
            ));
        }
        if password.0.chars().count() < rules.min_length {
            let text = format!("must be at least {} characters", rules.min_length);
            return Err((field_code::PASSWORD_TOO_SHORT, text));
        }
        let folded = zeroize::Zeroizing::new(password.0.to_lowercase());
        if email.is_some_and(|email| *folded == email.0 || *folded == email.local_part()) {
            return Err((
                field_code::PASSWORD_IS_EMAIL,
                "must not be the email or its first part".to_owned(),
            ));
        }
        if rules.blocklist.contains(&folded) {
            return Err((
                field_code::PASSWORD_COMMON,
                "is one of the most common passwords".to_owned(),
            ));
        }
        Ok(password)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

/// The input of a registration.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The address of the new account.
    pub email: Email,
    /// Its password.
    pub password: Password,
}

impl Registration {
    /// Parses both members if they are present, and adds all their faults to `faults`.
    #[must_use]
    pub fn parse(
        email: Option<&str>,
        password: Option<&str>,
        rules: &PasswordRules,
        faults: &mut Vec<Fault>,
    ) -> Option<Self> {
        let email = email.and_then(|text| {
            Email::parse(text).map_err(|(code, rule)| faults.push(fault("email", code, rule))).ok()
        });
        let password = password.and_then(|text| {
            Password::parse_new(text, email.as_ref(), rules)
                .map_err(|(code, rule)| faults.push(fault("password", code, rule)))
                .ok()
        });
        Some(Self { email: email?, password: password? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules() -> PasswordRules {
        PasswordRules { min_length: 8, blocklist: Blocklist::default() }
    }

    #[test]
    fn emails_of_the_grammar_are_accepted_in_lower_case() {
        let local = "l".repeat(64);
        let long = format!("{local}@{}.{}.{}", "a".repeat(63), "b".repeat(63), "c".repeat(61));
        assert_eq!(long.len(), 254);
        for text in ["A@B.com", "a+b@x.com", "a@localhost", "!#$%&'*+/=?^_`{|}~-@x", &long] {
            assert_eq!(Email::parse(text).unwrap().as_str(), text.to_ascii_lowercase());
        }
    }

    #[test]
    fn other_emails_are_refused() {
        let texts = [
            "",
            "a",
            "@",
            "a@",
            "@b",
            "a@b@c",
            " a@b.c",
            "a@b.c ",
            "a b@c.d",
            "a@b c",
            ".a@b.c",
            "a.@b.c",
            "a..b@c.d",
            "\"a\"@b.c",
            "a@b..c",
            "a@.b",
            "a@b.",
            "a@-b.c",
            "a@b-.c",
            "ü@b.c",
            "a@bücher.de",
            "a@[1.2.3.4]",
            "a\n@b.c",
            "a@b.c\0",
            "a@b_c.d",
        ];
        for text in texts {
            assert_eq!(Email::parse(text).unwrap_err().0, field_code::INVALID_EMAIL, "{text:?}");
        }
        let long_local = format!("{}@b.c", "a".repeat(65));
        assert!(Email::parse(&long_local).is_err());
        let long_label = format!("a@{}.c", "b".repeat(64));
        assert!(Email::parse(&long_label).is_err());
        let long = format!("a@{}", "b.".repeat(130));
        assert_eq!(Email::parse(&long).unwrap_err().0, field_code::EMAIL_TOO_LONG);
    }

    fn refused(password: &str) -> FieldCode {
        let email = Email::parse("jane.doe@example.com").unwrap();
        Password::parse_new(password, Some(&email), &rules()).unwrap_err().0
    }

    #[test]
    fn passwords_are_measured_in_code_points_and_bytes_after_normalisation() {
        assert_eq!(refused("1234567"), field_code::PASSWORD_TOO_SHORT);
        assert_eq!(refused(&"ü".repeat(513)), field_code::PASSWORD_TOO_LONG);
        // Length is counted after normalisation: each of these letters is two code points before it
        // and one after it.
        assert_eq!(refused(&"u\u{308}".repeat(7)), field_code::PASSWORD_TOO_SHORT);
        assert!(Password::parse_new(&"u\u{308}".repeat(8), None, &rules()).is_ok());
        assert!(Password::parse_new(&"x".repeat(1024), None, &rules()).is_ok());
        assert!(Password::parse_new(" leading and trailing ", None, &rules()).is_ok());
        assert_eq!(
            Password::normalize("u\u{308}").as_str(),
            Password::normalize("\u{fc}").as_str()
        );
    }

    #[test]
    fn guessable_passwords_are_refused() {
        assert_eq!(refused("jane.doe@example.com"), field_code::PASSWORD_IS_EMAIL);
        assert_eq!(refused("Jane.Doe"), field_code::PASSWORD_IS_EMAIL);
        assert_eq!(refused("password123"), field_code::PASSWORD_COMMON);
        assert_eq!(refused("PassWord123"), field_code::PASSWORD_COMMON);
        assert!(Password::parse_new("S3cureP@ss", None, &rules()).is_ok());
    }

    #[test]
    fn nothing_personal_is_printed() {
        let registration = Registration::parse(
            Some("jane@example.com"),
            Some("correct horse"),
            &rules(),
            &mut Vec::new(),
        );
        let printed = format!("{registration:?}");
        assert!(!printed.contains("jane") && !printed.contains("horse"), "{printed}");
    }

    fn assert_is_own_form(email: &Email) {
        let text = email.as_str();
        assert!(text.len() <= EMAIL_MAX_BYTES && !text.bytes().any(|b| b.is_ascii_uppercase()));
        assert_eq!(Email::parse(text).as_ref(), Ok(email));
    }

    proptest! {
        #[test]
        fn any_text_is_an_email_in_its_own_form_or_none(text in any::<String>()) {
            if let Ok(email) = Email::parse(&text) {
                assert_is_own_form(&email);
            }
        }

        /// The texts consist of characters of addresses, so that some are valid and most are nearly
        /// valid.
        #[test]
        fn an_email_is_its_own_form(text in "[a-cA-C0.+-]{1,3}@[a-cA-C0.-]{1,4}@?") {
            if let Ok(email) = Email::parse(&text) {
                assert_is_own_form(&email);
            }
        }

        #[test]
        fn addresses_of_the_grammar_are_emails(
            local in r"[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]{1,20}(\.[a-zA-Z0-9_+-]{1,20}){0,2}",
            domain in r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(\.[a-z0-9]{1,40}){0,3}",
        ) {
            let text = format!("{local}@{domain}");
            let email = Email::parse(&text);
            prop_assert_eq!(email.as_ref().map(Email::as_str), Ok(&*text.to_ascii_lowercase()));
            assert_is_own_form(&email.unwrap());
        }

        #[test]
        fn a_password_is_normalised_once(text in any::<String>()) {
            let password = Password::normalize(&text);
            prop_assert!(Password::normalize(password.as_str()) == password);
            if let Ok(new) = Password::parse_new(&text, None, &rules()) {
                prop_assert!(new == password && new.is_possible());
            }
        }

        /// Letters and marks that compose, in any order.
        #[test]
        fn a_composed_password_is_normalised_once(
            text in "[aeu\u{300}\u{308}\u{323}\u{1100}\u{1161}\u{11a8}\u{212b}]{0,12}",
        ) {
            let password = Password::normalize(&text);
            prop_assert!(Password::normalize(password.as_str()) == password);
        }
    }
}

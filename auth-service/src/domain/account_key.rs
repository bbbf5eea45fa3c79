//! How an operator names an account: by its id or by its email.

use crate::field_code;
use service_kit::{error::Fault, json::fault};
use uuid::Uuid;

use super::{AccountId, Email};

/// The id of an account, or its email. The two cannot be confused, because only an email has an `@`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountKey {
    /// The account with this id.
    Id(AccountId),
    /// The account with this email.
    Email(Email),
}

impl AccountKey {
    /// Parses the text that an operator typed.
    ///
    /// # Errors
    ///
    /// A fault of the member `account`.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        if text.contains('@') {
            return Email::parse(text)
                .map(Self::Email)
                .map_err(|(code, rule)| fault("account", code, rule));
        }
        Uuid::try_parse(text)
            .ok()
            .filter(|id| id.to_string() == *text)
            .map(|id| Self::Id(AccountId(id)))
            .ok_or_else(|| {
                let rule = "must be an email, or a UUID in lower case with hyphens";
                fault("account", field_code::INVALID_ACCOUNT, rule)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_named_by_its_id_or_its_email() {
        let id = "0198c5a0-0000-7000-8000-000000000001";
        assert_eq!(AccountKey::parse(id).unwrap(), AccountKey::Id(AccountId(id.parse().unwrap())));
        let email = Email::parse("a@b.com").unwrap();
        assert_eq!(AccountKey::parse("A@B.com").unwrap(), AccountKey::Email(email));
        for text in ["", "a", "a@", " a@b.com", "0198C5A0-0000-7000-8000-000000000001", &id[1..]] {
            assert!(AccountKey::parse(text).is_err(), "{text}");
        }
    }
}

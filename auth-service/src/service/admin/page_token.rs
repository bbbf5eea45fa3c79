//! Page tokens of the list of accounts. They encode where the next page begins, and are bound to the
//! filter of the list and to the installation.

use chrono::DateTime;
use service_kit::page_token;
use uuid::Uuid;

use super::list::AccountFilter;
use crate::{domain::AccountId, store::account_list::Created};

const TIME_BYTES: usize = 8;

/// A position in the list: right after this account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// In a list by creation time.
    Created(Created),
    /// In a list by email.
    Email(String),
}

/// Seals page tokens. Its key is not secret: callers of this list may read all of it, so a token
/// reveals nothing to them. The seal only detects tokens that are damaged or belong to another list.
#[derive(Debug)]
pub(super) struct PageKey(page_token::PageKey);

impl PageKey {
    /// The key for a database, which all replicas and commands can derive.
    pub(super) fn of(installation: &[u8]) -> Self {
        let key = [b"latchkey auth.v1 accounts page", installation].concat();
        Self(page_token::PageKey::new(&key))
    }

    pub(super) fn seal(&self, filter: &AccountFilter, place: &Place) -> String {
        let place = match place {
            Place::Created(Created { at, id }) => {
                [&at.timestamp_micros().to_be_bytes()[..], id.0.as_bytes()].concat()
            }
            Place::Email(email) => email.as_bytes().to_vec(),
        };
        self.0.seal(&list(filter), &place)
    }

    /// The position that a token encodes; `None` if it is not one for this list.
    pub(super) fn open(&self, filter: &AccountFilter, token: &str) -> Option<Place> {
        let place = self.0.open(&list(filter), token)?;
        if let AccountFilter::EmailPrefix(_) = filter {
            return String::from_utf8(place).ok().map(Place::Email);
        }
        let (micros, id) = place.split_first_chunk::<TIME_BYTES>()?;
        Some(Place::Created(Created {
            at: DateTime::from_timestamp_micros(i64::from_be_bytes(*micros))?,
            id: AccountId(Uuid::from_slice(id).ok()?),
        }))
    }
}

/// The name of a list, to which its tokens are bound. It ends with a NUL, which no email contains,
/// so that no name is the beginning of another one.
fn list(filter: &AccountFilter) -> Vec<u8> {
    let (kind, prefix) = match filter {
        AccountFilter::All => (0, ""),
        AccountFilter::Disabled => (1, ""),
        AccountFilter::EmailPrefix(prefix) => (2, prefix.as_str()),
    };
    [&[kind], prefix.as_bytes(), &[0]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn created() -> Place {
        let at = DateTime::from_timestamp_micros(1_750_000_000_123_456).unwrap();
        Place::Created(Created { at, id: AccountId(Uuid::from_u128(7)) })
    }

    #[test]
    fn a_token_is_of_its_list_and_its_installation() {
        let prefix = |text: &str| AccountFilter::EmailPrefix(text.to_owned());
        let key = PageKey::of(&[1; 8]);
        for (filter, place) in [
            (AccountFilter::All, created()),
            (AccountFilter::Disabled, created()),
            (prefix("a"), Place::Email("ab@x.com".to_owned())),
        ] {
            let token = key.seal(&filter, &place);
            assert_eq!(key.open(&filter, &token), Some(place));
            assert_eq!(PageKey::of(&[2; 8]).open(&filter, &token), None);
            for other in [AccountFilter::All, AccountFilter::Disabled, prefix("a"), prefix("ab")] {
                assert_eq!(key.open(&other, &token).is_some(), other == filter);
            }
        }
    }
}

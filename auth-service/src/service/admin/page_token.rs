//! Page tokens of the list of accounts: the place where the next page begins, bound to the filter of
//! the list and to the installation.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::DateTime;
use uuid::Uuid;

use super::list::AccountFilter;
use crate::{domain::AccountId, store::account_list::Created};

/// 128 bits of the code are enough for a token that was changed not to pass.
const MAC_BYTES: usize = 16;
const TIME_BYTES: usize = 8;

/// A place in the list: right behind this account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// In the order of creation.
    Created(Created),
    /// In the order of emails.
    Email(String),
}

/// Seals page tokens. Its key is no secret: who reads the list may read all of it, so that a token
/// gives away nothing. It tells a token that was changed, or is of another list, from a good one.
#[derive(Debug)]
pub(super) struct PageKey(hmac::Key);

impl PageKey {
    /// The key of a database, which all replicas and commands on it know.
    pub(super) fn of(installation: &[u8]) -> Self {
        let key = [b"latchkey auth.v1 accounts page", installation].concat();
        Self(hmac::Key::new(hmac::HMAC_SHA256, &key))
    }

    pub(super) fn seal(&self, filter: &AccountFilter, place: &Place) -> String {
        let body = match place {
            Place::Created(Created { at, id }) => {
                [&at.timestamp_micros().to_be_bytes()[..], id.0.as_bytes()].concat()
            }
            Place::Email(email) => email.as_bytes().to_vec(),
        };
        let code = self.code(filter, &body);
        URL_SAFE_NO_PAD.encode([body, code].concat())
    }

    /// The place of a token; nothing where it is not one for this list.
    pub(super) fn open(&self, filter: &AccountFilter, token: &str) -> Option<Place> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (body, code) = bytes.split_at_checked(bytes.len().checked_sub(MAC_BYTES)?)?;
        let expected = self.code(filter, body);
        aws_lc_rs::constant_time::verify_slices_are_equal(&expected, code).ok()?;
        if let AccountFilter::EmailPrefix(_) = filter {
            return String::from_utf8(body.to_vec()).ok().map(Place::Email);
        }
        let (micros, id) = body.split_first_chunk::<TIME_BYTES>()?;
        Some(Place::Created(Created {
            at: DateTime::from_timestamp_micros(i64::from_be_bytes(*micros))?,
            id: AccountId(Uuid::from_slice(id).ok()?),
        }))
    }

    fn code(&self, filter: &AccountFilter, body: &[u8]) -> Vec<u8> {
        let (kind, prefix) = match filter {
            AccountFilter::All => (0, ""),
            AccountFilter::Disabled => (1, ""),
            AccountFilter::EmailPrefix(prefix) => (2, prefix.as_str()),
        };
        let mut context = hmac::Context::with_key(&self.0);
        // Neither an email nor the beginning of one has a NUL.
        context.update(&[kind]);
        context.update(prefix.as_bytes());
        context.update(&[0]);
        context.update(body);
        context.sign().as_ref().iter().copied().take(MAC_BYTES).collect()
    }
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

    #[test]
    fn no_changed_token_opens() {
        let key = PageKey::of(&[1; 8]);
        let token = key.seal(&AccountFilter::All, &created());
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            assert_eq!(key.open(&AccountFilter::All, &URL_SAFE_NO_PAD.encode(changed)), None);
        }
        for text in ["", "x", "....", &format!("{token}A"), &format!("{token}="), &token[4..]] {
            assert_eq!(key.open(&AccountFilter::All, text), None, "{text:?}");
        }
    }
}

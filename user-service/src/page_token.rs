//! Page tokens of the list of profiles: they encode where the next page begins.

use chrono::{DateTime, Utc};
use service_kit::page_token;
use uuid::Uuid;

use crate::domain::UserId;

/// The length of the key, in bytes.
pub const KEY_BYTES: usize = 32;

const VERSION: u8 = 1;
/// What a token is valid for: the list and its filters, of which there are none yet. It is
/// authenticated, so that a token of another list, or of this list with other filters, is rejected.
const LIST: &[u8] = b"latchkey user.v1 ListUsers filters=";

/// A position in the list: right after this profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// When the profile was created.
    pub created_at: DateTime<Utc>,
    /// Its id.
    pub id: UserId,
}

/// The key that authenticates these tokens.
#[derive(Debug)]
pub struct PageKey(page_token::PageKey);

impl PageKey {
    /// A key of these bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(page_token::PageKey::new(bytes))
    }

    /// The token for a position.
    #[must_use]
    pub fn seal(&self, cursor: Cursor) -> String {
        let micros = cursor.created_at.timestamp_micros().to_be_bytes();
        self.0.seal(LIST, &[&[VERSION], &micros[..], cursor.id.0.as_bytes()].concat())
    }

    /// The position that a token encodes; `None` if this service did not issue it.
    #[must_use]
    pub fn open(&self, token: &str) -> Option<Cursor> {
        let place = self.0.open(LIST, token)?;
        let (version, rest) = place.split_first()?;
        let (micros, id) = rest.split_first_chunk()?;
        if *version != VERSION {
            return None;
        }
        Some(Cursor {
            created_at: DateTime::from_timestamp_micros(i64::from_be_bytes(*micros))?,
            id: UserId(Uuid::from_slice(id).ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_cursor() -> impl Strategy<Value = Cursor> {
        let bounds = [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC];
        let [first, last] = bounds.map(|time| time.timestamp_micros());
        (first..=last, any::<u128>()).prop_map(|(micros, id)| Cursor {
            created_at: DateTime::from_timestamp_micros(micros).unwrap(),
            id: UserId(Uuid::from_u128(id)),
        })
    }

    proptest! {
        #[test]
        fn a_sealed_place_opens(cursor in any_cursor(), key in any::<[u8; KEY_BYTES]>()) {
            let key = PageKey::new(&key);
            prop_assert_eq!(key.open(&key.seal(cursor)), Some(cursor));
        }

        /// A holder of the key, such as another release, may have sealed arbitrary bytes, so `open`
        /// must not panic on any of them.
        #[test]
        fn any_place_opens_or_does_not(place in any::<Vec<u8>>(), key in any::<[u8; KEY_BYTES]>()) {
            let key = PageKey::new(&key);
            let _ = key.open(&key.0.seal(LIST, &place));
        }
    }
}

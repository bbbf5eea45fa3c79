//! Page tokens: the place in the list where the next page begins, sealed so that a caller can
//! neither read it nor make one up.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::UserId;

/// The length of the key, in bytes.
pub const KEY_BYTES: usize = 32;

const VERSION: u8 = 1;
/// What a token is for, with the filters of its list: there are none yet. A token for another
/// list, or for this one with other filters, must not pass.
const CONTEXT: &[u8] = b"latchkey user.v1 ListUsers filters=";
/// 128 bits of the code are more than anybody can guess.
const MAC_BYTES: usize = 16;
const BODY_BYTES: usize = 1 + 8 + 16;

/// A place in the list: right after this profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// When the profile was created.
    pub created_at: DateTime<Utc>,
    /// Its id.
    pub id: UserId,
}

/// The key that seals page tokens. All replicas have the same one.
#[derive(Debug)]
pub struct PageKey(hmac::Key);

impl PageKey {
    /// A key of these bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// The token for a place.
    #[must_use]
    pub fn seal(&self, cursor: Cursor) -> String {
        let mut token = vec![VERSION];
        token.extend(cursor.created_at.timestamp_micros().to_be_bytes());
        token.extend(cursor.id.0.as_bytes());
        let code = self.code(&token);
        token.extend(code);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// The place of a token; `None` where it is not one of ours.
    #[must_use]
    pub fn open(&self, token: &str) -> Option<Cursor> {
        let token = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (body, code) = token.split_at_checked(BODY_BYTES)?;
        if aws_lc_rs::constant_time::verify_slices_are_equal(&self.code(body), code).is_err() {
            return None;
        }
        let (version, rest) = body.split_first()?;
        let (micros, id) = rest.split_first_chunk()?;
        if *version != VERSION {
            return None;
        }
        Some(Cursor {
            created_at: DateTime::from_timestamp_micros(i64::from_be_bytes(*micros))?,
            id: UserId(Uuid::from_slice(id).ok()?),
        })
    }

    fn code(&self, body: &[u8]) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(CONTEXT);
        context.update(body);
        context.sign().as_ref().iter().copied().take(MAC_BYTES).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::Index};

    use super::*;

    fn cursor() -> Cursor {
        Cursor {
            created_at: DateTime::from_timestamp_micros(1_750_000_000_123_456).unwrap(),
            id: UserId(Uuid::from_u128(7)),
        }
    }

    #[test]
    fn a_token_opens_with_its_key_only() {
        let token = PageKey::new(&[1; 32]).seal(cursor());
        assert_eq!(PageKey::new(&[1; 32]).open(&token), Some(cursor()));
        assert_eq!(PageKey::new(&[2; 32]).open(&token), None);
    }

    #[test]
    fn no_changed_token_opens() {
        let key = PageKey::new(&[1; 32]);
        let token = key.seal(cursor());
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[place] ^= 1 << bit;
                assert_eq!(key.open(&URL_SAFE_NO_PAD.encode(changed)), None);
            }
        }
        for length in 0..bytes.len() {
            assert_eq!(key.open(&URL_SAFE_NO_PAD.encode(&bytes[..length])), None);
        }
        for text in ["", "x", "....", &format!("{token}A"), &format!("{token}="), &token[1..]] {
            assert_eq!(key.open(text), None, "{text:?}");
        }
    }

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

        #[test]
        fn a_token_with_another_character_is_none(
            cursor in any_cursor(), place in any::<Index>(), other in any::<char>(),
        ) {
            let key = PageKey::new(&[1; KEY_BYTES]);
            let token = key.seal(cursor);
            let mut changed: Vec<char> = token.chars().collect();
            let place = place.index(changed.len());
            changed[place] = other;
            let changed: String = changed.into_iter().collect();
            prop_assume!(changed != token);
            prop_assert_eq!(key.open(&changed), None);
        }

        #[test]
        fn any_text_is_no_token(text in any::<String>()) {
            prop_assert_eq!(PageKey::new(&[1; KEY_BYTES]).open(&text), None);
        }
    }
}

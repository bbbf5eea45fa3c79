//! Page tokens: they encode where the next page of a list begins, with an authentication code, so that a
//! modified token or one of another list is rejected. The content of a token is readable, but it cannot
//! be forged.

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// The length of the authentication code: 128 bits cannot be guessed.
const MAC_BYTES: usize = 16;

/// The key that authenticates the page tokens of a service. All its replicas have the same one.
#[derive(Debug)]
pub struct PageKey(hmac::Key);

impl PageKey {
    /// A key of these bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// The token for `place` in the list with the name `list`, which must include the filters. No such
    /// name may be the beginning of another one; otherwise a token of one list could be valid for
    /// another.
    #[must_use]
    pub fn seal(&self, list: &[u8], place: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode([place, &self.code(list, place)].concat())
    }

    /// The position that a token encodes; `None` if this key did not issue it for this list.
    #[must_use]
    pub fn open(&self, list: &[u8], token: &str) -> Option<Vec<u8>> {
        let mut place = URL_SAFE_NO_PAD.decode(token).ok()?;
        let code = place.split_off(place.len().checked_sub(MAC_BYTES)?);
        verify_slices_are_equal(&self.code(list, &place), &code).ok()?;
        Some(place)
    }

    fn code(&self, list: &[u8], place: &[u8]) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(list);
        context.update(place);
        context.sign().as_ref().iter().copied().take(MAC_BYTES).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::Index};

    use super::*;

    fn key() -> PageKey {
        PageKey::new(&[1; 32])
    }

    #[test]
    fn a_token_is_of_its_key_and_its_list() {
        let token = key().seal(b"a list", b"a place");
        assert_eq!(key().open(b"a list", &token).as_deref(), Some(&b"a place"[..]));
        assert_eq!(key().open(b"another", &token), None);
        assert_eq!(PageKey::new(&[2; 32]).open(b"a list", &token), None);
    }

    #[test]
    fn no_changed_token_opens() {
        let token = key().seal(b"a list", b"a place");
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[place] ^= 1 << bit;
                assert_eq!(key().open(b"a list", &URL_SAFE_NO_PAD.encode(changed)), None);
            }
        }
        for length in 0..bytes.len() {
            let cut = URL_SAFE_NO_PAD.encode(&bytes[..length]);
            assert_eq!(key().open(b"a list", &cut), None);
        }
        for text in ["", "x", "....", &format!("{token}A"), &format!("{token}="), &token[1..]] {
            assert_eq!(key().open(b"a list", text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_sealed_place_opens(place in any::<Vec<u8>>(), bytes in any::<[u8; 32]>()) {
            let key = PageKey::new(&bytes);
            prop_assert_eq!(key.open(b"a list", &key.seal(b"a list", &place)), Some(place));
        }

        #[test]
        fn a_token_with_another_character_is_none(place in any::<Index>(), other in any::<char>()) {
            let token = key().seal(b"a list", b"a place");
            let mut changed: Vec<char> = token.chars().collect();
            let place = place.index(changed.len());
            changed[place] = other;
            let changed: String = changed.into_iter().collect();
            prop_assume!(changed != token);
            prop_assert_eq!(key().open(b"a list", &changed), None);
        }

        #[test]
        fn any_text_is_no_token(text in any::<String>()) {
            prop_assert_eq!(key().open(b"a list", &text), None);
        }
    }
}

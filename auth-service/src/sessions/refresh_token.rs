//! Refresh tokens: `lkr_` and, in base64url, the id of the session, the number of the token within it,
//! and an HMAC-SHA-256 of both. Tokens are not stored: a token can be recomputed when it is needed
//! again, and a forged one is refused before the database is queried.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;

/// The prefix by which secret scanners recognise the tokens.
const PREFIX: &str = "lkr_";
const ID_BYTES: usize = 16;
const NUMBER_BYTES: usize = 8;
const TAG_BYTES: usize = 32;
const NAMED_BYTES: usize = ID_BYTES + NUMBER_BYTES;

/// The content of an authentic refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefreshToken {
    /// The session.
    pub session: Uuid,
    /// The token's number within it, from 1.
    pub number: i64,
}

/// Creates and verifies refresh tokens.
pub struct RefreshTokenKey(hmac::Key);

impl std::fmt::Debug for RefreshTokenKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("RefreshTokenKey([redacted])")
    }
}

impl RefreshTokenKey {
    /// Creates the key from a secret that all replicas share and that has no other purpose.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The text of a token. It is always the same for the same content.
    #[must_use]
    pub fn write(&self, token: RefreshToken) -> String {
        let mut bytes = Vec::with_capacity(NAMED_BYTES + TAG_BYTES);
        bytes.extend_from_slice(token.session.as_bytes());
        bytes.extend_from_slice(&token.number.to_be_bytes());
        let tag = hmac::sign(&self.0, &bytes);
        bytes.extend_from_slice(tag.as_ref());
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The content of a token, or `None` if it is not authentic. The HMAC is compared in constant
    /// time.
    #[must_use]
    pub fn read(&self, text: &str) -> Option<RefreshToken> {
        // The decoder only accepts canonical base64url, so a token has exactly one text.
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?;
        let (named, tag) = bytes.split_at_checked(NAMED_BYTES)?;
        hmac::verify(&self.0, named, tag).ok()?;
        let (session, number) = named.split_first_chunk()?;
        Some(RefreshToken {
            session: Uuid::from_bytes(*session),
            number: i64::from_be_bytes(*number.first_chunk()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_one_text_and_no_other_text_is_it() {
        let key = RefreshTokenKey::new(b"secret");
        let token = RefreshToken { session: Uuid::now_v7(), number: 7 };
        let text = key.write(token);
        assert_eq!(text, key.write(token));
        assert_eq!(key.read(&text), Some(token));
        assert!(text.starts_with("lkr_") && text.len() < 100, "{text}");
        assert_ne!(text, key.write(RefreshToken { number: 8, ..token }));
        assert_eq!(RefreshTokenKey::new(b"other").read(&text), None);
        for at in 0..text.len() {
            let mut forged = text.clone().into_bytes();
            for byte in [b'A', b'b', b'-', b'=', b' ', forged[at] ^ 1] {
                if byte != forged[at] {
                    let before = std::mem::replace(&mut forged[at], byte);
                    if let Ok(forged) = std::str::from_utf8(&forged) {
                        assert_eq!(key.read(forged), None, "{forged}");
                    }
                    forged[at] = before;
                }
            }
            assert_eq!(key.read(&text[..at]), None);
        }
        for text in ["", "lkr_", &format!("{text}="), &format!("{text}A"), &format!(" {text}")] {
            assert_eq!(key.read(text), None, "{text}");
        }
    }
}

//! Cursors in the lists that other services follow: revocations, and deleted accounts.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

const INSTALLATION_BYTES: usize = 8;
const POSITION_BYTES: usize = 8;

/// A position after an entry, or before the first one if `position` is 0. The random number of the
/// entry distinguishes it from another one that had the same position before a backup was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) position: i64,
    pub(super) nonce: Vec<u8>,
}

impl Cursor {
    pub(super) const fn start() -> Self {
        Self { position: 0, nonce: Vec::new() }
    }

    pub(super) fn write(&self, installation: &[u8]) -> String {
        let position = self.position.to_be_bytes();
        URL_SAFE_NO_PAD.encode([installation, &position, &self.nonce].concat())
    }

    /// Parses a cursor of this installation.
    pub(super) fn read(text: &str, installation: &[u8]) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (of, rest) = bytes.split_at_checked(INSTALLATION_BYTES)?;
        verify_slices_are_equal(of, installation).ok()?;
        let (position, nonce) = rest.split_at_checked(POSITION_BYTES)?;
        let position = i64::from_be_bytes(*position.first_chunk()?);
        Some(Self { position, nonce: nonce.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_of_its_installation() {
        let cursor = Cursor { position: 7, nonce: vec![1; 8] };
        let text = cursor.write(&[5; 8]);
        assert_eq!(Cursor::read(&text, &[5; 8]), Some(cursor));
        assert_eq!(Cursor::read(&text, &[6; 8]), None);
        for text in ["", "x", "....", &text[1..], &format!("{text}="), "\u{e9}"] {
            assert_eq!(Cursor::read(text, &[5; 8]), None, "{text:?}");
        }
        let start = Cursor::start().write(&[5; 8]);
        assert_eq!(Cursor::read(&start, &[5; 8]), Some(Cursor::start()));
    }
}

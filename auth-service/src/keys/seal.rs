//! Encryption of private keys at rest: AES-256-GCM (NIST SP 800-38D) under `KEY_ENCRYPTION_KEY`.

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

const NONCE_LENGTH: usize = 12;

/// Encrypts and decrypts private keys.
pub struct Sealer(RandomizedNonceKey);

/// Why something was not encrypted or decrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The key is not 32 bytes in base64.
    #[error("is not 32 bytes in base64 (make one with: openssl rand -base64 32)")]
    BadKey,
    /// The data was encrypted with another key, or is damaged.
    #[error("does not open the signing keys in the database: they were sealed under another key")]
    WrongKey,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Sealer([redacted])")
    }
}

impl Sealer {
    /// Parses the encryption key: 32 bytes in base64.
    ///
    /// # Errors
    ///
    /// [`SealError::BadKey`].
    pub fn from_base64(text: &str) -> Result<Self, SealError> {
        let key = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| SealError::BadKey)?);
        let key = RandomizedNonceKey::new(&AES_256_GCM, &key).map_err(|_| SealError::BadKey)?;
        Ok(Self(key))
    }

    /// A sealer with a key that was derived from another secret.
    ///
    /// # Errors
    ///
    /// [`SealError::BadKey`], where the library refuses the key.
    pub(crate) fn derived(key: &[u8; 32]) -> Result<Self, SealError> {
        RandomizedNonceKey::new(&AES_256_GCM, key).map(Self).map_err(|_| SealError::BadKey)
    }

    /// Encrypts `plain` and authenticates it together with `kid`, so that one encrypted key cannot
    /// be swapped for another.
    ///
    /// # Errors
    ///
    /// If the system has no random bytes.
    pub fn seal(&self, kid: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut sealed = plain.to_vec();
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(kid.as_bytes()), &mut sealed)
            .map_err(|_| SealError::BadKey)?;
        Ok([nonce.as_ref().as_slice(), &sealed].concat())
    }

    /// Decrypts the output of [`Sealer::seal`].
    ///
    /// # Errors
    ///
    /// [`SealError::WrongKey`].
    pub fn open(&self, kid: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LENGTH).ok_or(SealError::WrongKey)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::WrongKey)?;
        let mut plain = Zeroizing::new(sealed.to_vec());
        let length = self
            .0
            .open_in_place(nonce, Aad::from(kid.as_bytes()), &mut plain)
            .map_err(|_| SealError::WrongKey)?
            .len();
        plain.truncate(length);
        Ok(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(byte: u8) -> Sealer {
        Sealer::from_base64(&STANDARD.encode([byte; 32])).unwrap()
    }

    #[test]
    fn only_the_same_key_and_name_open_what_was_sealed() {
        let sealed = sealer(1).seal("kid", b"private").unwrap();
        assert!(!sealed.windows(7).any(|window| window == b"private"));
        assert_eq!(sealer(1).open("kid", &sealed).unwrap().as_slice(), b"private");
        assert_eq!(sealer(2).open("kid", &sealed), Err(SealError::WrongKey));
        assert_eq!(sealer(1).open("other", &sealed), Err(SealError::WrongKey));
        assert_eq!(sealer(1).open("kid", &sealed[..20]), Err(SealError::WrongKey));
        assert_eq!(sealer(1).open("kid", b""), Err(SealError::WrongKey));
        assert_ne!(sealed, sealer(1).seal("kid", b"private").unwrap());
    }

    #[test]
    fn a_key_is_32_bytes() {
        for text in ["", "x", "c2hvcnQ=", &STANDARD.encode([0; 31]), &STANDARD.encode([0; 33])] {
            assert_eq!(Sealer::from_base64(text).unwrap_err(), SealError::BadKey, "{text}");
        }
    }
}

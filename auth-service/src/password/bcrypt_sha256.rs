//! bcrypt-sha256, version 2, as passlib publishes it: bcrypt of the base64 of an HMAC-SHA-256 of
//! the whole password, keyed with the salt. No byte past bcrypt's 72 is lost.
//!
//! `$bcrypt-sha256$v=2,t=2b,r=<cost>$<salt>$<hash>`

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{HashError, digest, verify_bcrypt};
use crate::lanes::Bcrypt;

const PREFIX: &str = "$bcrypt-sha256$v=2,t=2b,r=";
/// Characters of the salt and of the hash in bcrypt's own base64.
const SALT_LENGTH: usize = 22;
const HASH_LENGTH: usize = 31;

pub(super) async fn hash(
    password: &str,
    cost: u32,
    salt: [u8; 16],
    bcrypt: &Bcrypt,
) -> Result<String, HashError> {
    let salt_text = base64::engine::Engine::encode(&bcrypt::BASE_64, salt);
    let raw = bcrypt.raw(cost, salt, prehash(password, &salt_text).as_bytes()).await?;
    Ok(format!("{PREFIX}{cost}${salt_text}${}", digest(&raw)))
}

pub(super) async fn verify(
    password: &str,
    stored: &str,
    bcrypt: &Bcrypt,
) -> Result<bool, HashError> {
    let (cost, salt, digest) = parse(stored).ok_or(HashError)?;
    let plain = format!("$2b${cost:02}${salt}{digest}");
    verify_bcrypt(prehash(password, salt).as_bytes(), &plain, bcrypt).await
}

/// The cost of a stored hash, if it is of this construction.
pub(super) fn cost(stored: &str) -> Option<u32> {
    stored.strip_prefix(PREFIX)?.split('$').next()?.parse().ok()
}

fn parse(stored: &str) -> Option<(u32, &str, &str)> {
    let mut parts = stored.strip_prefix(PREFIX)?.split('$');
    let (cost, salt, digest) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
    (salt.len() == SALT_LENGTH && digest.len() == HASH_LENGTH && parts.next().is_none())
        .then_some((cost, salt, digest))
}

fn prehash(password: &str, salt: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, salt.as_bytes());
    STANDARD.encode(hmac::sign(&key, password.as_bytes()))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn verify(password: &str, stored: &str) -> Result<bool, HashError> {
        super::verify(password, stored, &Bcrypt::Plain).now_or_never().unwrap()
    }

    /// Made with passlib 1.7.4: `bcrypt_sha256.using(rounds=5).hash(password)`.
    #[test]
    fn hashes_of_passlib_verify() {
        let long = "x".repeat(100);
        let hashes = [
            (
                long.as_str(),
                "$bcrypt-sha256$v=2,t=2b,r=5$MBFyO8g4VppUSYswMGwe4u$CK6ydsM1cbB44kW5518NtmqmwrdG.8m",
            ),
            (
                "pässword",
                "$bcrypt-sha256$v=2,t=2b,r=5$WC0G7/mVXGHS0O7jz2BMse$vQ.BQkx0HpHx9ruhzLPf0eIngTk87Ke",
            ),
        ];
        for (password, stored) in hashes {
            assert_eq!(cost(stored), Some(5));
            assert_eq!(verify(password, stored), Ok(true), "{stored}");
            assert_eq!(verify("other", stored), Ok(false), "{stored}");
        }
    }
}

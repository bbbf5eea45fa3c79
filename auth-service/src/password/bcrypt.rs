//! bcrypt, either of the password itself or of a hash of it (prehash).
//!
//! bcrypt reads at most 72 bytes, including the NUL after the password if it fits. Up to 71 bytes,
//! new hashes are plain bcrypt, so that a hash cannot also match a longer password; from 72 bytes on
//! they are bcrypt-sha256. A hash from elsewhere may be of a truncated password. It is replaced at
//! the first login with a password of 72 bytes or more.

use std::fmt;

use aws_lc_rs::{digest, hmac};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bcrypt_lanes::{Job, JobError, Output};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::encoding::{BCRYPT_BASE64, parts};

/// bcrypt reads this many bytes of its input and ignores the rest.
pub(super) const MAX_BYTES: usize = 72;
/// The text form contains only this many bytes of the raw hash, a quirk that all implementations
/// share; and how many characters they take.
const DIGEST_BYTES: usize = 23;
const DIGEST_CHARS: usize = 31;
const SALT_CHARS: usize = 22;
const SHA256_PREFIX: &str = "$bcrypt-sha256$";

/// A bcrypt hash to compute. Its password is wiped when it is dropped.
pub struct Request {
    cost: u32,
    salt: [u8; 16],
    password: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Request").field("cost", &self.cost).finish_non_exhaustive()
    }
}

impl Request {
    /// bcrypt with 2^`cost` rounds. Only the first 72 bytes of the password count.
    #[must_use]
    pub fn new(cost: u32, salt: [u8; 16], password: &[u8]) -> Self {
        Self { cost, salt, password: Zeroizing::new(password.to_vec()) }
    }

    /// The request as a job for the lanes.
    ///
    /// # Errors
    ///
    /// If the cost is not from 4 to 31.
    pub fn job(&self) -> Result<Job, JobError> {
        Job::new(self.cost, self.salt, &self.password)
    }

    /// Computes it at once, with the `bcrypt` crate.
    #[must_use]
    pub fn compute(&self) -> Output {
        let mut key = Zeroizing::new(Vec::with_capacity(self.password.len() + 1));
        key.extend_from_slice(&self.password);
        key.push(0);
        key.truncate(MAX_BYTES);
        #[cfg(test)]
        super::computed::note(super::Scheme::Bcrypt { cost: self.cost });
        ::bcrypt::bcrypt(self.cost, self.salt, &key)
    }
}

/// The transformation of the password before bcrypt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prehash {
    /// None: bytes after the 72nd are ignored.
    None,
    /// Base64 of HMAC-SHA-256 keyed with the text of the salt: passlib's `bcrypt_sha256`, version 2.
    HmacSha256,
    /// Base64 of SHA-256: passlib's `bcrypt_sha256`, version 1.
    Sha256Base64,
    /// Hexadecimal SHA-256: Django's `bcrypt_sha256`.
    Sha256Hex,
}

impl Prehash {
    fn apply(self, password: &str, salt_text: &str) -> Zeroizing<Vec<u8>> {
        let password = password.as_bytes();
        let sha256 = || digest::digest(&digest::SHA256, password);
        Zeroizing::new(match self {
            Self::None => password.to_vec(),
            Self::HmacSha256 => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, salt_text.as_bytes());
                STANDARD.encode(hmac::sign(&key, password)).into_bytes()
            }
            Self::Sha256Base64 => STANDARD.encode(sha256()).into_bytes(),
            Self::Sha256Hex => sha256()
                .as_ref()
                .iter()
                .flat_map(|byte| format!("{byte:02x}").into_bytes())
                .collect(),
        })
    }
}

/// A parsed hash.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) cost: u32,
    salt: [u8; 16],
    salt_text: String,
    digest: [u8; DIGEST_BYTES],
    prehash: Prehash,
}

impl Stored {
    /// Parses `$2b$…` (and 2a and 2y, which mean the same), passlib's `$bcrypt-sha256$…`, and
    /// Django's `bcrypt$$2b$…` and `bcrypt_sha256$$2b$…`. `None` for any other text.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix(SHA256_PREFIX) {
            let [parameters, salt, digest] = parts(rest)?;
            let (prehash, cost) = match parameters.strip_prefix("v=2,t=2b,r=") {
                Some(cost) => (Prehash::HmacSha256, cost),
                None => {
                    let cost = ["2a,", "2b,"].iter().find_map(|t| parameters.strip_prefix(t))?;
                    (Prehash::Sha256Base64, cost)
                }
            };
            return Self::new(cost, salt, digest, prehash);
        }
        let (plain, prehash) = match text.strip_prefix("bcrypt_sha256$") {
            Some(plain) => (plain, Prehash::Sha256Hex),
            None => (text.strip_prefix("bcrypt$").unwrap_or(text), Prehash::None),
        };
        let ["", "2a" | "2b" | "2y", cost, rest] = parts(plain)? else {
            return None;
        };
        let (salt, digest) = rest.split_at_checked(SALT_CHARS)?;
        (cost.len() == 2).then(|| Self::new(cost, salt, digest, prehash))?
    }

    fn new(cost: &str, salt_text: &str, digest: &str, prehash: Prehash) -> Option<Self> {
        if salt_text.len() != SALT_CHARS || digest.len() != DIGEST_CHARS {
            return None;
        }
        Some(Self {
            cost: cost.parse().ok()?,
            salt: BCRYPT_BASE64.decode(salt_text).ok()?.try_into().ok()?,
            salt_text: salt_text.to_owned(),
            digest: BCRYPT_BASE64.decode(digest).ok()?.try_into().ok()?,
            prehash,
        })
    }

    /// The bcrypt hash that checks a password.
    pub(super) fn request(&self, password: &str) -> Request {
        Request {
            cost: self.cost,
            salt: self.salt,
            password: self.prehash.apply(password, &self.salt_text),
        }
    }

    /// Whether the computed hash equals the stored one.
    pub(super) fn matches(&self, output: &Output) -> bool {
        self.digest.ct_eq(&output[..DIGEST_BYTES]).into()
    }

    /// Whether the hash may be of a truncated version of the matching password.
    pub(super) fn cuts(&self, password: &str) -> bool {
        self.prehash == Prehash::None && password.len() >= MAX_BYTES
    }
}

/// The bcrypt hash to compute for a new password hash.
pub(super) fn request(cost: u32, salt: [u8; 16], password: &str) -> Request {
    let prehash = prehash_for(password);
    Request { cost, salt, password: prehash.apply(password, &BCRYPT_BASE64.encode(salt)) }
}

/// The text form of a new hash: `$2b$…`, or `$bcrypt-sha256$…` from 72 bytes on.
pub(super) fn text(cost: u32, salt: [u8; 16], password: &str, output: &Output) -> String {
    let (salt, digest) =
        (BCRYPT_BASE64.encode(salt), BCRYPT_BASE64.encode(&output[..DIGEST_BYTES]));
    match prehash_for(password) {
        Prehash::None => format!("$2b${cost:02}${salt}{digest}"),
        _ => format!("{SHA256_PREFIX}v=2,t=2b,r={cost}${salt}${digest}"),
    }
}

const fn prehash_for(password: &str) -> Prehash {
    if password.len() < MAX_BYTES { Prehash::None } else { Prehash::HmacSha256 }
}

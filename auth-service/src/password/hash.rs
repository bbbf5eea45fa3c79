//! A password hash as it is stored.

use std::fmt;

use bcrypt_lanes::Output;
use zeroize::Zeroizing;

use super::{Memory, Scheme, argon2, bcrypt, pbkdf2, scrypt, sha_crypt};
use crate::domain::Password;

/// The longest text of a hash that is read, in bytes.
const MAX_BYTES: usize = 1024;
/// What is stored for an account that has no password.
const NO_PASSWORD: &str = "!";

/// A password hash. Its text describes itself; everything else is derived from it. It does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    text: Zeroizing<String>,
    form: Form,
}

#[derive(Clone, PartialEq, Eq)]
enum Form {
    /// No password belongs to it.
    NoPassword,
    Unusable(Unusable),
    Bcrypt(bcrypt::Stored),
    Argon2(Box<argon2::Stored>),
    Pbkdf2(pbkdf2::Stored),
    Scrypt(scrypt::Stored),
    ShaCrypt(sha_crypt::Stored),
}

/// Why no password can be checked against a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It is of no known form, or damaged.
    #[error("it is of no form that is known here, or damaged")]
    Unknown,
    /// Its parameters are not accepted.
    #[error("{0}")]
    Parameters(&'static str),
    /// It takes more memory than all hashes together may.
    #[error("it takes more memory than hashing may use here")]
    Memory,
}

/// What comes of a look at a password.
pub(super) enum Verification {
    /// Whether it is the right one.
    Known(bool),
    /// That is known after this has been computed, by [`PasswordHash::matches`].
    Bcrypt(bcrypt::Request),
    /// It cannot be known.
    Unusable(Unusable),
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PasswordHash([redacted])")
    }
}

impl PasswordHash {
    /// Reads a stored hash. One that cannot be used is read too: checking any password against it
    /// fails.
    #[must_use]
    pub fn stored(text: String) -> Self {
        let form = Form::read(&text);
        Self { text: Zeroizing::new(text), form }
    }

    /// Reads a hash that was made elsewhere.
    ///
    /// # Errors
    ///
    /// Where no password could ever be checked against it.
    pub fn import(text: &str) -> Result<Self, Unusable> {
        let hash = Self::stored(text.to_owned());
        match hash.form {
            Form::NoPassword => Err(Unusable::Unknown),
            Form::Unusable(reason) => Err(reason),
            _ => Ok(hash),
        }
    }

    /// What stands for the hash of an account without a password.
    #[must_use]
    pub fn none() -> Self {
        Self { text: Zeroizing::new(NO_PASSWORD.to_owned()), form: Form::NoPassword }
    }

    /// The text to store.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its scheme, if it can be used.
    #[must_use]
    pub fn scheme(&self) -> Option<Scheme> {
        self.form.scheme()
    }

    /// The name of its scheme, by which the schemes in use are found; `none` where there is none.
    #[must_use]
    pub fn scheme_name(&self) -> String {
        self.scheme().map_or_else(|| "none".to_owned(), |scheme| scheme.to_string())
    }

    /// Whether it should be replaced, now that `password` is known to be the right one: its scheme is
    /// weaker than `present` or another one, or bytes of the password may not have counted.
    #[must_use]
    pub fn is_outdated(&self, password: &Password, present: Scheme) -> bool {
        let changed = match &self.form {
            Form::Bcrypt(stored) => stored.cuts(password.as_str()),
            Form::Argon2(stored) => !stored.is_current(),
            _ => false,
        };
        changed || self.scheme().is_none_or(|scheme| scheme.is_outdated(present))
    }

    pub(super) fn verify(
        &self,
        password: &Password,
        memory: &Memory,
        reserve: u64,
    ) -> Verification {
        let password = password.as_str();
        let known = match &self.form {
            Form::NoPassword => Some(false),
            Form::Unusable(reason) => return Verification::Unusable(*reason),
            Form::Bcrypt(stored) => return Verification::Bcrypt(stored.request(password)),
            Form::Argon2(stored) => stored.verify(password, memory, reserve),
            Form::Pbkdf2(stored) => Some(stored.verify(password)),
            Form::Scrypt(stored) => {
                memory.with(stored.scheme().memory(), || stored.verify(password))
            }
            Form::ShaCrypt(stored) => Some(stored.verify(password)),
        };
        known.map_or(Verification::Unusable(Unusable::Memory), Verification::Known)
    }

    /// Whether what was computed for [`Verification::Bcrypt`] is what was stored.
    pub(super) fn matches(&self, output: &Output) -> bool {
        matches!(&self.form, Form::Bcrypt(stored) if stored.matches(output))
    }
}

impl Form {
    fn read(text: &str) -> Self {
        if text == NO_PASSWORD {
            return Self::NoPassword;
        }
        // A stored text is damaged data at worst, but an imported one comes from anywhere.
        if text.len() > MAX_BYTES {
            return Self::Unusable(Unusable::Unknown);
        }
        let form = bcrypt::Stored::parse(text)
            .map(Self::Bcrypt)
            .or_else(|| argon2::Stored::parse(text).map(Box::new).map(Self::Argon2))
            .or_else(|| pbkdf2::Stored::parse(text).map(Self::Pbkdf2))
            .or_else(|| scrypt::Stored::parse(text).map(Self::Scrypt))
            .or_else(|| sha_crypt::Stored::parse(text).map(Self::ShaCrypt))
            .unwrap_or(Self::Unusable(Unusable::Unknown));
        match form.scheme().map(Scheme::accepted) {
            Some(Err(reason)) => Self::Unusable(Unusable::Parameters(reason)),
            _ => form,
        }
    }

    fn scheme(&self) -> Option<Scheme> {
        Some(match self {
            Self::NoPassword | Self::Unusable(_) => return None,
            Self::Bcrypt(stored) => Scheme::Bcrypt { cost: stored.cost },
            Self::Argon2(stored) => stored.scheme(),
            Self::Pbkdf2(stored) => stored.scheme(),
            Self::Scrypt(stored) => stored.scheme(),
            Self::ShaCrypt(stored) => stored.scheme(),
        })
    }
}

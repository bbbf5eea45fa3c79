//! The password hash of an account, as it is stored.

use std::fmt;

use bcrypt_lanes::Output;
use zeroize::Zeroizing;

use super::{Memory, Scheme, argon2, bcrypt, pbkdf2, scrypt, sha_crypt};
use crate::domain::Password;

/// The longest text that is accepted as a hash, in bytes.
const MAX_BYTES: usize = 1024;
/// The marker that is stored for an account without a password.
const NO_PASSWORD: &str = "!";

/// A password hash. Everything about it is parsed from its text. Its `Debug` output hides the text.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    text: Zeroizing<String>,
    form: Form,
}

#[derive(Clone, PartialEq, Eq)]
enum Form {
    /// The account has no password, so none matches.
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
    /// Its format is unknown, or it is damaged.
    #[error("it is of no form that is known here, or damaged")]
    Unknown,
    /// Its parameters are not accepted.
    #[error("{0}")]
    Parameters(&'static str),
    /// It needs more memory than the limit for all hashes.
    #[error("it takes more memory than hashing may use here")]
    Memory,
}

/// The result of the first step of a check.
pub(super) enum Verification {
    /// Whether the password matches.
    Known(bool),
    /// This hash must be computed first; then [`PasswordHash::matches`] gives the result.
    Bcrypt(bcrypt::Request),
    /// The hash cannot be used.
    Unusable(Unusable),
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PasswordHash([redacted])")
    }
}

impl PasswordHash {
    /// Parses a stored hash. An unusable one is accepted as well: every check against it fails.
    #[must_use]
    pub fn stored(text: String) -> Self {
        let form = Form::read(&text);
        Self { text: Zeroizing::new(text), form }
    }

    /// Parses a hash that was created elsewhere.
    ///
    /// # Errors
    ///
    /// If no password could ever be checked against it.
    pub fn import(text: &str) -> Result<Self, Unusable> {
        let hash = Self::stored(text.to_owned());
        match hash.form {
            Form::NoPassword => Err(Unusable::Unknown),
            Form::Unusable(reason) => Err(reason),
            _ => Ok(hash),
        }
    }

    /// The marker for an account without a password.
    #[must_use]
    pub fn none() -> Self {
        Self { text: Zeroizing::new(NO_PASSWORD.to_owned()), form: Form::NoPassword }
    }

    /// The text to store.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its scheme, if the hash can be used.
    #[must_use]
    pub fn scheme(&self) -> Option<Scheme> {
        self.form.scheme()
    }

    /// The name of its scheme, by which the database is searched for the schemes in use; `none` if
    /// there is none.
    #[must_use]
    pub fn scheme_name(&self) -> String {
        self.scheme().map_or_else(|| "none".to_owned(), |scheme| scheme.to_string())
    }

    /// Whether to replace it, given that `password` matches: its scheme is another one than `present`
    /// or weaker, or the password may have been truncated.
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

    /// Whether the result of [`Verification::Bcrypt`] equals the stored hash.
    pub(super) fn matches(&self, output: &Output) -> bool {
        matches!(&self.form, Form::Bcrypt(stored) if stored.matches(output))
    }
}

impl Form {
    fn read(text: &str) -> Self {
        if text == NO_PASSWORD {
            return Self::NoPassword;
        }
        // A stored text can at worst be damaged, but an imported one can be anything.
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

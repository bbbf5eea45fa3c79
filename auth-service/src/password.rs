//! Password hashes: which formats this service creates, which ones it accepts, and how much work a
//! check is.

mod argon2;
pub mod bcrypt;
mod check;
#[cfg(test)]
mod computed;
mod encoding;
mod hash;
mod memory;
mod pbkdf2;
mod scheme;
mod scrypt;
mod sha_crypt;
mod steps;

pub use self::{
    check::{Check, Checked, MOST_MEMORY_HARD, Make, Work},
    hash::{PasswordHash, Unusable},
    memory::Memory,
    scheme::{Digest, Scheme},
    scrypt::FirebaseParameters,
    steps::{Step, Steps, run},
};

/// A hash could not be computed. The cause is the machine and never the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a password hash could not be computed")]
pub struct HashError;

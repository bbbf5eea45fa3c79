//! The input of a hash.

use std::{array, fmt, iter};

use zeroize::Zeroize as _;

/// bcrypt reads this many bytes of a password, including the NUL after it.
const KEY_BYTES: usize = 72;

/// A password with its salt and cost. Wiped when dropped; moving it may leave copies behind.
pub struct Job {
    /// The password and a NUL, repeated to fill the key.
    pub(crate) key: [u32; KEY_BYTES / 4],
    pub(crate) salt: [u32; 4],
    pub(crate) rounds: u32,
}

/// Why a job is refused. The same inputs are refused as in the `bcrypt` crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// The cost is out of range.
    #[error("the cost is {0}, but must be from 4 to 31")]
    Cost(u32),
    /// The password and its NUL have this many bytes, which is more than 72.
    #[error("the password takes {0} bytes, but only 72 would count")]
    Truncation(usize),
}

impl Job {
    /// The job of `bcrypt::hash_with_salt`: 2^`cost` rounds over the password and a NUL, of which
    /// only the first 72 bytes count. Versions 2a, 2b and 2y of bcrypt all mean this.
    ///
    /// # Errors
    ///
    /// [`JobError::Cost`] where `cost` is not from 4 to 31.
    pub fn new(cost: u32, salt: [u8; 16], password: &[u8]) -> Result<Self, JobError> {
        if !(4..=31).contains(&cost) {
            return Err(JobError::Cost(cost));
        }
        let key = words(password.iter().copied().chain(iter::once(0)));
        Ok(Self { key, salt: words(salt.into_iter()), rounds: 1 << cost })
    }

    /// The job of `bcrypt::non_truncating_hash_with_salt`: like [`new`](Self::new), but refuses a
    /// password that is too long to fit together with its NUL.
    ///
    /// # Errors
    ///
    /// [`JobError::Cost`] as above, [`JobError::Truncation`] for 72 bytes or more.
    pub fn non_truncating(cost: u32, salt: [u8; 16], password: &[u8]) -> Result<Self, JobError> {
        let job = Self::new(cost, salt, password)?;
        if password.len() >= KEY_BYTES {
            return Err(JobError::Truncation(password.len() + 1));
        }
        Ok(job)
    }
}

/// Packs bytes into big-endian words. Starts again when the bytes end.
fn words<const N: usize>(bytes: impl Iterator<Item = u8> + Clone) -> [u32; N] {
    let mut bytes = bytes.cycle();
    array::from_fn(|_| bytes.by_ref().take(4).fold(0, |word, byte| word << 8 | u32::from(byte)))
}

impl Drop for Job {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// Omits the password.
impl fmt::Debug for Job {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Job").field("rounds", &self.rounds).finish_non_exhaustive()
    }
}

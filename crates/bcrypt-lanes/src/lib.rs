#![doc = include_str!("../README.md")]

mod blowfish;
mod job;
mod lanes;
mod pi;

pub use crate::job::{Job, JobError};
pub use crate::lanes::{Lanes, Vacant};

/// How many hashes are computed at once. In measurements, more than four gain little, while each
/// hash takes longer.
pub const WIDTH: usize = 4;

/// A raw hash, as `bcrypt::bcrypt` returns it. The text form of a hash uses the first 23 bytes.
pub type Output = [u8; 24];

//! Hashing schemes: algorithms with their parameters, their names in the database, and the accepted
//! limits.

use std::{fmt, str::FromStr, time::Duration};

/// The highest accepted cost of bcrypt, which takes about four seconds.
const MOST_BCRYPT_COST: u32 = 16;
/// The most memory that one hash may use, in bytes.
const MOST_MEMORY: u64 = 1 << 30;
const MOST_ARGON2_ITERATIONS: u32 = 64;
/// The limit on memory times passes, in KiB: ten passes over 1 GiB, which takes about five seconds.
const MOST_ARGON2_WORK: u64 = 10 << 20;
const MOST_PARALLELISM: u32 = 16;
const MOST_PBKDF2_ROUNDS: u32 = 10_000_000;
const MOST_SCRYPT_LOG_N: u32 = 20;
const MOST_SCRYPT_R: u32 = 32;
/// The limit on N times r times p.
const MOST_SCRYPT_WORK: u64 = 10 << 20;
const SHA_CRYPT_ROUNDS: std::ops::RangeInclusive<u32> = 1_000..=1_000_000;

/// A hash function that PBKDF2 or SHA-crypt is built on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Digest {
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Digest {
    /// Its name in the names of schemes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The length of its output, in bytes.
    #[must_use]
    pub const fn length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

/// An algorithm with all parameters that determine the work of a hash. New hashes use bcrypt or
/// Argon2id; the others are only verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// bcrypt with 2^`cost` rounds, with or without a prehash.
    Bcrypt {
        /// The exponent of the rounds.
        cost: u32,
    },
    /// Argon2id (RFC 9106).
    Argon2id {
        /// Memory, in KiB.
        memory_kib: u32,
        /// Passes over the memory.
        iterations: u32,
        /// Lanes.
        parallelism: u32,
    },
    /// Argon2i (RFC 9106).
    Argon2i {
        /// Memory, in KiB.
        memory_kib: u32,
        /// Passes over the memory.
        iterations: u32,
        /// Lanes.
        parallelism: u32,
    },
    /// PBKDF2 with HMAC (RFC 8018, section 5.2).
    Pbkdf2 {
        /// The hash function of the HMAC.
        digest: Digest,
        /// The iterations, times the number of blocks of output.
        rounds: u32,
    },
    /// scrypt (RFC 7914).
    Scrypt {
        /// The exponent of N.
        log_n: u32,
        /// The block size r.
        r: u32,
        /// The parallelisation p.
        p: u32,
    },
    /// SHA-crypt, version 0.6 of its specification: `$5$` and `$6$`.
    ShaCrypt {
        /// SHA-256 or SHA-512.
        digest: Digest,
        /// The rounds.
        rounds: u32,
    },
}

impl fmt::Display for Scheme {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bcrypt { cost } => write!(formatter, "bcrypt:{cost}"),
            Self::Argon2id { memory_kib, iterations, parallelism } => {
                write!(formatter, "argon2id:{memory_kib},{iterations},{parallelism}")
            }
            Self::Argon2i { memory_kib, iterations, parallelism } => {
                write!(formatter, "argon2i:{memory_kib},{iterations},{parallelism}")
            }
            Self::Pbkdf2 { digest, rounds } => {
                write!(formatter, "pbkdf2-{}:{rounds}", digest.name())
            }
            Self::Scrypt { log_n, r, p } => write!(formatter, "scrypt:{log_n},{r},{p}"),
            Self::ShaCrypt { digest, rounds } => {
                write!(formatter, "{}-crypt:{rounds}", digest.name())
            }
        }
    }
}

impl FromStr for Scheme {
    type Err = ();

    /// Parses the output of [`Display`](fmt::Display). Parameters that are not accepted are an error.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (name, parameters) = text.split_once(':').ok_or(())?;
        let numbers: Vec<u32> =
            parameters.split(',').map(str::parse).collect::<Result<_, _>>().map_err(|_| ())?;
        let scheme = match (name, numbers.as_slice()) {
            ("bcrypt", &[cost]) => Self::Bcrypt { cost },
            ("argon2id", &[memory_kib, iterations, parallelism]) => {
                Self::Argon2id { memory_kib, iterations, parallelism }
            }
            ("argon2i", &[memory_kib, iterations, parallelism]) => {
                Self::Argon2i { memory_kib, iterations, parallelism }
            }
            ("pbkdf2-sha1", &[rounds]) => Self::Pbkdf2 { digest: Digest::Sha1, rounds },
            ("pbkdf2-sha256", &[rounds]) => Self::Pbkdf2 { digest: Digest::Sha256, rounds },
            ("pbkdf2-sha512", &[rounds]) => Self::Pbkdf2 { digest: Digest::Sha512, rounds },
            ("scrypt", &[log_n, r, p]) => Self::Scrypt { log_n, r, p },
            ("sha256-crypt", &[rounds]) => Self::ShaCrypt { digest: Digest::Sha256, rounds },
            ("sha512-crypt", &[rounds]) => Self::ShaCrypt { digest: Digest::Sha512, rounds },
            _ => return Err(()),
        };
        scheme.accepted().map_err(|_| ())
    }
}

impl Scheme {
    /// Returns the scheme if its parameters are valid and within the accepted limits. A single stored
    /// hash must not be able to exhaust the machine's memory, or to occupy a thread for minutes.
    ///
    /// # Errors
    ///
    /// What is wrong with the parameters.
    pub fn accepted(self) -> Result<Self, &'static str> {
        let refused = match self {
            Self::Bcrypt { cost } => {
                (!(4..=MOST_BCRYPT_COST).contains(&cost)).then_some("its cost is not from 4 to 16")
            }
            Self::Argon2id { memory_kib, iterations, parallelism }
            | Self::Argon2i { memory_kib, iterations, parallelism } => {
                let lanes = (1..=MOST_PARALLELISM).contains(&parallelism);
                let passes = (1..=MOST_ARGON2_ITERATIONS).contains(&iterations);
                let work = u64::from(memory_kib) * u64::from(iterations);
                if !lanes || !passes || memory_kib / 8 < parallelism {
                    Some("its passes are not from 1 to 64, or its lanes not from 1 to 16")
                } else if self.memory() > MOST_MEMORY || work > MOST_ARGON2_WORK {
                    Some("it takes more than 1 GiB of memory, or passes over more than 10 GiB")
                } else {
                    None
                }
            }
            Self::Pbkdf2 { rounds, .. } => (!(1..=MOST_PBKDF2_ROUNDS).contains(&rounds))
                .then_some("its iterations are not from 1 to 10 000 000"),
            Self::Scrypt { log_n, r, p } => {
                let possible = (1..=MOST_SCRYPT_LOG_N).contains(&log_n)
                    && (1..=MOST_SCRYPT_R).contains(&r)
                    && (1..=MOST_PARALLELISM).contains(&p);
                if !possible {
                    Some(
                        "its N is not a power from 2 to 2^20, its r not from 1 to 32, or its p not from 1 to 16",
                    )
                } else if self.memory() > MOST_MEMORY || scrypt_work(log_n, r, p) > MOST_SCRYPT_WORK
                {
                    Some(
                        "it takes more than 1 GiB of memory, or N times r times p is over 10 485 760",
                    )
                } else {
                    None
                }
            }
            Self::ShaCrypt { rounds, .. } => (!SHA_CRYPT_ROUNDS.contains(&rounds))
                .then_some("its rounds are not from 1 000 to 1 000 000"),
        };
        refused.map_or(Ok(self), Err)
    }

    /// Whether a hash of this scheme should be replaced by one of `present`, because the algorithm
    /// differs or a parameter is weaker. A stronger hash stays.
    #[must_use]
    pub const fn is_outdated(self, present: Self) -> bool {
        match (self, present) {
            (Self::Bcrypt { cost: used }, Self::Bcrypt { cost: wanted }) => used < wanted,
            (
                Self::Argon2id { memory_kib, iterations, .. },
                Self::Argon2id { memory_kib: wanted_memory, iterations: wanted_iterations, .. },
            ) => memory_kib < wanted_memory || iterations < wanted_iterations,
            _ => true,
        }
    }

    /// The rounds of a scheme whose work is proportional to them; 0 for other schemes.
    #[must_use]
    pub(super) const fn rounds(self) -> u32 {
        match self {
            Self::Pbkdf2 { rounds, .. } | Self::ShaCrypt { rounds, .. } => rounds,
            _ => 0,
        }
    }

    /// The same scheme with other rounds.
    #[must_use]
    pub(super) const fn with_rounds(self, rounds: u32) -> Self {
        match self {
            Self::Pbkdf2 { digest, .. } => Self::Pbkdf2 { digest, rounds },
            Self::ShaCrypt { digest, .. } => Self::ShaCrypt { digest, rounds },
            other => other,
        }
    }

    /// Whether it is memory-hard, so that memory limits how many hashes can be computed at a time.
    #[must_use]
    pub const fn takes_memory(self) -> bool {
        matches!(self, Self::Argon2id { .. } | Self::Argon2i { .. } | Self::Scrypt { .. })
    }

    /// The memory that one hash takes, in bytes.
    #[must_use]
    pub const fn memory(self) -> u64 {
        match self {
            Self::Argon2id { memory_kib, .. } | Self::Argon2i { memory_kib, .. } => {
                memory_kib as u64 * 1024
            }
            Self::Scrypt { log_n, r, p } => {
                let block = 128 * r as u64;
                let blocks = (1_u64 << if log_n < 32 { log_n } else { 32 }) + p as u64 + 1;
                block.saturating_mul(blocks)
            }
            Self::Bcrypt { .. } | Self::Pbkdf2 { .. } | Self::ShaCrypt { .. } => 4 * 1024,
        }
    }

    /// A rough estimate of how long one hash takes on a current core.
    #[must_use]
    pub fn expected_time(self) -> Duration {
        match self {
            Self::Bcrypt { cost } => Duration::from_micros(65 << cost.min(31)),
            Self::Argon2id { memory_kib, iterations, .. }
            | Self::Argon2i { memory_kib, iterations, .. } => {
                Duration::from_nanos(450 * u64::from(memory_kib) * u64::from(iterations))
            }
            Self::Pbkdf2 { rounds, .. } => Duration::from_nanos(250 * u64::from(rounds)),
            Self::Scrypt { log_n, r, p } => Duration::from_nanos(300 * scrypt_work(log_n, r, p)),
            Self::ShaCrypt { rounds, .. } => Duration::from_nanos(500 * u64::from(rounds)),
        }
    }
}

fn scrypt_work(log_n: u32, r: u32, p: u32) -> u64 {
    (1_u64 << log_n.min(32)) * u64::from(r) * u64::from(p)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn argon2id(memory_kib: u32, iterations: u32) -> Scheme {
        Scheme::Argon2id { memory_kib, iterations, parallelism: 1 }
    }

    #[test]
    fn a_name_is_read_as_what_it_was_written_for() {
        for scheme in [
            Scheme::Bcrypt { cost: 12 },
            argon2id(19_456, 2),
            Scheme::Argon2i { memory_kib: 64, iterations: 3, parallelism: 2 },
            Scheme::Pbkdf2 { digest: Digest::Sha1, rounds: 2000 },
            Scheme::Pbkdf2 { digest: Digest::Sha256, rounds: 600_000 },
            Scheme::Pbkdf2 { digest: Digest::Sha512, rounds: 210_000 },
            Scheme::Scrypt { log_n: 14, r: 8, p: 1 },
            Scheme::ShaCrypt { digest: Digest::Sha256, rounds: 5000 },
            Scheme::ShaCrypt { digest: Digest::Sha512, rounds: 656_000 },
        ] {
            assert_eq!(scheme.to_string().parse(), Ok(scheme), "{scheme}");
        }
        for text in ["", "none", "bcrypt", "bcrypt:", "bcrypt:x", "md5:1", "argon2id:1,2"] {
            assert_eq!(text.parse::<Scheme>(), Err(()), "{text}");
        }
    }

    #[test]
    fn absurd_parameters_are_not_accepted() {
        for text in [
            "bcrypt:3",
            "bcrypt:17",
            "argon2id:4194304,1,1",
            "argon2id:1048576,11,1",
            "argon2id:64,65,1",
            "argon2id:64,0,1",
            "argon2id:1024,1,17",
            "argon2id:64,1,9",
            "argon2i:4294967295,4294967295,1",
            "pbkdf2-sha256:0",
            "pbkdf2-sha256:10000001",
            "scrypt:0,8,1",
            "scrypt:21,8,1",
            "scrypt:20,8,2",
            "scrypt:4294967295,4294967295,4294967295",
            "scrypt:14,0,1",
            "scrypt:14,8,17",
            "sha512-crypt:999",
            "sha512-crypt:1000001",
        ] {
            assert_eq!(text.parse::<Scheme>(), Err(()), "{text}");
        }
        for text in ["bcrypt:16", "argon2id:1048576,10,4", "scrypt:17,8,10", "scrypt:20,7,1"] {
            assert!(text.parse::<Scheme>().is_ok(), "{text}");
        }
    }

    #[test]
    fn a_weaker_or_other_hash_is_outdated_and_a_stronger_one_is_not() {
        let bcrypt = |cost| Scheme::Bcrypt { cost };
        let outdated = [
            (bcrypt(10), bcrypt(12)),
            (bcrypt(14), argon2id(64, 1)),
            (argon2id(64, 1), bcrypt(10)),
            (argon2id(64, 2), argon2id(128, 2)),
            (argon2id(128, 1), argon2id(64, 2)),
            (Scheme::Scrypt { log_n: 17, r: 8, p: 1 }, bcrypt(10)),
        ];
        let kept = [
            (bcrypt(12), bcrypt(12)),
            (bcrypt(14), bcrypt(12)),
            (argon2id(128, 2), argon2id(64, 2)),
        ];
        assert!(outdated.iter().all(|(used, present)| used.is_outdated(*present)));
        assert!(!kept.iter().any(|(used, present)| used.is_outdated(*present)));
    }
}

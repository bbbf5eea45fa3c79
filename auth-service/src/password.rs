//! Password hashes: bcrypt and Argon2id, as self-describing strings.

pub(crate) mod argon2id;
mod bcrypt_sha256;

use std::{fmt, time::Duration};

use argon2::{
    CustomizedPasswordHasher as _, Params, PasswordVerifier as _,
    password_hash::{self, phc::PasswordHash},
};
use base64::Engine as _;
use subtle::ConstantTimeEq as _;

use self::argon2id::Argon2id;
use crate::{domain::Password, lanes::Bcrypt};

/// bcrypt reads this many bytes of its input and ignores the rest.
const BCRYPT_MAX_BYTES: usize = 72;
/// How many bytes of a raw hash its text form has (a quirk that all implementations share), and how
/// many characters they take.
const BCRYPT_DIGEST_BYTES: usize = 23;
const BCRYPT_DIGEST_CHARS: usize = 31;

/// An algorithm with its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// bcrypt of 2^`cost` rounds. Passwords over 72 bytes go through bcrypt-sha256.
    Bcrypt {
        /// The exponent of the rounds, 4 to 31.
        cost: u32,
    },
    /// Argon2id, version 19 (RFC 9106).
    Argon2id {
        /// Memory, in KiB.
        memory_kib: u32,
        /// Passes over the memory.
        iterations: u32,
        /// Lanes.
        parallelism: u32,
    },
}

impl fmt::Display for Scheme {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bcrypt { cost } => write!(formatter, "bcrypt:{cost}"),
            Self::Argon2id { memory_kib, iterations, parallelism } => {
                write!(formatter, "argon2id:{memory_kib},{iterations},{parallelism}")
            }
        }
    }
}

impl std::str::FromStr for Scheme {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (name, parameters) = text.split_once(':').ok_or(())?;
        let numbers: Vec<u32> =
            parameters.split(',').map(str::parse).collect::<Result<_, _>>().map_err(|_| ())?;
        match (name, numbers.as_slice()) {
            ("bcrypt", &[cost]) => Ok(Self::Bcrypt { cost }),
            ("argon2id", &[memory_kib, iterations, parallelism]) => {
                Ok(Self::Argon2id { memory_kib, iterations, parallelism })
            }
            _ => Err(()),
        }
    }
}

/// A hash could not be made or read: a fault of ours or of the data, never of the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a password hash could not be computed")]
pub struct HashError;

impl Scheme {
    /// Whether a hash of this scheme should be replaced by one of `present`: it is of another
    /// algorithm, or a parameter is weaker. A stronger one stays.
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

    /// The memory that one hash takes, in bytes.
    #[must_use]
    pub const fn memory(self) -> u64 {
        match self {
            Self::Bcrypt { .. } => 4 * 1024,
            Self::Argon2id { memory_kib, .. } => memory_kib as u64 * 1024,
        }
    }

    /// A rough guess of how long one hash takes, on a core of these years.
    #[must_use]
    pub fn expected_time(self) -> Duration {
        match self {
            Self::Bcrypt { cost } => Duration::from_micros(65 << cost.min(31)),
            Self::Argon2id { memory_kib, iterations, .. } => {
                Duration::from_nanos(450 * u64::from(memory_kib) * u64::from(iterations))
            }
        }
    }

    /// Hashes a password with a new random salt. Takes as long as the parameters ask for: call it
    /// on a hashing thread.
    ///
    /// # Errors
    ///
    /// Where the parameters are out of range or the system has no random bytes.
    pub async fn hash(self, password: &Password, bcrypt: &Bcrypt) -> Result<String, HashError> {
        match self {
            Self::Bcrypt { cost } => {
                let mut salt = [0; 16];
                aws_lc_rs::rand::fill(&mut salt).map_err(|_| HashError)?;
                let password = password.as_str();
                if password.len() > BCRYPT_MAX_BYTES {
                    return bcrypt_sha256::hash(password, cost, salt, bcrypt).await;
                }
                let raw = bcrypt.raw(cost, salt, password.as_bytes()).await?;
                let salt = bcrypt::BASE_64.encode(salt);
                Ok(format!("$2b${cost:02}${salt}{}", digest(&raw)))
            }
            Self::Argon2id { memory_kib, iterations, parallelism } => {
                let parameters = Params::new(memory_kib, iterations, parallelism, None)
                    .map_err(|_| HashError)?;
                let mut salt = [0; 16];
                aws_lc_rs::rand::fill(&mut salt).map_err(|_| HashError)?;
                Argon2id
                    .hash_password_with_params(password.as_str().as_bytes(), &salt, parameters)
                    .map(|hash| hash.to_string())
                    .map_err(|_| HashError)
            }
        }
    }

    /// The scheme of a stored hash; `None` for a string that is no hash we know.
    #[must_use]
    pub fn of(stored: &str) -> Option<Self> {
        if let Some(cost) = bcrypt_sha256::cost(stored) {
            return Some(Self::Bcrypt { cost });
        }
        if stored.starts_with("$argon2id$") {
            let parameters = Params::try_from(&PasswordHash::new(stored).ok()?).ok()?;
            return Some(Self::Argon2id {
                memory_kib: parameters.m_cost(),
                iterations: parameters.t_cost(),
                parallelism: parameters.p_cost(),
            });
        }
        let mut parts = stored.split('$').skip(1);
        let version = parts.next()?;
        let cost = parts.next()?.parse().ok()?;
        ["2a", "2b", "2x", "2y"].contains(&version).then_some(Self::Bcrypt { cost })
    }
}

/// The end of bcrypt's text form.
fn digest(raw: &bcrypt_lanes::Output) -> String {
    bcrypt::BASE_64.encode(&raw[..BCRYPT_DIGEST_BYTES])
}

/// Whether `password` is the one of a hash in bcrypt's text form, of which the first 72 bytes count.
async fn verify_bcrypt(password: &[u8], stored: &str, bcrypt: &Bcrypt) -> Result<bool, HashError> {
    let parts: bcrypt::HashParts = stored.parse().map_err(|_| HashError)?;
    let start = stored.len().checked_sub(BCRYPT_DIGEST_CHARS).ok_or(HashError)?;
    let digest = bcrypt::BASE_64.decode(stored.get(start..).ok_or(HashError)?);
    let raw = bcrypt.raw(parts.get_cost(), parts.get_salt_raw(), password).await?;
    Ok(digest.map_err(|_| HashError)?.ct_eq(&raw[..BCRYPT_DIGEST_BYTES]).into())
}

/// Whether `password` is the one that was hashed. Takes as long as the hash's parameters ask for.
///
/// # Errors
///
/// Where `stored` is no hash we know.
pub async fn verify(password: &Password, stored: &str, bcrypt: &Bcrypt) -> Result<bool, HashError> {
    if bcrypt_sha256::cost(stored).is_some() {
        return bcrypt_sha256::verify(password.as_str(), stored, bcrypt).await;
    }
    if stored.starts_with("$argon2id$") {
        let hash = PasswordHash::new(stored).map_err(|_| HashError)?;
        // A fault of the data, which would else pass for a wrong password.
        Params::try_from(&hash).map_err(|_| HashError)?;
        return match Argon2id.verify_password(password.as_str().as_bytes(), &hash) {
            Ok(()) => Ok(true),
            Err(password_hash::Error::PasswordInvalid) => Ok(false),
            Err(_) => Err(HashError),
        };
    }
    // A hash made elsewhere may be of a longer password, cut at 72 bytes as bcrypt does.
    verify_bcrypt(password.as_str().as_bytes(), stored, bcrypt).await
}

/// The work that every failing login does, whatever account it names: bcrypt at the highest cost in
/// use, and each Argon2id scheme in use once. An account whose hash is cheaper than others' is then
/// not to be told from them, or from one that does not exist, by the time of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    bcrypt_cost: Option<u32>,
    argon2id: Vec<Scheme>,
}

impl Work {
    /// The work for the scheme of new hashes and those of the stored ones.
    #[must_use]
    pub fn new(current: Scheme, stored: impl IntoIterator<Item = Scheme>) -> Self {
        let mut work = Self { bcrypt_cost: None, argon2id: Vec::new() };
        for scheme in std::iter::once(current).chain(stored) {
            match scheme {
                Scheme::Bcrypt { cost } => work.bcrypt_cost = work.bcrypt_cost.max(Some(cost)),
                Scheme::Argon2id { .. } if !work.argon2id.contains(&scheme) => {
                    work.argon2id.push(scheme);
                }
                Scheme::Argon2id { .. } => {}
            }
        }
        work
    }

    /// Checks a password against a stored hash, or none, and on failure does the rest of the work.
    ///
    /// # Errors
    ///
    /// Where `stored` is no hash we know.
    pub async fn check(
        &self,
        password: &Password,
        stored: Option<&str>,
        bcrypt: &Bcrypt,
    ) -> Result<bool, HashError> {
        if let Some(most) = self.argon2id.iter().map(|scheme| scheme.memory()).max() {
            argon2id::reserve(most);
        }
        let possible = password.is_possible();
        let mut done = None;
        if let (true, Some(stored)) = (possible, stored) {
            if verify(password, stored, bcrypt).await? {
                return Ok(true);
            }
            done = Scheme::of(stored);
        }
        let stand_in = Password::normalize("stand-in");
        let dummy = if possible { password } else { &stand_in };
        if let Some(cost) = self.bcrypt_cost {
            match done {
                // 2^c + 2^c + 2^(c+1) + … + 2^(cost-1) = 2^cost.
                Some(Scheme::Bcrypt { cost: spent }) => {
                    for cost in spent..cost {
                        Scheme::Bcrypt { cost }.hash(dummy, bcrypt).await?;
                    }
                }
                _ => drop(Scheme::Bcrypt { cost }.hash(dummy, bcrypt).await?),
            }
        }
        for scheme in self.argon2id.iter().filter(|scheme| done != Some(**scheme)) {
            scheme.hash(dummy, bcrypt).await?;
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::lanes::Bcrypt;

    fn hash(scheme: Scheme, password: &Password) -> Result<String, HashError> {
        scheme.hash(password, &Bcrypt::Plain).now_or_never().unwrap()
    }

    fn verify(password: &Password, stored: &str) -> Result<bool, HashError> {
        super::verify(password, stored, &Bcrypt::Plain).now_or_never().unwrap()
    }

    fn check(work: &Work, password: &Password, stored: Option<&str>) -> Result<bool, HashError> {
        work.check(password, stored, &Bcrypt::Plain).now_or_never().unwrap()
    }

    const QUICK: [Scheme; 2] = [
        Scheme::Bcrypt { cost: 4 },
        Scheme::Argon2id { memory_kib: 64, iterations: 1, parallelism: 1 },
    ];

    #[test]
    fn a_hash_verifies_its_password_alone_and_names_its_scheme() {
        for scheme in QUICK {
            for length in [8, 71, 72, 73, 200, 1024] {
                let password = Password::normalize(&"p".repeat(length));
                let other = Password::normalize(&format!("{}q", "p".repeat(length - 1)));
                let stored = hash(scheme, &password).unwrap();
                assert_eq!(Scheme::of(&stored), Some(scheme), "{stored}");
                assert_eq!(verify(&password, &stored), Ok(true), "{stored} at {length}");
                assert_eq!(verify(&other, &stored), Ok(false), "{stored} at {length}");
                assert_eq!(scheme.to_string().parse(), Ok(scheme));
            }
        }
    }

    #[test]
    fn hashes_made_elsewhere_verify() {
        let hashes = [
            // OpenBSD's test vector, and Argon2's reference implementation.
            ("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
            (
                "password",
                "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            ),
        ];
        for (password, stored) in hashes {
            assert_eq!(verify(&Password::normalize(password), stored), Ok(true), "{stored}");
            assert_eq!(verify(&Password::normalize("other"), stored), Ok(false), "{stored}");
        }
    }

    #[test]
    fn what_is_no_hash_is_an_error() {
        for stored in ["", "plain", "$2b$", "$argon2id$", "$bcrypt-sha256$v=2,t=2b,r=12$x$y"] {
            assert_eq!(
                verify(&Password::normalize("password"), stored),
                Err(HashError),
                "{stored}"
            );
        }
    }

    #[test]
    fn a_weaker_or_other_hash_is_outdated_and_a_stronger_one_is_not() {
        let bcrypt = |cost| Scheme::Bcrypt { cost };
        let argon2id =
            |memory_kib, iterations| Scheme::Argon2id { memory_kib, iterations, parallelism: 1 };
        let outdated = [
            (bcrypt(10), bcrypt(12)),
            (bcrypt(14), argon2id(64, 1)),
            (argon2id(64, 1), bcrypt(10)),
            (argon2id(64, 2), argon2id(128, 2)),
            (argon2id(128, 1), argon2id(64, 2)),
        ];
        let kept = [
            (bcrypt(12), bcrypt(12)),
            (bcrypt(14), bcrypt(12)),
            (argon2id(128, 2), argon2id(64, 2)),
        ];
        assert!(outdated.iter().all(|(used, present)| used.is_outdated(*present)));
        assert!(!kept.iter().any(|(used, present)| used.is_outdated(*present)));
    }

    #[test]
    fn work_covers_every_scheme_in_use() {
        let [bcrypt, argon2id] = QUICK;
        let costly = Scheme::Bcrypt { cost: 6 };
        let work = Work::new(bcrypt, [costly, argon2id, argon2id, bcrypt]);
        assert_eq!(work, Work { bcrypt_cost: Some(6), argon2id: vec![argon2id] });

        let password = Password::normalize("password");
        for scheme in [bcrypt, argon2id, costly] {
            let stored = hash(scheme, &password).unwrap();
            assert_eq!(check(&work, &password, Some(&stored)), Ok(true));
            assert_eq!(check(&work, &Password::normalize("other"), Some(&stored)), Ok(false));
            assert_eq!(check(&work, &Password::normalize(""), Some(&stored)), Ok(false));
        }
        assert_eq!(check(&work, &password, None), Ok(false));
    }
}

//! Creates hashes, and checks passwords in a time that does not depend on the stored hash.

use std::{collections::VecDeque, sync::Arc};

use bcrypt_lanes::Output;

use super::{
    HashError, Memory, PasswordHash, Scheme, Step, Steps, Unusable, argon2, bcrypt,
    hash::Verification, pbkdf2, scrypt, sha_crypt,
};
use crate::domain::Password;

/// How many memory-hard schemes the equal work covers; the most expensive ones count. An import
/// refuses to add more.
pub const MOST_MEMORY_HARD: usize = 16;

/// The computation of a new hash, with a random salt.
#[derive(Debug)]
pub struct Make {
    scheme: Scheme,
    password: Password,
    salt: [u8; 16],
    reserve: u64,
}

impl Make {
    /// Hashes `password` by `scheme`, which must be bcrypt or Argon2id.
    ///
    /// # Errors
    ///
    /// If the system has no random bytes.
    pub fn new(scheme: Scheme, password: Password) -> Result<Self, HashError> {
        Ok(Self { scheme, password, salt: random_salt()?, reserve: 0 })
    }
}

impl Steps for Make {
    type Result = Result<PasswordHash, HashError>;

    fn next(&mut self, computed: Option<Output>, memory: &Memory) -> Step<Self::Result> {
        let password = self.password.as_str();
        let text = match (self.scheme, computed) {
            (Scheme::Bcrypt { cost }, None) => {
                return Step::Bcrypt(bcrypt::request(cost, self.salt, password));
            }
            (Scheme::Bcrypt { cost }, Some(output)) => {
                Ok(bcrypt::text(cost, self.salt, password, &output))
            }
            (Scheme::Argon2id { memory_kib, iterations, parallelism }, _) => {
                let parameters = (memory_kib, iterations, parallelism);
                argon2::make(parameters, password, &self.salt, memory, self.reserve)
            }
            // New hashes use no other scheme.
            _ => Err(HashError),
        };
        Step::Done(text.map(PasswordHash::stored))
    }
}

fn random_salt() -> Result<[u8; 16], HashError> {
    let mut salt = [0; 16];
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| HashError)?;
    Ok(salt)
}

/// The work of every login, whatever account it names and whether the password is right: bcrypt at
/// the highest cost in use, PBKDF2 and SHA-crypt with the most rounds in use, and each memory-hard
/// scheme in use once. So the response time reveals neither whether the account exists nor whether
/// its hash is cheaper than others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    current: Scheme,
    bcrypt_cost: Option<u32>,
    /// PBKDF2 and SHA-crypt, one entry per hash function.
    by_rounds: Vec<Scheme>,
    memory_hard: Vec<Scheme>,
}

impl Work {
    /// The work for the scheme of new hashes and the schemes of the stored ones.
    #[must_use]
    pub fn new(current: Scheme, stored: impl IntoIterator<Item = Scheme>) -> Self {
        let mut work =
            Self { current, bcrypt_cost: None, by_rounds: Vec::new(), memory_hard: Vec::new() };
        for scheme in std::iter::once(current).chain(stored) {
            match scheme {
                Scheme::Bcrypt { cost } => work.bcrypt_cost = work.bcrypt_cost.max(Some(cost)),
                Scheme::Pbkdf2 { .. } | Scheme::ShaCrypt { .. } => {
                    let same = |other: &&mut Scheme| other.with_rounds(0) == scheme.with_rounds(0);
                    match work.by_rounds.iter_mut().find(same) {
                        Some(most) => *most = scheme.max(*most),
                        None => work.by_rounds.push(scheme),
                    }
                }
                Scheme::Argon2id { .. } | Scheme::Argon2i { .. } | Scheme::Scrypt { .. } => {
                    work.memory_hard.push(scheme);
                }
            }
        }
        work.memory_hard.sort_by_key(|scheme| std::cmp::Reverse((scheme.expected_time(), *scheme)));
        work.memory_hard.dedup();
        work.memory_hard.truncate(MOST_MEMORY_HARD);
        work
    }

    /// Whether checking a hash of this scheme is part of the work and needs nothing extra.
    #[must_use]
    pub fn covers(&self, scheme: Scheme) -> bool {
        match scheme {
            Scheme::Bcrypt { cost } => self.bcrypt_cost >= Some(cost),
            Scheme::Pbkdf2 { .. } | Scheme::ShaCrypt { .. } => self.by_rounds.iter().any(|most| {
                most.with_rounds(0) == scheme.with_rounds(0) && most.rounds() >= scheme.rounds()
            }),
            Scheme::Argon2id { .. } | Scheme::Argon2i { .. } | Scheme::Scrypt { .. } => {
                // The work contains no more than this many, so a further scheme would not be added.
                self.memory_hard.contains(&scheme) || self.memory_hard.len() >= MOST_MEMORY_HARD
            }
        }
    }

    /// Checks a password against a stored hash, or does the same work if there is none.
    #[must_use]
    pub fn check(self: Arc<Self>, password: Password, stored: Option<PasswordHash>) -> Check {
        let reserve = self.memory_hard.iter().map(|scheme| scheme.memory()).max().unwrap_or(0);
        Check {
            work: self,
            password,
            stored,
            reserve,
            left: VecDeque::from([WorkItem::Verify]),
            awaited: PendingStep::Nothing,
            checked: Checked::default(),
        }
    }

    /// The rest of the work after a hash of the scheme `done` has been verified and, if `replaced`, a
    /// new hash has been computed.
    fn rest(&self, done: Option<Scheme>, replaced: bool) -> impl Iterator<Item = WorkItem> {
        let made = replaced.then_some(self.current);
        let bcrypt = self.bcrypt_cost.map(|cost| {
            let spent = [done, made].into_iter().flatten().filter_map(|scheme| match scheme {
                Scheme::Bcrypt { cost } => Some(cost),
                _ => None,
            });
            match spent.max() {
                // Costs add up to the full work: 2^c + 2^c + 2^(c+1) + … + 2^(cost-1) = 2^cost.
                Some(spent) => spent..cost,
                None => cost..cost + 1,
            }
        });
        let by_rounds = self.by_rounds.iter().filter_map(move |most| {
            let same = done.filter(|done| done.with_rounds(0) == most.with_rounds(0));
            let left = most.rounds() - same.map_or(0, Scheme::rounds).min(most.rounds());
            (left > 0).then(|| most.with_rounds(left))
        });
        let memory_hard = self
            .memory_hard
            .iter()
            .copied()
            .filter(move |scheme| Some(*scheme) != done && Some(*scheme) != made);
        let bcrypt = bcrypt.into_iter().flatten().map(WorkItem::Bcrypt);
        bcrypt.chain(by_rounds.chain(memory_hard).map(WorkItem::Compute))
    }
}

/// The result of a check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Whether the password matches the stored hash.
    pub right: bool,
    /// The new hash to store, if the one that was checked is outdated.
    pub replacement: Option<PasswordHash>,
    /// Why the stored hash could not be used, if so. The password then counts as wrong.
    pub unusable: Option<Unusable>,
}

/// The check of a password: the stored hash first, then the rest of the work.
#[derive(Debug)]
pub struct Check {
    work: Arc<Work>,
    password: Password,
    stored: Option<PasswordHash>,
    /// The largest amount of memory that a piece needs, in bytes.
    reserve: u64,
    left: VecDeque<WorkItem>,
    awaited: PendingStep,
    checked: Checked,
}

/// A piece of the work.
#[derive(Debug)]
enum WorkItem {
    /// Check against the stored hash, and plan the rest.
    Verify,
    /// Compute a new hash with the current scheme, to be stored.
    Replace,
    /// Compute bcrypt at this cost only to spend the time.
    Bcrypt(u32),
    /// Compute another scheme only to spend the time.
    Compute(Scheme),
}

/// The purpose of the bcrypt hash that is being computed.
#[derive(Debug)]
enum PendingStep {
    Nothing,
    Verification,
    Replacement(Make),
}

impl Steps for Check {
    type Result = Result<Checked, HashError>;

    fn next(&mut self, computed: Option<Output>, memory: &Memory) -> Step<Self::Result> {
        let awaited = std::mem::replace(&mut self.awaited, PendingStep::Nothing);
        let ready = match (awaited, computed) {
            (PendingStep::Verification, Some(output)) => {
                let right = self.stored.as_ref().is_some_and(|stored| stored.matches(&output));
                self.verified(right);
                Ok(None)
            }
            (PendingStep::Replacement(make), computed) => self.replace(make, computed, memory),
            _ => Ok(None),
        };
        match ready {
            Ok(None) => {}
            Ok(Some(request)) => return Step::Bcrypt(request),
            Err(error) => return Step::Done(Err(error)),
        }
        while let Some(piece) = self.left.pop_front() {
            match self.begin(&piece, memory) {
                Ok(None) => {}
                Ok(Some(request)) => return Step::Bcrypt(request),
                Err(error) => return Step::Done(Err(error)),
            }
        }
        Step::Done(Ok(std::mem::take(&mut self.checked)))
    }
}

impl Check {
    /// Does a piece of the work, or returns the bcrypt hash that it needs.
    fn begin(
        &mut self,
        piece: &WorkItem,
        memory: &Memory,
    ) -> Result<Option<bcrypt::Request>, HashError> {
        match *piece {
            WorkItem::Verify => {
                let possible = self.password.is_possible();
                match self.stored.as_ref().filter(|_| possible) {
                    None => self.plan(None, false),
                    Some(stored) => match stored.verify(&self.password, memory, self.reserve) {
                        Verification::Bcrypt(request) => {
                            self.awaited = PendingStep::Verification;
                            return Ok(Some(request));
                        }
                        Verification::Known(right) => self.verified(right),
                        Verification::Unusable(reason) => {
                            self.checked.unusable = Some(reason);
                            self.plan(None, false);
                        }
                    },
                }
            }
            WorkItem::Replace => {
                let mut make = Make::new(self.work.current, self.password.clone())?;
                make.reserve = self.reserve;
                return self.replace(make, None, memory);
            }
            WorkItem::Bcrypt(cost) => {
                return Ok(Some(bcrypt::request(cost, random_salt()?, &self.stand_in())));
            }
            WorkItem::Compute(scheme) => {
                spend(scheme, &self.stand_in(), &random_salt()?, memory, self.reserve);
            }
        }
        Ok(None)
    }

    fn replace(
        &mut self,
        mut make: Make,
        computed: Option<Output>,
        memory: &Memory,
    ) -> Result<Option<bcrypt::Request>, HashError> {
        match make.next(computed, memory) {
            Step::Bcrypt(request) => {
                self.awaited = PendingStep::Replacement(make);
                Ok(Some(request))
            }
            Step::Done(made) => {
                self.checked.replacement = Some(made?);
                Ok(None)
            }
        }
    }

    fn verified(&mut self, right: bool) {
        self.checked.right = right;
        let outdated = right
            && self
                .stored
                .as_ref()
                .is_some_and(|stored| stored.is_outdated(&self.password, self.work.current));
        let done = self.stored.as_ref().and_then(PasswordHash::scheme);
        self.plan(done, outdated);
    }

    fn plan(&mut self, done: Option<Scheme>, replace: bool) {
        if replace {
            self.left.push_back(WorkItem::Replace);
        }
        self.left.extend(self.work.rest(done, replace));
    }

    /// The input for hashes that only spend time: the password, unless it is too long to be valid.
    fn stand_in(&self) -> zeroize::Zeroizing<String> {
        let text = if self.password.is_possible() { self.password.as_str() } else { "stand-in" };
        zeroize::Zeroizing::new(text.to_owned())
    }
}

/// Does the work of one hash of a scheme other than bcrypt. If there is not enough memory for it, it
/// is skipped, because then no password can be checked against such a hash either.
fn spend(scheme: Scheme, password: &str, salt: &[u8], memory: &Memory, reserve: u64) {
    match scheme {
        Scheme::Bcrypt { .. } => {}
        Scheme::Argon2id { .. } | Scheme::Argon2i { .. } => {
            argon2::spend(scheme, password, salt, memory, reserve);
        }
        Scheme::Pbkdf2 { digest, rounds } => pbkdf2::spend(digest, rounds, salt, password),
        Scheme::Scrypt { log_n, r, p } => {
            memory.with(scheme.memory(), || scrypt::spend((log_n, r, p), salt, password));
        }
        Scheme::ShaCrypt { digest, rounds } => sha_crypt::spend(digest, rounds, salt, password),
    }
}

//! What a password must be, and how it is hashed.

use std::time::Duration;

use service_kit::settings::{Source, boolean, number, read_text, seconds};

use crate::{
    blocklist::Blocklist,
    breached::{BreachFile, Breaches, RangeServer},
    domain::PasswordRules,
    lanes,
    password::{Memory, Scheme},
    resources,
};

service_kit::settings! {
    "Passwords"
    /// Passwords and their hashes.
    pub struct PasswordSettings {
        /// The least length of a new password, in Unicode code points, 8 to 128.
        min_length: usize = value PASSWORD_MIN_LENGTH("8", number(8, 128));
        /// A file with passwords to refuse beside the embedded list of common ones, one a line.
        blocklist: Option<Blocklist> = optional PASSWORD_BLOCKLIST_FILE(blocklist);
        /// A sorted file with the SHA-1 of breached passwords, as Have I Been Pwned's downloader writes
        /// it: lines of SHA1:count. New passwords that are in it are refused. Unset: none is looked up.
        breach_file: Option<BreachFile> = optional PASSWORD_BREACH_FILE(BreachFile::check);
        /// The base of a server of ranges of such hashes, such as
        /// `https://api.pwnedpasswords.com/range/`, to which the first five digits of a new password's hash
        /// are appended. https, or http to this machine. Where it does not answer within two seconds the
        /// password is taken. Not together with PASSWORD_BREACH_FILE.
        breach_server: Option<RangeServer> = optional PASSWORD_BREACH_URL(RangeServer::at);
        /// How passwords are hashed: bcrypt or argon2id.
        hash: Hash = value PASSWORD_HASH("bcrypt", str::parse);
        /// The cost of bcrypt, 10 to 16; each step doubles the time.
        bcrypt_cost: u32 = value BCRYPT_COST("12", number(10, 16));
        /// The memory of one Argon2id hash, in KiB, 7168 to 1048576.
        argon2_memory_kib: u32 = value ARGON2_MEMORY_KIB("19456", number(7168, 1_048_576));
        /// The passes of Argon2id over its memory, 1 to 64.
        argon2_iterations: u32 = value ARGON2_ITERATIONS("2", number(1, 64));
        /// The lanes of Argon2id, 1 to 16.
        argon2_parallelism: u32 = value ARGON2_PARALLELISM("1", number(1, 16));
        /// The threads that hash passwords, 1 to 256. Unset: the cores that the process may use; for
        /// argon2id no more than fit into half of its memory.
        workers: Option<usize> = optional HASH_WORKERS(number(1, 256));
        /// Whether a thread computes up to four bcrypt hashes at once as soon as one waits and no thread
        /// is idle: true, or false for one after the other with the bcrypt crate.
        interleave: bool = value BCRYPT_INTERLEAVE("true", boolean);
        /// How long a password may wait to be hashed, in seconds, 1 to 60; past it: 503.
        queue_timeout: Duration = value HASH_QUEUE_TIMEOUT("5", seconds(1, 60));
    }
}

/// How passwords are hashed.
#[derive(Debug, Clone, Copy)]
pub enum Hash {
    /// bcrypt.
    Bcrypt,
    /// Argon2id.
    Argon2id,
}

impl std::str::FromStr for Hash {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "bcrypt" => Ok(Self::Bcrypt),
            "argon2id" => Ok(Self::Argon2id),
            _ => Err("is neither bcrypt nor argon2id".to_owned()),
        }
    }
}

impl PasswordSettings {
    /// The scheme for new passwords.
    pub(super) const fn scheme(&self) -> Scheme {
        match self.hash {
            Hash::Bcrypt => Scheme::Bcrypt { cost: self.bcrypt_cost },
            Hash::Argon2id => Scheme::Argon2id {
                memory_kib: self.argon2_memory_kib,
                iterations: self.argon2_iterations,
                parallelism: self.argon2_parallelism,
            },
        }
    }

    /// Records a fault if hashes of this scheme would be rejected when they are read back.
    pub(super) fn check(&self, source: &mut Source) {
        if let Err(reason) = self.scheme().accepted() {
            source.fault(
                &PASSWORD_HASH,
                format!("has settings with which one hash is refused: {reason}"),
            );
        }
    }

    /// The memory budget of all hashes: half of the `memory` bytes that the process may use, or what a
    /// single hash needs if that is more; and as many hashes at a time as there are cores. Stored hashes of
    /// other schemes share this budget.
    pub(super) fn memory(&self, memory: Option<u64>) -> Memory {
        let half = memory.unwrap_or(u64::MAX) / 2;
        Memory::new(half.max(self.scheme().memory()), resources::cores())
    }

    /// How many passwords a thread hashes at once. For Argon2id this is one: it is limited by memory
    /// bandwidth, so two at once take as long as one after the other.
    pub(super) const fn width(&self) -> usize {
        match (self.interleave, self.hash) {
            (true, Hash::Bcrypt) => lanes::WIDTH,
            _ => 1,
        }
    }

    /// The number of hashing threads. By default it is the number of cores and, with Argon2id, no more than
    /// fit into half of the `memory` bytes that the process may use. A higher number can be set, as long as
    /// the hashes fit into the whole memory.
    pub(super) fn workers(&self, memory: Option<u64>, source: &mut Source) -> usize {
        let (memory, one) = (memory.unwrap_or(u64::MAX), self.scheme().memory());
        let fitting = usize::try_from((memory / 2 / one).max(1)).unwrap_or(usize::MAX);
        let workers = self.workers.unwrap_or_else(|| resources::cores().min(fitting));
        let needed = one.saturating_mul(workers as u64);
        if needed > memory {
            source.fault(
                &HASH_WORKERS,
                format!(
                    "{workers} threads hashing with ARGON2_MEMORY_KIB each need {needed} bytes, but \
                     the process may use {memory}"
                ),
            );
        }
        workers
    }

    /// Where new passwords are looked up, if a source of breached passwords is set.
    pub(super) fn breaches(&mut self, source: &mut Source) -> Option<Breaches> {
        if source.is_set(&PASSWORD_BREACH_FILE) && source.is_set(&PASSWORD_BREACH_URL) {
            source.fault(
                &PASSWORD_BREACH_FILE,
                "must not be given together with PASSWORD_BREACH_URL",
            );
        }
        let file = self.breach_file.take().map(Breaches::File);
        file.or_else(|| self.breach_server.take().map(Box::new).map(Breaches::Server))
    }

    /// The rules for new passwords.
    pub(super) fn rules(self) -> PasswordRules {
        PasswordRules { min_length: self.min_length, blocklist: self.blocklist.unwrap_or_default() }
    }
}

fn blocklist(path: &str) -> Result<Blocklist, String> {
    Ok(Blocklist::with_own(&read_text(path)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_that_no_login_would_accept_is_refused() {
        let mut source = Source::default();
        source.set(&PASSWORD_HASH, "argon2id");
        source.set(&ARGON2_MEMORY_KIB, "1048576");
        source.set(&ARGON2_ITERATIONS, "10");
        PasswordSettings::read(&mut source).check(&mut source);
        assert!(source.finish().is_ok());
        source.set(&ARGON2_ITERATIONS, "11");
        PasswordSettings::read(&mut source).check(&mut source);
        let told = source.finish().unwrap_err().to_string();
        assert!(told.contains("PASSWORD_HASH") && told.contains("10 GiB"), "{told}");
    }

    #[test]
    fn passwords_are_looked_up_in_one_place() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, format!("{}:1\n", "A".repeat(40)).as_bytes()).unwrap();
        let mut source = Source::default();
        assert!(PasswordSettings::read(&mut source).breaches(&mut source).is_none());
        source.set(&PASSWORD_BREACH_FILE, file.path().to_str().unwrap());
        let breaches = PasswordSettings::read(&mut source).breaches(&mut source);
        assert!(matches!(breaches, Some(Breaches::File(_))));
        assert!(source.finish().is_ok());
        source.set(&PASSWORD_BREACH_URL, "https://example.com/range/");
        PasswordSettings::read(&mut source).breaches(&mut source);
        let told = source.finish().unwrap_err().to_string();
        assert!(told.contains("PASSWORD_BREACH_FILE: must not be given together"), "{told}");
    }

    #[test]
    fn hashing_threads_must_fit_into_the_memory() {
        let gib = |number: u64| Some(number << 30);
        let mut source = Source::default();
        source.set(&PASSWORD_HASH, "argon2id");
        source.set(&ARGON2_MEMORY_KIB, (1024 * 1024).to_string());
        assert_eq!(PasswordSettings::read(&mut source).workers(gib(2), &mut source), 1);
        assert!(source.finish().is_ok());
        source.set(&HASH_WORKERS, "3");
        assert_eq!(PasswordSettings::read(&mut source).workers(gib(3), &mut source), 3);
        assert!(source.finish().is_ok());
        PasswordSettings::read(&mut source).workers(gib(2), &mut source);
        let told = source.finish().unwrap_err().to_string();
        assert!(told.contains("HASH_WORKERS: 3 threads"), "{told}");
    }
}

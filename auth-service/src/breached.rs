//! Passwords that have appeared in data breaches and are therefore refused as new passwords (NIST SP
//! 800-63B, section 3.1.1.2). They are looked up by their SHA-1, the format in which Have I Been Pwned
//! publishes them, either in a file or at a server, which receives only the first five digits. If a lookup
//! fails, the password is accepted. Logins do not look anything up.

mod entry;
mod file;
mod range;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use service_kit::metrics::{Counts, Metrics};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

pub use self::{file::BreachFile, range::RangeServer};
use crate::domain::Password;

/// How many lookups run at the same time. Further ones wait for at most [`PATIENCE`].
const LOOKUPS: usize = 32;
/// The time limit of a lookup, including the time it waits for a permit.
const PATIENCE: Duration = Duration::from_secs(2);
/// The minimum interval between two log lines about failures.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// The SHA-1 of a password, in upper-case hexadecimal digits.
type Sha1Hex = Zeroizing<String>;

/// The outcomes of lookups, as metrics name them.
mod outcome {
    pub(super) const CLEAN: &str = "clean";
    pub(super) const BREACHED: &str = "breached";
    pub(super) const FAILED: &str = "failed";
    pub(super) const ALL: [&str; 3] = [CLEAN, BREACHED, FAILED];
}

/// The source of breached passwords.
#[derive(Debug, Clone)]
pub enum Breaches {
    /// A file on this machine.
    File(BreachFile),
    /// A server that answers range queries.
    Server(Box<RangeServer>),
}

/// Checks whether passwords have appeared in a breach.
#[derive(Debug)]
pub struct BreachCheck {
    breaches: Breaches,
    turns: Arc<Semaphore>,
    outcomes: Counts,
    reported: Mutex<Option<Instant>>,
}

impl BreachCheck {
    /// Creates a check that counts its lookups in `metrics`.
    #[must_use]
    pub fn new(breaches: Breaches, metrics: &Metrics) -> Self {
        let help = "New passwords that were looked up among breached ones";
        Self {
            breaches,
            turns: Arc::new(Semaphore::new(LOOKUPS)),
            outcomes: metrics.counts("auth.breach.checks", help, "outcome", &outcome::ALL),
            reported: Mutex::default(),
        }
    }

    /// Whether the password is known to have appeared in a breach. Returns `false` if the lookup fails or
    /// takes longer than two seconds.
    pub async fn is_breached(&self, password: &Password) -> bool {
        let hash = sha1_hex(password);
        let looked_up = async {
            let turn = Arc::clone(&self.turns).acquire_owned().await;
            let turn = turn.map_err(|error| error.to_string())?;
            match &self.breaches {
                Breaches::File(file) => file.has(hash, turn).await,
                Breaches::Server(server) => server.has(&hash).await,
            }
        };
        let result = tokio::time::timeout(PATIENCE, looked_up).await;
        match result.unwrap_or_else(|_| Err("no answer within 2 s".to_owned())) {
            Ok(is_breached) => {
                self.outcomes.count(if is_breached { outcome::BREACHED } else { outcome::CLEAN });
                is_breached
            }
            Err(why) => {
                self.outcomes.count(outcome::FAILED);
                self.report(&why);
                false
            }
        }
    }

    /// Logs a failure, at most once per minute.
    fn report(&self, why: &str) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.is_none_or(|last| last.elapsed() >= REPORT_INTERVAL) {
            *reported = Some(Instant::now());
            drop(reported);
            tracing::warn!(
                event = "password.breach_check_failed",
                why,
                "new passwords cannot be looked up among breached ones: they are taken without"
            );
        }
    }
}

/// The SHA-1 of the password as it is hashed and stored: the UTF-8 bytes of its Unicode NFC.
fn sha1_hex(password: &Password) -> Sha1Hex {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let sum = digest(&SHA1_FOR_LEGACY_USE_ONLY, password.as_str().as_bytes());
    let digit = |value: u8| char::from(DIGITS[usize::from(value & 15)]);
    Zeroizing::new(sum.as_ref().iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_looked_up_in_the_form_in_which_it_is_stored() {
        // The value is from FIPS 180-4, example "abc".
        let hash = sha1_hex(&Password::normalize("abc"));
        assert_eq!(*hash, "A9993E364706816ABA3E25717850C26C9CD0D89D");
        let (composed, decomposed) =
            (Password::normalize("caf\u{e9}"), Password::normalize("cafe\u{301}"));
        assert_eq!(sha1_hex(&composed), sha1_hex(&decomposed));
    }
}

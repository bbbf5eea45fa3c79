//! Throttling: limits failed password checks per account, and requests per network. Every password
//! check goes through [`Throttle`], which admits the attempt and returns a [`Permit`] to settle its
//! outcome.
//!
//! Failures are counted in the database, which replicas share and which survives a restart. An
//! attempt counts as pending before its password is checked: while failures and pending attempts
//! together reach the limit, further attempts wait. So concurrent attempts get no more tries than
//! sequential ones, and concurrent correct logins do not count as failures.

mod counters;
mod guard;
mod network;

use std::time::Duration;

use aws_lc_rs::hmac;
use service_kit::metrics::{Counts, Metrics};

pub use self::{
    counters::{Counter, Counters, Decision, FailureLimits, Outcome},
    guard::{Permit, Throttle},
    network::NetworkLimit,
};

/// The key of an attempt in the tables: the HMAC-SHA-256 of the normalised email. So the tables
/// contain no addresses, nobody without the key can test guesses against them, and all keys have the
/// same size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject(pub [u8; 32]);

/// Computes [`Subject`]s.
#[derive(Clone)]
pub struct SubjectKey(hmac::Key);

impl std::fmt::Debug for SubjectKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SubjectKey([redacted])")
    }
}

impl SubjectKey {
    /// Creates the key from a secret that all replicas share and that has no other purpose.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The subject of an attempt with this email, valid or not. Variants in letter case or
    /// surrounding spaces have the same subject, so they share one limit.
    #[must_use]
    pub fn subject(&self, email: &str) -> Subject {
        let tag = hmac::sign(&self.0, email.trim().to_lowercase().as_bytes());
        let mut subject = [0; 32];
        subject.copy_from_slice(tag.as_ref());
        Subject(subject)
    }
}

/// A limit that is exhausted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    /// Its name in `RateLimit-Policy`.
    pub policy: &'static str,
    /// How many requests or failures it allows.
    pub quota: u32,
    /// The window in which it counts.
    pub window: Duration,
    /// When it allows more.
    pub retry_after: Duration,
}

/// The names of the limits in `RateLimit-Policy` and in the metrics.
pub mod policy {
    /// On failed logins per account and network.
    pub const FAILURES_PER_PAIR: &str = "login-failures-per-pair";
    /// On failed logins per account.
    pub const FAILURES_PER_ACCOUNT: &str = "login-failures-per-account";
    /// On logins per network.
    pub const LOGINS: &str = "logins-per-network";
    /// On registrations per network.
    pub const REGISTRATIONS: &str = "registrations-per-network";
    /// On refreshes per network.
    pub const REFRESHES: &str = "refreshes-per-network";
    /// On mails per network.
    pub const MAILS: &str = "mails-per-network";
    /// All of them.
    pub const ALL: [&str; 6] =
        [FAILURES_PER_PAIR, FAILURES_PER_ACCOUNT, LOGINS, REGISTRATIONS, REFRESHES, MAILS];
}

/// Counts refusals by limit.
#[derive(Debug, Clone)]
pub struct Refusals(Counts);

impl Refusals {
    /// Publishes the counts in `metrics`.
    #[must_use]
    pub fn observed_by(metrics: &Metrics) -> Self {
        let help = "Requests that a limit has refused";
        Self(metrics.counts("auth.throttled_requests", help, "policy", &policy::ALL))
    }

    /// Counts one refusal.
    pub fn count(&self, exhausted: &Exhausted) {
        self.0.count(exhausted.policy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_spaces_are_one_subject_and_another_key_makes_another() {
        let key = SubjectKey::new(b"secret");
        assert_eq!(key.subject("A@B.com"), key.subject(" a@b.com\t"));
        assert_ne!(key.subject("a@b.com"), key.subject("a+b@b.com"));
        assert_ne!(key.subject("a@b.com"), SubjectKey::new(b"other").subject("a@b.com"));
    }
}

//! Throttling: how many failed checks of its password an account is allowed, and how many requests a
//! network. Everything that checks a password goes through [`Throttle`]: it admits an attempt, and
//! gives a [`Permit`] with which the outcome is settled.
//!
//! Failures are counted in the database, which replicas share and a restart keeps. An attempt is
//! counted there as pending before the password is looked at: while failures and pending attempts
//! together reach the limit, further ones wait. So any number of attempts at once gets no more tries
//! than the same number one by one, and right passwords at once are no failures.

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

/// What an attempt names, as a key of the tables: the HMAC-SHA-256 of the email in the form that is
/// compared. So the tables hold no address, nor anything by which one can be guessed without the key,
/// and their keys have one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject(pub [u8; 32]);

/// Makes [`Subject`]s.
#[derive(Clone)]
pub struct SubjectKey(hmac::Key);

impl std::fmt::Debug for SubjectKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SubjectKey([redacted])")
    }
}

impl SubjectKey {
    /// A key made of a secret that all replicas share and that is used for nothing else.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The subject of an attempt with this email, valid or not. Letter case and spaces around it give
    /// no new budget.
    #[must_use]
    pub fn subject(&self, email: &str) -> Subject {
        let tag = hmac::sign(&self.0, email.trim().to_lowercase().as_bytes());
        let mut subject = [0; 32];
        subject.copy_from_slice(tag.as_ref());
        Subject(subject)
    }
}

/// A limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    /// Which one, as `RateLimit-Policy` names it.
    pub policy: &'static str,
    /// How many it allows.
    pub quota: u32,
    /// Over which time.
    pub window: Duration,
    /// How long until it allows more.
    pub retry_after: Duration,
}

/// The names of the limits, as `RateLimit-Policy` and the metrics have them.
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

/// Counts what limits have refused.
#[derive(Debug, Clone)]
pub struct Refusals(Counts);

impl Refusals {
    /// Shows them in `metrics`.
    #[must_use]
    pub fn observed_by(metrics: &Metrics) -> Self {
        let help = "Requests that a limit has refused";
        Self(metrics.counts("auth.throttled_requests", help, "policy", &policy::ALL))
    }

    /// Counts one.
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

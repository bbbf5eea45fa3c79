//! Successful requests while a check still counts as failed.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{
        AtomicBool,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
};

use tokio::sync::Notify;

/// Records that an operation has succeeded that depends on what is checked, such as one on the database.
/// While the service is not ready, a success triggers new checks at once, and probes wait for their result.
/// So a client whose request has just succeeded does not see a probe that says the opposite. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Successes(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Whether there was a success since the last round of checks started.
    is_new: AtomicBool,
    noted: Notify,
    rounds: Mutex<Rounds>,
}

/// The rounds of checks.
#[derive(Debug, Default)]
struct Rounds {
    /// The number of started rounds.
    number: u64,
    /// Whether the last round is running and was started after a success.
    follows_success: bool,
}

impl Successes {
    /// Records a success. If one is already recorded since the last round, this only costs a load.
    pub fn note(&self) {
        if !self.0.is_new.load(Relaxed) {
            self.0.is_new.store(true, Release);
            self.0.noted.notify_one();
        }
    }

    /// Waits for a success that is newer than the last round of checks.
    pub(super) async fn wait(&self) {
        while !self.0.is_new.load(Acquire) {
            self.0.noted.notified().await;
        }
    }

    /// Starts a round of checks. Returns its number, and whether there was a success since the previous round
    /// started.
    pub(super) fn begin_round(&self) -> (u64, bool) {
        let mut rounds = self.rounds();
        rounds.number += 1;
        rounds.follows_success = self.0.is_new.swap(false, AcqRel);
        (rounds.number, rounds.follows_success)
    }

    /// Ends the round, once its results are known.
    pub(super) fn end_round(&self) {
        self.rounds().follows_success = false;
    }

    /// The round whose results a probe should wait for, if there is a success that is newer than the known
    /// results.
    pub(super) fn awaited_round(&self) -> Option<u64> {
        let rounds = self.rounds();
        if self.0.is_new.load(Acquire) {
            Some(rounds.number + 1)
        } else {
            rounds.follows_success.then_some(rounds.number)
        }
    }

    fn rounds(&self) -> std::sync::MutexGuard<'_, Rounds> {
        self.0.rounds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

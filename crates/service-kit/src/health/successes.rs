//! Requests that succeed while a check still says that they cannot.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{
        AtomicBool,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
};

use tokio::sync::Notify;

/// Where it is noted that something has succeeded that needs what the checks look at, such as an operation
/// on the database. While the service is said not to be ready, a success has everything checked anew at
/// once, and probes wait for the result: a client whose request has just been answered is never told that the
/// service cannot. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Successes(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Whether there was one since the last round of checks began.
    is_new: AtomicBool,
    noted: Notify,
    rounds: Mutex<Rounds>,
}

/// The rounds of checks that were begun.
#[derive(Debug, Default)]
struct Rounds {
    /// How many.
    number: u64,
    /// Whether the last one is under way and was begun after a success.
    follows_success: bool,
}

impl Successes {
    /// Notes a success. Where one was noted already since the last round of checks, this costs a load.
    pub fn note(&self) {
        if !self.0.is_new.load(Relaxed) {
            self.0.is_new.store(true, Release);
            self.0.noted.notify_one();
        }
    }

    /// Waits for a success that no round of checks has followed yet.
    pub(super) async fn wait(&self) {
        while !self.0.is_new.load(Acquire) {
            self.0.noted.notified().await;
        }
    }

    /// Begins a round of checks: its number, and whether there was a success since the one before began.
    pub(super) fn begin_round(&self) -> (u64, bool) {
        let mut rounds = self.rounds();
        rounds.number += 1;
        rounds.follows_success = self.0.is_new.swap(false, AcqRel);
        (rounds.number, rounds.follows_success)
    }

    /// Ends the round, when its results are known.
    pub(super) fn end_round(&self) {
        self.rounds().follows_success = false;
    }

    /// The round whose results a probe should wait for, if a success is newer than the results that are
    /// known.
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

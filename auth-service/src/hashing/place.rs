//! Places in the queue before the hashing threads.

use std::sync::{
    Arc,
    atomic::{
        AtomicBool,
        Ordering::{AcqRel, Relaxed},
    },
};

use super::State;

/// A place in the queue. Whoever claims it first decides: the thread that takes the job, or the one
/// who gives it up, because nobody waits for it any more or its time is over.
#[derive(Debug, Clone)]
pub(super) struct Place(Arc<Claim>);

#[derive(Debug)]
struct Claim {
    state: Arc<State>,
    is_claimed: AtomicBool,
}

impl Place {
    pub(super) fn take(state: &Arc<State>) -> Self {
        state.pending.fetch_add(1, Relaxed);
        Self(Arc::new(Claim { state: Arc::clone(state), is_claimed: AtomicBool::new(false) }))
    }

    /// Gives the place up; `false` if the job has begun, or the place was given up before.
    pub(super) fn claim(&self) -> bool {
        let is_first = !self.0.is_claimed.swap(true, AcqRel);
        if is_first {
            self.0.state.pending.fetch_sub(1, Relaxed);
        }
        is_first
    }

    /// Begins the job; `false` if the place was given up. It counts as pending until the job has
    /// ended.
    pub(super) fn begin(&self) -> bool {
        !self.0.is_claimed.swap(true, AcqRel)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !*self.is_claimed.get_mut() {
            self.state.pending.fetch_sub(1, Relaxed);
        }
    }
}

//! Places in the queue of the hashing threads.

use std::sync::{
    Arc,
    atomic::{
        AtomicBool,
        Ordering::{AcqRel, Relaxed},
    },
};

use super::State;

/// A place in the queue. The first to claim it decides: either the thread that takes the job, or
/// the side that withdraws it, because nobody waits any more or the timeout has passed.
#[derive(Debug, Clone)]
pub(super) struct QueueSlot(Arc<Claim>);

#[derive(Debug)]
struct Claim {
    state: Arc<State>,
    is_claimed: AtomicBool,
}

impl QueueSlot {
    pub(super) fn take(state: &Arc<State>) -> Self {
        state.pending.fetch_add(1, Relaxed);
        Self(Arc::new(Claim { state: Arc::clone(state), is_claimed: AtomicBool::new(false) }))
    }

    /// Withdraws the job; `false` if it has started or was withdrawn before.
    pub(super) fn claim(&self) -> bool {
        let is_first = !self.0.is_claimed.swap(true, AcqRel);
        if is_first {
            self.0.state.pending.fetch_sub(1, Relaxed);
        }
        is_first
    }

    /// Starts the job; `false` if it was withdrawn. It counts as pending until it has ended.
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

//! Batches reads of profiles: concurrent reads share one query.
//!
//! A query costs a round trip and more work on both sides than looking up one more row. If no query
//! is running, a read starts one at once, so it is no slower than without batching. Otherwise it
//! waits in the queue, and the next query serves all waiting reads. The query always starts after the
//! read was requested, so it sees everything that was written before.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use opentelemetry::trace::SpanKind;
use service_kit::trace;
use tokio::{runtime::Handle, sync::oneshot};

use crate::{
    domain::{Profile, UserId},
    store::{Store, StoreError},
};

/// How many queries run at a time: the database works on one while the results of the other are sent.
const MAX_UNDER_WAY: usize = 2;
/// How many reads one query serves at most (the batch size).
const MAX_BATCH: usize = 128;

/// Two profiles, as far as they exist. If both ids are equal, the second one is `None`.
pub type Pair = (Option<Profile>, Option<Profile>);

/// Reads profiles from a store. Clones share the queue.
#[derive(Debug, Clone)]
pub struct Reads {
    store: Store,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    under_way: usize,
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    ids: [UserId; 2],
    answer: oneshot::Sender<Result<Pair, StoreError>>,
}

impl Reads {
    /// Creates a queue of reads from `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, queue: Arc::default() }
    }

    /// Finds the profiles `one` and `other`.
    ///
    /// # Errors
    ///
    /// The errors of the store.
    pub async fn pair(&self, one: UserId, other: UserId) -> Result<Pair, StoreError> {
        let ids = [one, other];
        let Some(answer) = self.enqueue(ids) else {
            let _permit = QueryPermit(self);
            return Ok(pick(&sorted(self.store.profiles(&ids).await?), ids));
        };
        let _span = trace::child("shared database read", SpanKind::Internal);
        // The timeout includes the time in the queue, because an operation has one time limit in
        // total. A sender that is dropped without an answer means that the runtime is shutting down.
        let answer = tokio::time::timeout(sql_kit::OPERATION_TIMEOUT, answer).await;
        answer.map_or(Err(StoreError::Unavailable), |answer| {
            answer.unwrap_or(Err(StoreError::Unavailable))
        })
    }

    /// Joins the queue. Returns `None` if no query is running: the caller then runs one itself.
    fn enqueue(&self, ids: [UserId; 2]) -> Option<oneshot::Receiver<Result<Pair, StoreError>>> {
        let mut queue = self.lock();
        if queue.under_way == 0 {
            queue.under_way = 1;
            return None;
        }
        let (answer, receiver) = oneshot::channel();
        queue.waiting.push(Waiting { ids, answer });
        if queue.under_way < MAX_UNDER_WAY {
            queue.under_way += 1;
            tokio::spawn(self.clone().serve());
        }
        Some(receiver)
    }

    /// Serves the queue until it is empty. This is a task of its own, because the request that starts
    /// it may be cancelled by its client.
    async fn serve(self) {
        let _permit = QueryPermit(&self);
        loop {
            self.gather().await;
            let mut batch = {
                let mut queue = self.lock();
                let rest = queue.waiting.len().min(MAX_BATCH);
                let rest = queue.waiting.split_off(rest);
                mem::replace(&mut queue.waiting, rest)
            };
            batch.retain(|waiting| !waiting.answer.is_closed());
            if batch.is_empty() {
                return;
            }
            let mut ids: Vec<UserId> = batch.iter().flat_map(|waiting| waiting.ids).collect();
            ids.sort_unstable();
            ids.dedup();
            let found = self.store.profiles(&ids).await.map(sorted);
            for Waiting { ids, answer } in batch {
                let picked = found.as_ref().map(|found| pick(found, ids)).map_err(Clone::clone);
                // The receiver is gone if the request was cancelled.
                let _ = answer.send(picked);
            }
        }
    }

    /// Lets requests that have already arrived join the queue, for as long as more of them do. A task that
    /// has just been spawned would otherwise run before all others, for a single read.
    async fn gather(&self) {
        let mut waiting = self.lock().waiting.len();
        loop {
            tokio::task::yield_now().await;
            let more = self.lock().waiting.len();
            if more <= waiting || more >= MAX_BATCH {
                return;
            }
            waiting = more;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The permit to run a query. When it is dropped, the waiting reads get it.
struct QueryPermit<'a>(&'a Reads);

impl Drop for QueryPermit<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        match Handle::try_current() {
            Ok(runtime) if !queue.waiting.is_empty() => {
                runtime.spawn(self.0.clone().serve());
            }
            // The queue is empty, or there is no runtime to serve it: release the permit.
            _ => queue.under_way -= 1,
        }
    }
}

fn sorted(mut profiles: Vec<Profile>) -> Vec<Profile> {
    profiles.sort_unstable_by_key(|profile| profile.id);
    profiles
}

/// Picks two profiles from a list that is sorted by id.
fn pick(found: &[Profile], [one, other]: [UserId; 2]) -> Pair {
    let with = |id| {
        let at = found.binary_search_by_key(&id, |profile| profile.id).ok()?;
        found.get(at).cloned()
    };
    (with(one), if one == other { None } else { with(other) })
}

//! Reads of profiles: those that come at the same time share one query.
//!
//! A query costs a round trip and, on both sides, more than looking up one more row does. A read
//! that finds none under way is made at once, by itself, and so no slower than without this. Others
//! wait for the next query, which serves all that wait. A read is always made after it was asked
//! for, so it sees what was written before.

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

/// How many queries are under way at a time: one works while the answers of the other are sent.
const MAX_UNDER_WAY: usize = 2;
/// How many reads one query serves at most.
const MAX_BATCH: usize = 128;

/// A profile and another, as far as they exist. The other one of two equal ids is not repeated.
pub type Pair = (Option<Profile>, Option<Profile>);

/// Reads profiles from a store. Clones share the queries.
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
    /// Reads from `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, queue: Arc::default() }
    }

    /// Finds the profiles `one` and `other`.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn pair(&self, one: UserId, other: UserId) -> Result<Pair, StoreError> {
        let ids = [one, other];
        let Some(answer) = self.enqueue(ids) else {
            let _turn = Turn(self);
            return Ok(pick(&sorted(self.store.profiles(&ids).await?), ids));
        };
        let _span = trace::child("shared database read", SpanKind::Internal);
        // What is waited for may begin late, but the time of an operation is over when it is over. A
        // sender that is dropped without an answer has met the end of the runtime.
        let answer = tokio::time::timeout(sql_kit::OPERATION_TIMEOUT, answer).await;
        answer.map_or(Err(StoreError::Unavailable), |answer| {
            answer.unwrap_or(Err(StoreError::Unavailable))
        })
    }

    /// Takes a place in the queue; nothing, where there is none because nobody reads.
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

    /// Serves those who wait, until nobody does. A task of its own: the request that has begun it may
    /// be given up by its client.
    async fn serve(self) {
        let _turn = Turn(&self);
        loop {
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
                // Who has left needs no answer.
                let _ = answer.send(picked);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to make a query. Given up, it goes to those who wait.
struct Turn<'a>(&'a Reads);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        match Handle::try_current() {
            Ok(runtime) if !queue.waiting.is_empty() => {
                runtime.spawn(self.0.clone().serve());
            }
            // Without a runtime this is its end.
            _ => queue.under_way -= 1,
        }
    }
}

fn sorted(mut profiles: Vec<Profile>) -> Vec<Profile> {
    profiles.sort_unstable_by_key(|profile| profile.id);
    profiles
}

/// Finds two among profiles that are in the order of their ids.
fn pick(found: &[Profile], [one, other]: [UserId; 2]) -> Pair {
    let with = |id| {
        let at = found.binary_search_by_key(&id, |profile| profile.id).ok()?;
        found.get(at).cloned()
    };
    (with(one), if one == other { None } else { with(other) })
}

//! The worker, which takes leases on due entries and delivers them.

use std::{
    pin::pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use chrono::TimeDelta;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use uuid::Uuid;

use crate::{Backlog, Backoff, Entry, Outbox};

/// The duration of a lease. If a process is killed, others have to wait this long for its entries.
const LEASE: TimeDelta = TimeDelta::seconds(4);
/// How often the leases of running attempts are renewed. Three renewals may fail in a row.
const RENEW_INTERVAL: Duration = Duration::from_secs(1);

/// The values of the label `outcome`.
pub(crate) const OUTCOMES: [&str; 4] = ["delivered", "retried", "discarded", "expired"];

/// Delivers entries to their receiver.
pub trait Deliver: Send + Sync {
    /// Makes one attempt. The future may be dropped before it ends, and the entry may have been
    /// delivered before, so the receiver must tolerate duplicates.
    fn deliver(&self, entry: &Entry) -> impl Future<Output = Outcome> + Send;
}

/// The outcome of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The entry was delivered and is removed.
    Delivered,
    /// The entry was not delivered, but a retry may succeed.
    Retry(Retry),
    /// The entry can never be delivered, for this reason, and is removed.
    Discard(String),
}

impl Outcome {
    /// The entry was not delivered, for this reason, which is logged and shown to operators.
    #[must_use]
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry(Retry { reason: reason.into(), at_least: Duration::ZERO, at_most: None })
    }
}

/// Why and when to retry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Why the attempt failed. It must not contain secrets.
    pub reason: String,
    /// The least delay, if the receiver has asked for one, as with `Retry-After`.
    pub at_least: Duration,
    /// The longest delay for this kind of failure, if it differs from that of the worker.
    pub at_most: Option<Duration>,
}

/// The settings of a worker.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How many attempts run at the same time.
    pub concurrency: u32,
    /// The timeout of an attempt.
    pub delivery_timeout: Duration,
    /// The polling interval if nothing wakes the worker. Polling finds entries that another replica has
    /// added, or that are due for a retry.
    pub poll_interval: Duration,
    /// The backoff after a failed attempt.
    pub backoff: Backoff,
}

/// Delivers the entries of an outbox. Any number of replicas may run a worker.
#[derive(Debug)]
pub struct Worker<D> {
    outbox: Outbox,
    backlog: Backlog,
    settings: Settings,
    deliver: D,
    /// The id and the attempt number of each entry that is being delivered.
    held: Mutex<Vec<(Uuid, i64)>>,
}

impl<D: Deliver> Worker<D> {
    /// Creates a worker that counts its attempts in `backlog`.
    pub fn new(outbox: Outbox, backlog: Backlog, settings: Settings, deliver: D) -> Self {
        Self { outbox, backlog, settings, deliver, held: Mutex::default() }
    }

    /// Works forever. The future may be dropped at any time: the entries that it holds are due again
    /// when their leases end, or at once after [`Worker::release`].
    pub async fn run(&self) {
        // The ping sets the clock, by which leases are taken.
        let _ = self.outbox.sql.ping().await;
        tokio::join!(self.work(), self.renew());
    }

    /// Renews the leases of running attempts, forever.
    async fn renew(&self) {
        loop {
            tokio::time::sleep(RENEW_INTERVAL).await;
            let held = self.held().clone();
            for (id, attempts) in held {
                if self.outbox.renew(id, attempts, LEASE).await.is_err() {
                    // The other renewals would fail as well. The failure has been logged.
                    break;
                }
            }
        }
    }

    /// Takes due entries and delivers them, forever.
    async fn work(&self) {
        let slots = usize::try_from(self.settings.concurrency.max(1)).unwrap_or(usize::MAX);
        let mut under_way = FuturesUnordered::new();
        let mut pace = Pace { slots, failed: 0, may_be_more: true };
        loop {
            let free = slots - under_way.len();
            if pace.may_be_more && free > 0 {
                pace.may_be_more = false;
                let mut take = pin!(self.take(free));
                // Keep polling the running attempts: one that holds the write lock and is not polled
                // would block this statement.
                let taken = loop {
                    tokio::select! {
                        Some(attempt) = under_way.next(), if !under_way.is_empty() => {
                            pace.follow(&attempt);
                        }
                        taken = &mut take => break taken,
                    }
                };
                pace.may_be_more |= taken.len() == free;
                under_way.extend(taken.into_iter().map(|entry| self.attempt(entry)));
            }
            tokio::select! {
                Some(attempt) = under_way.next(), if !under_way.is_empty() => {
                    pace.follow(&attempt);
                }
                () = self.outbox.added.notified() => pace.may_be_more = true,
                () = tokio::time::sleep(self.settings.poll_interval) => {
                    (pace.may_be_more, pace.failed) = (true, 0);
                }
            }
        }
    }

    /// Releases the leases that the worker held when [`Worker::run`] was dropped, so that no other
    /// worker has to wait for their end.
    pub async fn release(&self) {
        let held = std::mem::take(&mut *self.held());
        for (id, attempts) in held {
            if self.outbox.release(id, attempts).await.is_err() {
                // The database is unavailable, so the leases have to expire.
                return;
            }
        }
    }

    async fn take(&self, free: usize) -> Vec<Entry> {
        let limit = u32::try_from(free).unwrap_or(u32::MAX);
        // A failure has been logged, and the next poll will try again.
        let taken = self.outbox.take(LEASE, limit).await.unwrap_or_default();
        self.held().extend(taken.iter().map(|entry| (entry.id, entry.attempts)));
        taken
    }

    async fn attempt(&self, entry: Entry) -> Attempt {
        let attempt = self.deliver.deliver(&entry);
        let outcome = tokio::time::timeout(self.settings.delivery_timeout, attempt).await;
        let outcome = outcome.unwrap_or_else(|_| Outcome::retry("no answer in time"));
        let names = &self.outbox.table.names;
        let (id, attempts) = (entry.id, entry.attempts);
        let (request_id, trace_id) = (&entry.origin.request_id, entry.origin.trace_id());
        let is_ordered = entry.order_key.is_some();
        let result = match outcome {
            Outcome::Delivered => {
                self.backlog.attempts.count("delivered");
                let lag_ms = (self.outbox.now() - entry.created_at).num_milliseconds();
                tracing::info!(
                    event = names.delivered,
                    entry = %id, request_id, trace_id, attempts, lag_ms, "delivered from the outbox"
                );
                // If this fails, the entry is delivered again.
                let removed = self.outbox.discard(id).await.is_ok();
                Attempt { has_failed: !removed, frees_another: removed && is_ordered }
            }
            Outcome::Discard(reason) => {
                self.backlog.attempts.count("discarded");
                tracing::warn!(
                    event = names.discarded,
                    entry = %id, request_id, trace_id, attempts, reason, "discarded from the outbox"
                );
                let removed = self.outbox.discard(id).await.is_ok();
                Attempt { has_failed: !removed, frees_another: removed && is_ordered }
            }
            Outcome::Retry(Retry { reason, at_least, at_most }) => {
                self.backlog.attempts.count("retried");
                tracing::warn!(
                    event = names.failed,
                    entry = %id, request_id, trace_id, attempts, reason, "not delivered from the outbox"
                );
                let Backoff { first, most } = self.settings.backoff;
                let backoff = Backoff { first, most: at_most.unwrap_or(most) };
                let delay = backoff.delay(attempts).max(at_least);
                let due_at = TimeDelta::from_std(delay)
                    .ok()
                    .and_then(|delay| self.outbox.now().checked_add_signed(delay))
                    .unwrap_or(chrono::DateTime::<chrono::Utc>::MAX_UTC);
                // If this fails, the entry is due when its lease ends.
                let _ = self.outbox.postpone(&entry, due_at, &reason).await;
                Attempt { has_failed: true, frees_another: false }
            }
        };
        self.held().retain(|held| *held != (id, attempts));
        result
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Vec<(Uuid, i64)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When to poll again.
struct Pace {
    slots: usize,
    /// The number of failed attempts in a row. If all fail, the receiver is probably down. Then the
    /// entries are tried once per interval, and not as fast as they fail.
    failed: usize,
    may_be_more: bool,
}

impl Pace {
    fn follow(&mut self, attempt: &Attempt) {
        self.failed = if attempt.has_failed { self.failed + 1 } else { 0 };
        self.may_be_more |= attempt.frees_another;
        self.may_be_more &= self.failed < self.slots;
    }
}

struct Attempt {
    has_failed: bool,
    /// Whether the next entry with the same key has become due.
    frees_another: bool,
}

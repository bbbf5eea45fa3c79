//! The worker: takes what is due and has it delivered.

use std::{
    pin::pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use chrono::TimeDelta;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use uuid::Uuid;

use crate::{Backlog, Backoff, Entry, Outbox};

/// How long an entry belongs to the worker that has taken or renewed it: as long as others have to wait
/// for the entries of a process that was killed.
const LEASE: TimeDelta = TimeDelta::seconds(4);
/// How often the leases of what is being delivered are renewed. Three may fail in a row.
const RENEW_INTERVAL: Duration = Duration::from_secs(1);

/// The values of the label `outcome`.
pub(crate) const OUTCOMES: [&str; 4] = ["delivered", "retried", "discarded", "expired"];

/// Delivers entries to whomever they are for.
pub trait Deliver: Send + Sync {
    /// Makes one attempt. It may be dropped half-way, and the entry may have been delivered before:
    /// the receiver must take it twice without harm.
    fn deliver(&self, entry: &Entry) -> impl Future<Output = Outcome> + Send;
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It has arrived. The entry is removed.
    Delivered,
    /// It has not arrived, and may do so later.
    Retry(Retry),
    /// It will never arrive, for this reason. The entry is removed.
    Discard(String),
}

impl Outcome {
    /// It has not arrived, for this reason. The reason is logged and shown to operators.
    #[must_use]
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry(Retry { reason: reason.into(), at_least: Duration::ZERO, at_most: None })
    }
}

/// Why and when to try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Why the attempt failed, without anything secret.
    pub reason: String,
    /// The receiver has asked to wait so long, as `Retry-After` does.
    pub at_least: Duration,
    /// The longest wait for this kind of failure, where it is another than that of the worker.
    pub at_most: Option<Duration>,
}

/// How a worker goes about it.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How many entries are being delivered at a time.
    pub concurrency: u32,
    /// How long an attempt may take.
    pub delivery_timeout: Duration,
    /// How often the outbox is looked at when nothing wakes the worker: another replica may have
    /// added an entry, or one is due again.
    pub poll_interval: Duration,
    /// How long to wait after an attempt that failed.
    pub backoff: Backoff,
}

/// Delivers the entries of an outbox. Any number of replicas may run one.
#[derive(Debug)]
pub struct Worker<D> {
    outbox: Outbox,
    backlog: Backlog,
    settings: Settings,
    deliver: D,
    /// Id and attempts of what is being delivered.
    held: Mutex<Vec<(Uuid, i64)>>,
}

impl<D: Deliver> Worker<D> {
    /// A worker that counts its attempts in `backlog`.
    pub fn new(outbox: Outbox, backlog: Backlog, settings: Settings, deliver: D) -> Self {
        Self { outbox, backlog, settings, deliver, held: Mutex::default() }
    }

    /// Works for ever. It may be dropped at any time: what it has taken is due again when its lease
    /// ends, or at once after [`Worker::release`].
    pub async fn run(&self) {
        // Leases are by the database's clock.
        let _ = self.outbox.sql.ping().await;
        tokio::join!(self.work(), self.renew());
    }

    /// Renews the leases of what is being delivered, for ever.
    async fn renew(&self) {
        loop {
            tokio::time::sleep(RENEW_INTERVAL).await;
            let held = self.held().clone();
            for (id, attempts) in held {
                if self.outbox.renew(id, attempts, LEASE).await.is_err() {
                    // The others would fail as well. It has been logged.
                    break;
                }
            }
        }
    }

    /// Takes what is due and has it delivered, for ever.
    async fn work(&self) {
        let slots = usize::try_from(self.settings.concurrency.max(1)).unwrap_or(usize::MAX);
        let mut under_way = FuturesUnordered::new();
        let mut pace = Pace { slots, failed: 0, may_be_more: true };
        loop {
            let free = slots - under_way.len();
            if pace.may_be_more && free > 0 {
                pace.may_be_more = false;
                let mut take = pin!(self.take(free));
                // The attempts go on meanwhile: one that has begun to write and stands still would
                // keep this from writing.
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

    /// Gives back what the worker held when [`Worker::run`] was dropped, so that nobody has to wait
    /// for the end of a lease.
    pub async fn release(&self) {
        let held = std::mem::take(&mut *self.held());
        for (id, attempts) in held {
            if self.outbox.release(id, attempts).await.is_err() {
                // Without the database the leases end by themselves.
                return;
            }
        }
    }

    async fn take(&self, free: usize) -> Vec<Entry> {
        let limit = u32::try_from(free).unwrap_or(u32::MAX);
        // A failure has been logged; the next look may do better.
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
                // If this fails it is delivered once more.
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
                // If this fails it is due when the lease ends.
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

/// When to look for more.
struct Pace {
    slots: usize,
    /// How many attempts in a row have failed. Where all do, the receiver is probably away: the
    /// entries are then tried one round at each interval, not as fast as they fail.
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
    /// Whether the next entry of its key is due now.
    frees_another: bool,
}

//! The state of an outbox for metrics: the number of entries and the age of the oldest.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use service_kit::metrics::{Counts, Metrics, Unit};

use crate::{Outbox, worker::OUTCOMES};

/// The interval at which the outbox is queried.
const INTERVAL: Duration = Duration::from_secs(5);
/// The batch size for the removal of expired entries.
const EXPIRED_AT_ONCE: u32 = 100;

/// How many entries there are, and when the oldest was added.
type Seen = (i64, Option<DateTime<Utc>>);

/// Queries an outbox regularly, with or without a worker: updates its metrics and removes expired
/// entries.
#[derive(Debug, Clone)]
pub struct Backlog {
    outbox: Outbox,
    /// The result of the last query; `None` if it failed.
    seen: Arc<Mutex<Option<Seen>>>,
    pub(crate) attempts: Counts,
}

impl Backlog {
    /// Publishes the depth, age and attempts of `outbox` in `metrics`.
    #[must_use]
    pub fn new(outbox: Outbox, metrics: &Metrics) -> Self {
        let seen: Arc<Mutex<Option<Seen>>> = Arc::default();
        let names = &outbox.table.names;
        let last = Arc::clone(&seen);
        metrics.gauge(names.depth, names.depth_help, Unit::Count, move || {
            read(&last).map(|(depth, _)| depth as f64)
        });
        let (last, clock) = (Arc::clone(&seen), outbox.sql.clock().clone());
        metrics.gauge(names.age, names.age_help, Unit::Seconds, move || {
            let (_, oldest) = read(&last)?;
            let age = oldest.map_or(0, |time| (clock.now() - time).num_milliseconds().max(0));
            Some(age as f64 / 1e3)
        });
        let attempts = metrics.counts(names.attempts, names.attempts_help, "outcome", &OUTCOMES);
        Self { outbox, seen, attempts }
    }

    /// Queries forever. The future may be dropped at any time.
    pub async fn watch(&self) {
        loop {
            self.look().await;
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Queries once. A failure is logged; depth and age are then unknown.
    pub async fn look(&self) {
        // Keep the clock of the leases current, even if nothing else pings the database.
        let _ = self.outbox.sql.ping().await;
        self.remove_expired().await;
        let seen = self.outbox.backlog().await.ok();
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
    }

    async fn remove_expired(&self) {
        // A failure has been logged, and the next round will try again.
        while let Ok(expired) = self.outbox.expire(EXPIRED_AT_ONCE).await {
            for entry in &expired {
                self.attempts.count("expired");
                tracing::warn!(
                    event = self.outbox.table.names.expired,
                    entry = %entry.id,
                    request_id = entry.origin.request_id,
                    trace_id = entry.origin.trace_id(),
                    attempts = entry.attempts,
                    "an entry of the outbox has expired"
                );
            }
            if expired.is_empty() {
                return;
            }
        }
    }
}

fn read(seen: &Mutex<Option<Seen>>) -> Option<Seen> {
    *seen.lock().unwrap_or_else(PoisonError::into_inner)
}

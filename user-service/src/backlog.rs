//! The state of the outbox for metrics: how much waits, and since when.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use service_kit::metrics::{Metrics, Unit};

use crate::store::Store;

/// How often the outbox is looked at.
const INTERVAL: Duration = Duration::from_secs(5);

/// The last look at the outbox.
#[derive(Debug)]
pub struct Backlog {
    depth: AtomicI64,
    /// In microseconds since 1970; 0 for an empty outbox.
    oldest: AtomicI64,
}

impl Backlog {
    /// Shows depth and age in `metrics`. Nothing is shown before the first look.
    #[must_use]
    pub fn observed_by(metrics: &Metrics) -> Arc<Self> {
        let backlog = Arc::new(Self { depth: AtomicI64::new(-1), oldest: AtomicI64::new(0) });
        let depth = Arc::clone(&backlog);
        metrics.gauge(
            "user.outbox.depth",
            "Deletions that the auth service has not been told of",
            Unit::Count,
            move || {
                Some(depth.depth.load(Relaxed))
                    .filter(|depth| *depth >= 0)
                    .map(|depth| depth as f64)
            },
        );
        let age = Arc::clone(&backlog);
        metrics.gauge(
            "user.outbox.age",
            "The age of the oldest deletion in the outbox",
            Unit::Seconds,
            move || {
                let oldest = age.oldest.load(Relaxed);
                let now = sql_kit::now().timestamp_micros();
                let known = age.depth.load(Relaxed) >= 0;
                known.then(|| if oldest == 0 { 0.0 } else { (now - oldest).max(0) as f64 / 1e6 })
            },
        );
        backlog
    }

    /// Looks again and again, for ever.
    pub async fn watch(&self, store: &dyn Store) {
        loop {
            // A failure has been logged; the last look stays.
            if let Ok((depth, oldest)) = store.backlog().await {
                self.depth.store(depth, Relaxed);
                self.oldest.store(oldest.map_or(0, |time| time.timestamp_micros()), Relaxed);
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

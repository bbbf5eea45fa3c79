//! What an operation on a database costs, and its limit.

use std::time::Instant;

use opentelemetry::trace::SpanKind;
use service_kit::{metrics::Durations, trace};

use crate::{OPERATION_TIMEOUT, StoreError};

/// Watches the operations on one database.
#[derive(Debug, Clone)]
pub(crate) struct Observer {
    durations: Durations,
    /// As OpenTelemetry names the engine.
    system: &'static str,
}

impl Observer {
    pub(crate) const fn new(durations: Durations, system: &'static str) -> Self {
        Self { durations, system }
    }

    /// Does one operation, and gives it up after [`OPERATION_TIMEOUT`]: the result is then `None`.
    pub(crate) async fn bounded<T>(
        &self,
        operation: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Option<Result<T, StoreError>> {
        let span = trace::child("database", SpanKind::Client);
        span.set("db.system.name", self.system);
        let started = Instant::now();
        let result = tokio::time::timeout(OPERATION_TIMEOUT, operation).await;
        self.durations.observe(self.system, started.elapsed());
        let result = result.ok().map(|result| result.map_err(StoreError::from));
        if result.is_none() {
            let seconds = OPERATION_TIMEOUT.as_secs();
            tracing::warn!(seconds, "the database does not answer");
        }
        if !matches!(result, Some(Ok(_))) {
            span.fail();
        }
        result
    }
}

//! The timeout of a database operation, and the metrics and traces of it.

use std::time::Instant;

use opentelemetry::trace::SpanKind;
use service_kit::{metrics::Durations, trace};

use crate::{OPERATION_TIMEOUT, StoreError};

/// Observes the operations on one database.
#[derive(Debug, Clone)]
pub(crate) struct Observer {
    durations: Durations,
    /// OpenTelemetry's name of the engine.
    system: &'static str,
}

impl Observer {
    pub(crate) const fn new(durations: Durations, system: &'static str) -> Self {
        Self { durations, system }
    }

    /// Runs one operation. Returns `None` if it takes longer than [`OPERATION_TIMEOUT`].
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

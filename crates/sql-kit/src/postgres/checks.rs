//! A separate connection for health checks, because waiting for a connection of the pool says nothing
//! about whether the database is available.

use std::sync::Arc;

use sqlx::{Executor as _, PgConnection, Row as _};
use tokio::sync::Mutex;

use super::{BEGIN_POOLED, USE_LOCK, connect::Session, pool::Pool};
use crate::clock::Reading;

/// The connection, which is outside the pool.
#[derive(Debug, Clone, Default)]
pub(super) struct Checks(Arc<Mutex<Option<Session>>>);

/// The answer of a server about itself.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) reading: Reading,
    pub(super) is_read_only: bool,
}

impl Checks {
    /// Runs a query on the connection. If a kept connection turns out to be dead, it is replaced and the
    /// query repeated, and the pool stops trusting connections of the same age.
    pub(super) async fn run<T>(
        &self,
        pool: &Pool,
        work: impl AsyncFn(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        let mut kept = self.0.lock().await;
        // Taken out, so that it is not reused if this future is dropped halfway.
        if let Some(mut session) = kept.take().filter(|session| pool.trusts(session)) {
            match in_its_place(pool, &mut session, &work).await {
                Ok(result) => {
                    *kept = Some(session);
                    return Ok(result);
                }
                Err(error) if crate::error::is_lost(&error) => {
                    session.close();
                    pool.distrust();
                }
                Err(error) => return Err(error),
            }
        }
        let mut session = connect(pool).await?;
        let result = in_its_place(pool, &mut session, &work).await?;
        *kept = Some(session);
        Ok(result)
    }

    /// Queries the server's time and whether it accepts writes. A read-only session is closed, because
    /// another server may have taken over the host name.
    pub(super) async fn ping(&self, pool: &Pool) -> Result<Answer, sqlx::Error> {
        let answer = self
            .run(pool, async |connection| {
                let asked = Reading::begin();
                let row = sqlx::query(
                    "SELECT clock_timestamp() AS now,
                        current_setting('transaction_read_only') = 'on' AS is_read_only",
                )
                .persistent(false)
                .fetch_one(connection)
                .await?;
                let reading = asked.end(row.try_get("now")?);
                Ok(Answer { reading, is_read_only: row.try_get("is_read_only")? })
            })
            .await?;
        if answer.is_read_only {
            self.close().await;
        }
        Ok(answer)
    }

    /// Ends the connection.
    pub(super) async fn close(&self) {
        if let Some(session) = self.0.lock().await.take() {
            session.close();
        }
    }
}

/// Opens the connection. It holds the move lock in shared mode for as long as it lives. Behind a proxy
/// with transaction pooling, locks cannot be held.
async fn connect(pool: &Pool) -> Result<Session, sqlx::Error> {
    let mut session = pool.connector().connect().await?;
    if pool.connector().is_pooled {
        return Ok(session);
    }
    let asked = sqlx::query_scalar("SELECT pg_try_advisory_lock_shared($1)")
        .persistent(false)
        .bind(USE_LOCK)
        .fetch_one(&mut session.connection)
        .await;
    match asked {
        Ok(true) => return Ok(session),
        Ok(false) => {}
        // Databases that only imitate Postgres may not support advisory locks.
        Err(sqlx::Error::Database(error)) => {
            let code = error.code();
            tracing::debug!(
                code = code.as_deref(),
                "the server gives no share of an advisory lock"
            );
            return Ok(session);
        }
        Err(error) => return Err(error),
    }
    session.close();
    Err(pool.connector().moving().into())
}

/// Runs a read-only query on the connection. Behind a proxy with transaction pooling this needs a
/// transaction, because only within one do consecutive messages reach the same server.
async fn in_its_place<T>(
    pool: &Pool,
    session: &mut Session,
    work: &impl AsyncFn(&mut PgConnection) -> Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    let connection = &mut session.connection;
    if !pool.connector().is_pooled {
        return work(connection).await;
    }
    connection.execute(BEGIN_POOLED).await?;
    // After an error the connection is closed, which also ends the transaction.
    let result = work(connection).await?;
    connection.execute("COMMIT").await?;
    Ok(result)
}

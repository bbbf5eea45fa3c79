//! A connection of its own for the checks of health: whether requests wait for a connection says nothing
//! about whether the database is there.

use std::sync::Arc;

use sqlx::{Executor as _, PgConnection, Row as _};
use tokio::sync::Mutex;

use super::{BEGIN_POOLED, USE_LOCK, connect::Session, pool::Pool};
use crate::clock::Reading;

/// The connection, outside the pool.
#[derive(Debug, Clone, Default)]
pub(super) struct Checks(Arc<Mutex<Option<Session>>>);

/// What a server has said of itself.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) reading: Reading,
    pub(super) is_read_only: bool,
}

impl Checks {
    /// Does something on the connection. One that was left from before and turns out to be dead costs
    /// another try, and says something about those in the pool.
    pub(super) async fn run<T>(
        &self,
        pool: &Pool,
        work: impl AsyncFn(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        let mut kept = self.0.lock().await;
        // Taken out, so that one that is given up half-way is not used again.
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

    /// Asks the server for its time, and whether it takes writes. A session that takes none is given up:
    /// another server may be behind the name by now.
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

/// Makes the connection. For as long as it lives it holds a share of the lock that a move of the database
/// takes alone. Behind a proxy that pools by transaction nothing can be held.
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
        // A server that is only like Postgres may have no such locks.
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

/// Does something that only reads on the connection; behind a proxy that pools by transaction in one
/// transaction, since only there two messages in a row reach the same server.
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
    // After an error the connection is not used again, which ends the transaction.
    let result = work(connection).await?;
    connection.execute("COMMIT").await?;
    Ok(result)
}

//! A connection of its own for the checks of health: whether requests wait for a connection says nothing
//! about whether the database is there.

use std::sync::Arc;

use sqlx::{PgConnection, Row as _};
use tokio::sync::Mutex;

use super::{connect::Session, pool::Pool};
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
            match work(&mut session.connection).await {
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
        let mut session = pool.connector().connect().await?;
        let result = work(&mut session.connection).await?;
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

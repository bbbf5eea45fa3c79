//! Connections that are leased for one operation.

use std::{
    ops::{Deref, DerefMut},
    time::Instant,
};

use sqlx::{Executor as _, postgres::PgConnection};

use super::pool::{Pool, PooledConnection};
use crate::OPERATION_TIMEOUT;

/// A leased connection. If it is dropped after its deadline, a statement hangs: the connection is closed
/// instead of returned to the pool, where the next operation would fail as well.
#[derive(Debug)]
pub(crate) struct Lease {
    held: Option<PooledConnection>,
    pool: Pool,
    deadline: Instant,
    /// Whether a transaction was started.
    pub(super) is_open: bool,
    /// Whether all statements were completed.
    is_done: bool,
    is_pooled: bool,
}

impl Lease {
    pub(super) const fn new(
        held: PooledConnection,
        pool: Pool,
        deadline: Instant,
        is_pooled: bool,
    ) -> Self {
        Self { held: Some(held), pool, deadline, is_open: false, is_done: false, is_pooled }
    }

    /// Whether there is a proxy with transaction pooling, where prepared statements would leak to other
    /// clients.
    pub(crate) const fn is_pooled(&self) -> bool {
        self.is_pooled
    }

    pub(super) async fn begin(&mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        // Set before the statement, because the transaction may have started even if this future is
        // dropped.
        self.is_open = true;
        self.execute(statement).await?;
        Ok(())
    }

    /// Ends a read-only operation whose results were all read. The connection can be reused at once;
    /// after a plain drop it has to be checked first. The transaction, which only exists behind a proxy
    /// with transaction pooling, is rolled back in the background.
    pub(crate) fn done(mut self) {
        self.is_done = true;
    }

    /// Commits and ends the operation. Without a transaction, the statement has already committed.
    ///
    /// # Errors
    ///
    /// If the server refuses or the connection is lost. In the latter case the commit may or may not
    /// have taken place.
    pub(crate) async fn commit(mut self) -> Result<(), sqlx::Error> {
        if self.is_open {
            self.execute("COMMIT").await?;
            self.is_open = false;
        }
        self.is_done = true;
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else {
            return;
        };
        if Instant::now() >= self.deadline {
            held.discard();
        } else if self.is_done && !self.is_open {
            self.pool.give_back(held);
        } else if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(recover(self.pool.clone(), held, self.is_open));
        }
    }
}

/// Makes a connection that was left in the middle of an operation usable again, or closes it.
async fn recover(pool: Pool, mut held: PooledConnection, is_open: bool) {
    let recovered = async {
        let connection = &mut held.session.connection;
        if is_open {
            connection.execute("ROLLBACK").await?;
            return Ok(());
        }
        sqlx::Connection::ping(connection).await
    };
    match tokio::time::timeout(OPERATION_TIMEOUT, recovered).await {
        Ok(Ok(())) => pool.give_back(held),
        Ok(Err(_)) | Err(_) => held.discard(),
    }
}

impl Deref for Lease {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        #[expect(clippy::expect_used, reason = "only drop takes it")]
        &self.held.as_ref().expect("a lease holds a connection").session.connection
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut PgConnection {
        #[expect(clippy::expect_used, reason = "only drop takes it")]
        &mut self.held.as_mut().expect("a lease holds a connection").session.connection
    }
}

//! Connections that are leased for one operation.

use std::{
    ops::{Deref, DerefMut},
    time::Instant,
};

use sqlx::{Executor as _, postgres::PgConnection};

use super::pool::{Held, Pool};
use crate::OPERATION_TIMEOUT;

/// A leased connection. One that is dropped after its deadline hangs in the middle of something:
/// it is cut off instead of going back to the pool, where it would fail the next operation too.
#[derive(Debug)]
pub(crate) struct Lease {
    held: Option<Held>,
    pool: Pool,
    deadline: Instant,
    /// Whether a transaction has begun.
    pub(super) is_open: bool,
    /// Whether every statement was carried out to its end.
    is_done: bool,
    is_pooled: bool,
}

impl Lease {
    pub(super) const fn new(held: Held, pool: Pool, deadline: Instant, is_pooled: bool) -> Self {
        Self { held: Some(held), pool, deadline, is_open: false, is_done: false, is_pooled }
    }

    /// Whether a proxy that pools by transaction is in between: what is prepared there ends up with
    /// somebody else.
    pub(crate) const fn is_pooled(&self) -> bool {
        self.is_pooled
    }

    pub(super) async fn begin(&mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        // Given up half-way, it may have begun.
        self.is_open = true;
        self.execute(statement).await?;
        Ok(())
    }

    /// Ends an operation that has only read, and has read all that it asked for. The connection is
    /// then good for the next one at once; of a lease that is merely dropped that is not known. Within a
    /// transaction, which a proxy that pools by transaction needs, it is rolled back in the background.
    pub(crate) fn done(mut self) {
        self.is_done = true;
    }

    /// Makes what was written durable, and ends the operation. Without a transaction it is already.
    ///
    /// # Errors
    ///
    /// Where the server refuses, or is gone; what was written may then be there or not.
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

/// Makes a connection usable again that was left in the middle of something, or ends it.
async fn recover(pool: Pool, mut held: Held, is_open: bool) {
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

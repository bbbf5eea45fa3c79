//! Postgres: a pool that no hanging server can poison.

use std::{
    ops::{Deref, DerefMut},
    time::{Duration, Instant},
};

use sqlx::{
    PgPool, Postgres as Engine,
    migrate::Migrator,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgConnection, PgPoolOptions},
};

use crate::{
    Connections, OPERATION_TIMEOUT, PoolOptions, StoreError, bounded, migrate::MIGRATIONS_TABLE,
};

/// A connection that has been idle for longer is tried before it is used. Under load none is, so
/// the round trip is only paid where it does not matter.
const TRUST_IDLE: Duration = Duration::from_secs(2);
const MAX_LIFETIME: Duration = Duration::from_secs(30 * 60);
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// A Postgres database.
#[derive(Debug, Clone)]
pub struct Postgres {
    pool: PgPool,
}

impl Postgres {
    /// Makes the pool. Nothing is connected before the first operation.
    #[must_use]
    pub fn open(connect: PgConnectOptions, options: PoolOptions) -> Self {
        let connect = connect
            .application_name(options.application)
            // The server gives up what we have given up, so that no query of ours outlives it.
            .options([("statement_timeout", format!("{}ms", OPERATION_TIMEOUT.as_millis()))]);
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections)
            .acquire_timeout(options.acquire_timeout)
            .max_lifetime(MAX_LIFETIME)
            .test_before_acquire(false)
            .before_acquire(|connection, about| {
                Box::pin(async move {
                    if about.idle_for < TRUST_IDLE {
                        return Ok(true);
                    }
                    let ping = sqlx::Connection::ping(connection);
                    Ok(matches!(
                        tokio::time::timeout(Duration::from_secs(1), ping).await,
                        Ok(Ok(()))
                    ))
                })
            })
            .connect_lazy_with(connect);
        Self { pool }
    }

    /// Borrows a connection for one operation inside [`bounded`].
    ///
    /// # Errors
    ///
    /// Where none is free, or none can be made, in time.
    pub async fn lease(&self) -> Result<Lease, sqlx::Error> {
        let deadline = Instant::now() + OPERATION_TIMEOUT;
        Ok(Lease { connection: Some(self.pool.acquire().await?), deadline })
    }

    /// Runs the migrations that are missing, under a lock.
    ///
    /// # Errors
    ///
    /// [`StoreError::Newer`] for a database that knows more migrations than we do.
    pub async fn migrate(&self, migrator: &Migrator) -> Result<(), StoreError> {
        let work = async {
            let mut connection = self.pool.acquire().await?;
            // Building an index on a large table may take longer than any request should.
            sqlx::query("SET statement_timeout = 0").execute(&mut *connection).await?;
            let migrated = migrator.run_direct(None, &mut *connection, false).await;
            // With our settings, and in case of an error with its lock, the connection ends here.
            drop(connection.detach());
            migrated.map_err(StoreError::from)
        };
        tokio::time::timeout(MIGRATION_TIMEOUT, work).await.unwrap_or(Err(StoreError::Unavailable))
    }

    /// Checks that exactly the migrations of `migrator` have been run.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotMigrated`] or [`StoreError::Newer`].
    pub async fn check_migrated(&self, migrator: &Migrator) -> Result<(), StoreError> {
        // Not through sqlx's migrator, which would make the table where it is missing: the role may
        // lack the right to.
        let applied = bounded(async {
            let mut lease = self.lease().await?;
            let exists: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
                .bind(MIGRATIONS_TABLE)
                .fetch_one(&mut *lease)
                .await?;
            if !exists {
                return Ok(Vec::new());
            }
            sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success")
                .fetch_all(&mut *lease)
                .await
        })
        .await?;
        crate::migrate::compare(migrator, &applied)
    }

    /// Asks the server for a sign of life.
    ///
    /// # Errors
    ///
    /// Where there is none.
    pub async fn ping(&self) -> Result<(), StoreError> {
        bounded(async {
            let mut lease = self.lease().await?;
            sqlx::query("SELECT 1").execute(&mut *lease).await?;
            Ok(())
        })
        .await
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> Connections {
        Connections::of(&self.pool)
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// A borrowed connection. One that is dropped after its deadline hangs in the middle of something:
/// it is cut off instead of going back to the pool, where it would fail the next operation too.
#[derive(Debug)]
pub struct Lease {
    connection: Option<PoolConnection<Engine>>,
    deadline: Instant,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if Instant::now() >= self.deadline
            && let Some(connection) = self.connection.take()
        {
            drop(connection.detach());
        }
    }
}

impl Deref for Lease {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        #[expect(clippy::expect_used, reason = "only drop takes it")]
        self.connection.as_ref().expect("a lease holds a connection")
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut PgConnection {
        #[expect(clippy::expect_used, reason = "only drop takes it")]
        self.connection.as_mut().expect("a lease holds a connection")
    }
}

//! Postgres: a connection pool that recovers from hanging servers, follows the primary of several servers,
//! and works behind a proxy with transaction pooling.

mod checks;
mod connect;
mod connect_error;
mod lease;
mod pool;
mod primary;

use std::time::Instant;

use sqlx::PgConnection;

pub(crate) use self::connect_error::ConnectError;
pub(crate) use self::lease::Lease;
use self::{
    checks::Checks,
    connect::Connector,
    pool::{Pool, Purpose},
    primary::Primary,
};
use crate::{
    Connections, OPERATION_TIMEOUT, PoolOptions, StoreError,
    clock::Reading,
    error,
    migrate::{self, Applied, MIGRATIONS_TABLE, Migrated, Migrator},
    observe::Observer,
    url::Servers,
};

/// Starts a transaction.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// Starts a transaction behind a proxy with transaction pooling. There, settings of the session would leak
/// to other clients, so they are set for each transaction. The settings of sessions without such a proxy
/// explain the values.
const BEGIN_POOLED: &str = "BEGIN ISOLATION LEVEL READ COMMITTED;
    SET LOCAL statement_timeout = 5000;
    SET LOCAL lock_timeout = 0;
    SET LOCAL idle_in_transaction_session_timeout = 10000;
    SET LOCAL standard_conforming_strings = on;
    SET LOCAL transform_null_equals = off;
    SET LOCAL row_security = on;
    SELECT set_config('synchronous_commit', 'on', true)
        WHERE current_setting('synchronous_commit') = 'off'";

/// The advisory lock for moving a database. Each service holds it in shared mode on its connection for
/// health checks, and a move takes it exclusively: "latchuse" in ASCII.
pub(crate) const USE_LOCK: i64 = 0x6C61_7463_6875_7365;

/// Connects to the server that accepts writes, without a pool.
pub(crate) async fn connect_to_primary(
    servers: &Servers,
    application: &str,
) -> Result<PgConnection, ConnectError> {
    let connector = Connector::new(servers.clone(), application, false);
    let mut last = ConnectError::no_server();
    for place in 0..connector.servers().len() {
        connector.move_to(place);
        let connecting = Box::pin(connector.connect_quietly());
        match tokio::time::timeout(OPERATION_TIMEOUT, connecting).await {
            Ok(Ok(session)) if session.is_read_only => {
                last = connector.read_only();
                session.close();
            }
            Ok(Ok(session)) => return Ok(session.connection),
            Ok(Err(error)) => last = error,
            Err(_) => last = connector.no_answer(),
        }
    }
    Err(last)
}

/// A Postgres database.
#[derive(Debug, Clone)]
pub(crate) struct Postgres {
    pool: Pool,
    checks: Checks,
    primary: Primary,
    observer: Observer,
    /// Whether there is a proxy with transaction pooling.
    pooled: bool,
}

impl Postgres {
    /// Creates the pool. The first operation opens a connection.
    #[must_use]
    pub(crate) fn open(servers: Servers, options: PoolOptions) -> Self {
        let pooled = options.transaction_pooling;
        let connector = Connector::new(servers, options.application, pooled);
        let is_alone = connector.servers().len() < 2;
        let primary = Primary::default();
        let (size, timeout) = (options.max_connections, options.acquire_timeout);
        let pool = Pool::new(connector, primary.clone(), size, timeout);
        if !is_alone {
            tokio::spawn(primary.clone().follow(pool.clone()));
        }
        let observer = Observer::new(options.durations, "postgresql");
        Self { pool, checks: Checks::default(), primary, observer, pooled }
    }

    /// Runs one operation, with metrics and the timeout [`OPERATION_TIMEOUT`].
    ///
    /// # Errors
    ///
    /// The errors of the operation, and [`StoreError::Unavailable`] after the timeout.
    pub(crate) async fn bounded<T>(
        &self,
        operation: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        let judged = async { operation.await.inspect_err(|error| self.judge(error)) };
        let result = self.observer.bounded(judged).await;
        if result.is_none() {
            self.pool.doubt();
        }
        self.doubting(result.unwrap_or(Err(StoreError::Unavailable)))
    }

    /// Updates what the pool knows about its other connections after an error.
    pub(crate) fn judge(&self, error: &sqlx::Error) {
        if error::is_lost(error) || error::is_read_only(error) {
            self.pool.distrust();
        }
    }

    /// Starts a search for the primary if the server is unavailable, because another one may have been
    /// promoted.
    fn doubting<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if matches!(result, Err(StoreError::Unavailable | StoreError::ReadOnly)) {
            self.primary.doubt();
        }
        result
    }

    /// Leases a connection for a read-only operation inside [`Postgres::bounded`]. The server may be
    /// read-only. End it with [`Lease::done`].
    ///
    /// # Errors
    ///
    /// If no connection is free or can be opened in time.
    pub(crate) async fn lease(&self) -> Result<Lease, sqlx::Error> {
        self.lease_for(Purpose::Read).await
    }

    /// Leases a connection for an operation that is a single writing statement. End it with
    /// [`Lease::commit`].
    ///
    /// # Errors
    ///
    /// The errors of [`Postgres::lease`], or if the server is read-only.
    pub(crate) async fn lease_to_write(&self) -> Result<Lease, sqlx::Error> {
        self.lease_for(Purpose::Write).await
    }

    async fn lease_for(&self, purpose: Purpose) -> Result<Lease, sqlx::Error> {
        let deadline = Instant::now() + OPERATION_TIMEOUT;
        let held = self.pool.acquire(purpose).await?;
        let mut lease = Lease::new(held, self.pool.clone(), deadline, self.pooled);
        if self.pooled {
            lease.begin(BEGIN_POOLED).await?;
        }
        Ok(lease)
    }

    /// Starts a transaction for one operation inside [`Postgres::bounded`]. It is rolled back unless it is
    /// ended with [`Lease::commit`].
    ///
    /// # Errors
    ///
    /// The errors of [`Postgres::lease_to_write`].
    pub(crate) async fn transaction(&self) -> Result<Lease, sqlx::Error> {
        let mut lease = self.lease_to_write().await?;
        if !lease.is_open {
            lease.begin(BEGIN).await?;
        }
        Ok(lease)
    }

    /// Tries once to connect.
    pub(crate) async fn reach(&self) -> Result<(), ConnectError> {
        let connected = Box::pin(self.pool.connector().connect_quietly());
        match tokio::time::timeout(OPERATION_TIMEOUT, connected).await {
            Ok(connected) => connected.map(connect::Session::close),
            Err(_) => Err(self.pool.connector().no_answer()),
        }
    }

    /// Runs the missing migrations under a lock, on a connection outside the pool. There is no timeout.
    ///
    /// # Errors
    ///
    /// [`StoreError::Newer`] if the database has migrations that this version does not know.
    pub(crate) async fn run_migrations(
        &self,
        migrator: &Migrator,
    ) -> Result<Vec<Migrated>, StoreError> {
        migrate::check_service(migrator, &self.applied().await?)?;
        let connected = self.pool.connector().connect().await.map_err(sqlx::Error::from);
        let mut session = self.doubting(connected.map_err(StoreError::from))?;
        let migrated = migrate::postgres::run(&mut session.connection, migrator).await;
        session.close();
        self.doubting(migrated)
    }

    /// The applied migrations.
    ///
    /// # Errors
    ///
    /// If the query fails.
    pub(crate) async fn applied(&self) -> Result<Vec<Applied>, StoreError> {
        // Does not use sqlx's migrator, which would create its table if that is missing: the role may lack
        // the privilege.
        self.bounded(self.checks.run(&self.pool, async |connection| {
            let exists: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
                .persistent(false)
                .bind(MIGRATIONS_TABLE)
                .fetch_one(&mut *connection)
                .await?;
            if !exists {
                return Ok(Vec::new());
            }
            let rows: Vec<(i64, String)> = sqlx::query_as(migrate::SELECT_APPLIED)
                .persistent(false)
                .fetch_all(connection)
                .await?;
            Ok(migrate::applied(rows))
        }))
        .await
    }

    /// Queries the server's time and whether it is read-only, on a connection outside the pool.
    ///
    /// # Errors
    ///
    /// If it does not answer.
    pub(crate) async fn look(&self) -> Result<(Reading, bool), StoreError> {
        let answer = self.bounded(self.checks.ping(&self.pool)).await?;
        if answer.is_read_only {
            self.primary.doubt();
        }
        Ok((answer.reading, answer.is_read_only))
    }

    /// The number of connections.
    #[must_use]
    pub(crate) fn connections(&self) -> Connections {
        let (idle, used) = self.pool.count();
        let count = |number| u32::try_from(number).unwrap_or(u32::MAX);
        Connections { idle: count(idle), used: count(used) }
    }

    /// Closes all connections.
    pub(crate) async fn close(&self) {
        self.checks.close().await;
        self.pool.close().await;
    }
}

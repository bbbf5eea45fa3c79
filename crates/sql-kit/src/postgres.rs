//! Postgres: a pool that no hanging server can poison, that follows the primary of several servers,
//! and that works behind a proxy which pools by transaction.

mod lease;

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::{
    PgPool, Postgres as Engine,
    migrate::Migrator,
    postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow},
    query::{Query, QueryScalar},
};

pub use self::lease::Lease;
use self::lease::{Borrowed, Shelf};

use crate::{
    Connections, OPERATION_TIMEOUT, PoolOptions, StoreError,
    hosts::{self, Primary},
    migrate::MIGRATIONS_TABLE,
    observe::Observer,
};

/// A connection that has been idle for longer is tried before it is used. Under load none is, so
/// the round trip is only paid where it does not matter.
const TRUST_IDLE: Duration = Duration::from_secs(2);
const MAX_LIFETIME: Duration = Duration::from_secs(30 * 60);
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// How a transaction begins behind a proxy that pools by transaction: what is set for a session
/// there ends up with somebody else. [`OPERATION_TIMEOUT`] in SQL.
const BEGIN_POOLED: &str = "BEGIN; SET LOCAL statement_timeout = 5000";

/// A Postgres database.
#[derive(Debug, Clone)]
pub struct Postgres {
    pool: PgPool,
    shelf: Shelf,
    primary: Primary,
    observer: Observer,
    /// Whether a proxy gives us a server for a transaction only.
    pooled: bool,
}

impl Postgres {
    /// Makes the pool. Nothing is connected before the first operation.
    #[must_use]
    pub fn open(hosts: Vec<PgConnectOptions>, options: PoolOptions) -> Self {
        let pooled = options.transaction_pooling;
        let hosts = hosts
            .into_iter()
            .map(|host| {
                let host = host.application_name(options.application);
                if pooled {
                    return host.statement_cache_capacity(0);
                }
                // The server gives up what we have given up, so that no query of ours outlives it.
                host.options([(
                    "statement_timeout",
                    format!("{}ms", OPERATION_TIMEOUT.as_millis()),
                )])
            })
            .collect();
        let primary = Primary::new(hosts);
        let (known, is_alone) = (primary.clone(), primary.is_alone());
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections)
            .acquire_timeout(options.acquire_timeout)
            .max_lifetime(MAX_LIFETIME)
            .test_before_acquire(false)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    if is_alone || hosts::is_writable(connection).await? {
                        return Ok(());
                    }
                    Err(sqlx::Error::Io(std::io::Error::other("the server takes no writes")))
                })
            })
            .before_acquire(move |connection, about| {
                let is_present = known.is_present(about.age);
                Box::pin(async move {
                    if !is_present || about.idle_for < TRUST_IDLE {
                        return Ok(is_present);
                    }
                    let ping = sqlx::Connection::ping(connection);
                    Ok(matches!(
                        tokio::time::timeout(Duration::from_secs(1), ping).await,
                        Ok(Ok(()))
                    ))
                })
            })
            .connect_lazy_with(primary.first());
        if !is_alone {
            tokio::spawn(primary.clone().follow(pool.clone()));
        }
        let observer = Observer::new(options.durations, "postgresql");
        Self { pool, shelf: Shelf::default(), primary, observer, pooled }
    }

    /// Does one operation: observed, and given up after [`OPERATION_TIMEOUT`].
    ///
    /// # Errors
    ///
    /// Those of the operation, and [`StoreError::Unavailable`] when it takes too long.
    pub async fn bounded<T>(
        &self,
        operation: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        self.doubting(self.observer.bounded(operation).await)
    }

    /// Has the primary looked for where a server is away: it may be another one by now.
    fn doubting<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if matches!(result, Err(StoreError::Unavailable)) {
            self.primary.doubt();
        }
        result
    }

    /// Borrows a connection for one operation inside [`Postgres::bounded`]. An operation that writes
    /// ends with [`Lease::commit`], another one with [`Lease::done`].
    ///
    /// # Errors
    ///
    /// Where none is free, or none can be made, in time.
    pub async fn lease(&self) -> Result<Lease, sqlx::Error> {
        let deadline = Instant::now() + OPERATION_TIMEOUT;
        let borrowed = self.borrow().await?;
        let mut lease = Lease::new(borrowed, self.shelf.clone(), deadline, self.pooled);
        if self.pooled {
            lease.begin(BEGIN_POOLED).await?;
        }
        Ok(lease)
    }

    async fn borrow(&self) -> Result<Borrowed, sqlx::Error> {
        loop {
            match self.shelf.take() {
                Ok(borrowed) if !borrowed.is_due() && self.primary.is_present(borrowed.away()) => {
                    return Ok(borrowed);
                }
                Ok(stale) => drop(tokio::spawn(stale.give_back(false))),
                Err(_waiting) => return self.pool.acquire().await.map(Borrowed::new),
            }
        }
    }

    /// Begins a transaction, for one operation inside [`Postgres::bounded`]. It is rolled back unless
    /// it ends with [`Lease::commit`].
    ///
    /// # Errors
    ///
    /// Those of [`Postgres::lease`].
    pub async fn transaction(&self) -> Result<Lease, sqlx::Error> {
        let mut lease = self.lease().await?;
        if !lease.is_open {
            lease.begin("BEGIN").await?;
        }
        Ok(lease)
    }

    /// A query. Behind a proxy that pools by transaction it leaves no prepared statement behind.
    pub fn query(&self, sql: &'static str) -> Query<'static, Engine, PgArguments> {
        sqlx::query(sql).persistent(!self.pooled)
    }

    /// A query for one value; see [`Postgres::query`].
    pub fn query_scalar<T>(&self, sql: &'static str) -> QueryScalar<'static, Engine, T, PgArguments>
    where
        (T,): for<'r> sqlx::FromRow<'r, PgRow>,
    {
        sqlx::query_scalar(sql).persistent(!self.pooled)
    }

    /// Runs the migrations that are missing, under a lock.
    ///
    /// # Errors
    ///
    /// [`StoreError::Newer`] for a database that knows more migrations than we do.
    pub async fn migrate(&self, migrator: &Migrator) -> Result<(), StoreError> {
        let work = async {
            // Never back into the pool: with its settings and, given up half-way, its lock.
            let mut connection = self.pool.acquire().await?.detach();
            // Building an index on a large table may take longer than any request should.
            sqlx::query("SET statement_timeout = 0").execute(&mut connection).await?;
            let migrated = migrator.run_direct(None, &mut connection, false).await;
            let _ = sqlx::Connection::close(connection).await;
            migrated.map_err(StoreError::from)
        };
        let migrated = tokio::time::timeout(MIGRATION_TIMEOUT, work).await;
        self.doubting(migrated.unwrap_or(Err(StoreError::Unavailable)))
    }

    /// Checks that exactly the migrations of `migrator` have been run.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotMigrated`] or [`StoreError::Newer`].
    pub async fn check_migrated(&self, migrator: &Migrator) -> Result<(), StoreError> {
        // Not through sqlx's migrator, which would make the table where it is missing: the role may
        // lack the right to.
        let applied = self
            .bounded(async {
                let mut lease = self.lease().await?;
                let exists: bool = self
                    .query_scalar("SELECT to_regclass($1) IS NOT NULL")
                    .bind(MIGRATIONS_TABLE)
                    .fetch_one(&mut *lease)
                    .await?;
                if !exists {
                    return Ok(Vec::new());
                }
                self.query_scalar("SELECT version FROM _sqlx_migrations WHERE success")
                    .fetch_all(&mut *lease)
                    .await
            })
            .await?;
        crate::migrate::compare(migrator, &applied)
    }

    /// Asks the server for its time.
    ///
    /// # Errors
    ///
    /// Where it does not answer.
    pub async fn ping(&self) -> Result<DateTime<Utc>, StoreError> {
        self.bounded(async {
            let mut lease = self.lease().await?;
            let time = self.query_scalar("SELECT clock_timestamp()").fetch_one(&mut *lease).await?;
            lease.done();
            Ok(time)
        })
        .await
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> Connections {
        Connections::of(&self.pool, self.shelf.len())
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.shelf.clear().await;
        self.pool.close().await;
    }
}

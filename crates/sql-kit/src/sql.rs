//! A database of either engine, and units of work on it. A statement is written once if both engines
//! understand it, and otherwise once per engine ([`Statement`]).

use std::{io, time::Duration};

use service_kit::{clock::Clock, health::Successes};
use sqlx::{Sqlite as SqliteEngine, Transaction, migrate::Migrator, pool::PoolConnection};

use crate::{
    Connections, Database, Kind, Lease, Migrated, MigrationState, PoolOptions, Postgres, Sqlite,
    StoreError,
    clock::Readings,
    error,
    migrate::{self, Applied},
    value::{PgQuery, Row, Value, bind_postgres, bind_sqlite},
};

/// How often an operation is retried after a serialization conflict, with growing delays.
/// [`crate::OPERATION_TIMEOUT`] limits all retries together.
const CONFLICTS: u32 = 12;
/// How often an operation is retried after its connection was dead or its server read-only. After the
/// first failure the pool no longer uses connections of the same age.
const LOST: u32 = 2;

/// The text of a statement, with placeholders `$1`, `$2`, ….
#[derive(Debug, Clone, Copy)]
pub struct Statement {
    postgres: &'static str,
    sqlite: &'static str,
}

impl Statement {
    /// A statement that differs between the engines.
    #[must_use]
    pub const fn per_engine(postgres: &'static str, sqlite: &'static str) -> Self {
        Self { postgres, sqlite }
    }
}

impl From<&'static str> for Statement {
    fn from(text: &'static str) -> Self {
        Self { postgres: text, sqlite: text }
    }
}

/// A database of either engine. Clones share its connection pool.
#[derive(Debug, Clone)]
pub struct Sql {
    engine: Engine,
    clock: Clock,
    readings: Readings,
    successes: Successes,
}

#[derive(Debug, Clone)]
enum Engine {
    Postgres(Postgres),
    Sqlite(Sqlite),
}

impl Sql {
    /// Opens a database. The first operation opens a connection.
    ///
    /// # Errors
    ///
    /// If the directory of a SQLite file cannot be created.
    pub fn open(database: &Database, options: PoolOptions) -> io::Result<Self> {
        let (clock, successes) = (options.clock.clone(), options.successes.clone());
        let engine = match database {
            Database::Postgres(servers) => {
                Engine::Postgres(Postgres::open(servers.clone(), options))
            }
            Database::Sqlite(file) => Engine::Sqlite(Sqlite::open((**file).clone(), options)?),
        };
        Ok(Self { engine, clock, readings: Readings::default(), successes })
    }

    /// The database's clock. On Postgres it follows the server's clock as of the last few calls of
    /// [`Sql::ping`]; on SQLite it is the machine's clock.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The record of successful operations, for readiness.
    #[must_use]
    pub const fn successes(&self) -> &Successes {
        &self.successes
    }

    /// Runs an operation with metrics, with the timeout [`crate::OPERATION_TIMEOUT`], and with retries
    /// after conflicts. [`crate::read`], [`crate::write_one`] and [`crate::transaction`] call this.
    ///
    /// # Errors
    ///
    /// The errors of the operation, and [`StoreError::Unavailable`] after the timeout.
    pub async fn run<T, F>(&self, operation: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, sqlx::Error>>,
    {
        let repeated = async {
            let (mut conflicts, mut lost) = (0, 0);
            loop {
                match operation().await {
                    Err(error) if conflicts < CONFLICTS && error::is_conflict(&error) => {
                        conflicts += 1;
                        // A delay, so that the conflicting operations do not collide again.
                        tokio::time::sleep(Duration::from_millis(u64::from(conflicts * 2))).await;
                    }
                    Err(error) if lost < LOST && error::may_be_repeated(&error) => {
                        lost += 1;
                        self.judge(&error);
                    }
                    result => return result,
                }
            }
        };
        let result = match &self.engine {
            Engine::Postgres(database) => database.bounded(repeated).await,
            Engine::Sqlite(database) => database.bounded(repeated).await,
        };
        result.inspect(|_| self.successes.note())
    }

    /// Updates what the pool knows about its other connections after an error.
    fn judge(&self, error: &sqlx::Error) {
        match &self.engine {
            Engine::Postgres(database) => database.judge(error),
            Engine::Sqlite(database) => database.judge(error),
        }
    }

    /// Starts an operation of `kind`, inside [`Sql::run`].
    ///
    /// # Errors
    ///
    /// If no connection is free in time or can be opened.
    pub async fn begin(&self, kind: Kind) -> Result<Unit, sqlx::Error> {
        let inner = match (&self.engine, kind) {
            (Engine::Postgres(database), Kind::Transaction) => {
                Inner::Postgres(database.transaction().await?)
            }
            (Engine::Postgres(database), Kind::Read) => Inner::Postgres(database.lease().await?),
            // A single statement is a transaction of its own.
            (Engine::Postgres(database), Kind::WriteOne) => {
                Inner::Postgres(database.lease_to_write().await?)
            }
            (Engine::Sqlite(database), Kind::Read) => Inner::Sqlite(database.read().await?),
            (Engine::Sqlite(database), Kind::WriteOne) => Inner::Sqlite(database.writer().await?),
            (Engine::Sqlite(database), Kind::Transaction) => Inner::Writer(database.write().await?),
        };
        Ok(Unit { inner, kind, is_abandoned: false })
    }

    /// Tries whether the database can be reached.
    ///
    /// # Errors
    ///
    /// If it cannot. The text contains the database, its message and a remedy.
    pub async fn reach(&self) -> Result<(), String> {
        match &self.engine {
            Engine::Postgres(database) => database.reach().await.map_err(|error| error.to_string()),
            Engine::Sqlite(database) => database.reach().await,
        }
    }

    /// Runs the missing migrations. Several replicas may do so at the same time.
    ///
    /// # Errors
    ///
    /// [`StoreError::Newer`] if the database has migrations that this version does not know.
    pub async fn migrate(&self, migrations: &Migrations) -> Result<(), StoreError> {
        self.run_migrations(migrations).await.map(drop)
    }

    /// Runs the missing migrations and returns them. There is no timeout.
    ///
    /// # Errors
    ///
    /// The errors of [`Sql::migrate`].
    pub async fn run_migrations(
        &self,
        migrations: &Migrations,
    ) -> Result<Vec<Migrated>, StoreError> {
        match &self.engine {
            // Boxed, because the futures are large and rarely needed.
            Engine::Postgres(database) => {
                Box::pin(database.run_migrations(&migrations.postgres)).await
            }
            Engine::Sqlite(database) => Box::pin(database.run_migrations(&migrations.sqlite)).await,
        }
    }

    /// The migrations of the database and of this version, by number.
    ///
    /// # Errors
    ///
    /// If the query fails.
    pub async fn migration_states(
        &self,
        migrations: &Migrations,
    ) -> Result<Vec<MigrationState>, StoreError> {
        let (ours, applied) = self.applied(migrations).await?;
        migrate::check_service(ours, &applied)?;
        Ok(migrate::states(ours, applied))
    }

    /// The migrations of this version for the engine, and the applied ones.
    async fn applied<'m>(
        &self,
        migrations: &'m Migrations,
    ) -> Result<(&'m Migrator, Vec<Applied>), StoreError> {
        Ok(match &self.engine {
            Engine::Postgres(database) => (&migrations.postgres, database.applied().await?),
            Engine::Sqlite(database) => (&migrations.sqlite, database.applied().await?),
        })
    }

    /// Checks that the database has exactly the migrations of this version.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotMigrated`] or [`StoreError::Newer`].
    pub async fn check_migrated(&self, migrations: &Migrations) -> Result<(), StoreError> {
        let (ours, applied) = self.applied(migrations).await?;
        migrate::compare(ours, &applied)
    }

    /// Checks that the database answers and, on Postgres, reads its time. On Postgres this uses a
    /// separate connection outside the pool.
    ///
    /// # Errors
    ///
    /// If it does not answer; [`StoreError::ReadOnly`] if it answers but rejects writes.
    pub async fn ping(&self) -> Result<(), StoreError> {
        match &self.engine {
            Engine::Postgres(database) => {
                let (reading, is_read_only) = database.look().await?;
                self.readings.take(reading, &self.clock);
                if is_read_only { Err(StoreError::ReadOnly) } else { Ok(()) }
            }
            Engine::Sqlite(database) => database.ping().await,
        }
    }

    /// The state of the connection pool.
    #[must_use]
    pub fn connections(&self) -> Connections {
        match &self.engine {
            Engine::Postgres(database) => database.connections(),
            Engine::Sqlite(database) => database.connections(),
        }
    }

    /// Closes all connections.
    pub async fn close(&self) {
        match &self.engine {
            Engine::Postgres(database) => database.close().await,
            Engine::Sqlite(database) => database.close().await,
        }
    }
}

/// The migrations of a service on both engines.
#[derive(Debug)]
pub struct Migrations {
    /// Those of Postgres.
    pub postgres: Migrator,
    /// Those of SQLite.
    pub sqlite: Migrator,
}

/// The connection of one operation.
#[derive(Debug)]
pub struct Unit {
    inner: Inner,
    kind: Kind,
    is_abandoned: bool,
}

#[derive(Debug)]
enum Inner {
    Postgres(Lease),
    Sqlite(PoolConnection<SqliteEngine>),
    Writer(Transaction<'static, SqliteEngine>),
}

impl Unit {
    /// Makes a transaction roll back at its end, although it succeeds.
    pub const fn abandon(&mut self) {
        debug_assert!(matches!(self.kind, Kind::Transaction), "only a transaction can roll back");
        self.is_abandoned = true;
    }

    /// Whether the database is Postgres, where transactions write concurrently.
    #[must_use]
    pub const fn is_postgres(&self) -> bool {
        matches!(self.inner, Inner::Postgres(_))
    }

    /// Executes a statement and returns the number of changed rows.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn execute(
        &mut self,
        statement: impl Into<Statement>,
        values: &[Value<'_>],
    ) -> Result<u64, sqlx::Error> {
        let Statement { postgres, sqlite } = statement.into();
        match &mut self.inner {
            Inner::Postgres(lease) => {
                let query = postgres_query(lease, postgres, values);
                Ok(query.execute(&mut **lease).await?.rows_affected())
            }
            Inner::Sqlite(connection) => {
                let query = bind_sqlite(sqlx::query(sqlite), values);
                Ok(query.execute(&mut **connection).await?.rows_affected())
            }
            Inner::Writer(transaction) => {
                let query = bind_sqlite(sqlx::query(sqlite), values);
                Ok(query.execute(&mut **transaction).await?.rows_affected())
            }
        }
    }

    /// Executes a statement and returns its first row, if there is one.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn fetch_optional(
        &mut self,
        statement: impl Into<Statement>,
        values: &[Value<'_>],
    ) -> Result<Option<Row>, sqlx::Error> {
        // A single statement is committed at its end. To read only its first row would hide a failed commit.
        if self.kind == Kind::WriteOne {
            return Ok(self.fetch_all(statement, values).await?.into_iter().next());
        }
        let Statement { postgres, sqlite } = statement.into();
        match &mut self.inner {
            Inner::Postgres(lease) => {
                let query = postgres_query(lease, postgres, values);
                Ok(query.fetch_optional(&mut **lease).await?.map(Row::Postgres))
            }
            Inner::Sqlite(connection) => {
                let query = bind_sqlite(sqlx::query(sqlite), values);
                Ok(query.fetch_optional(&mut **connection).await?.map(Row::Sqlite))
            }
            Inner::Writer(transaction) => {
                let query = bind_sqlite(sqlx::query(sqlite), values);
                Ok(query.fetch_optional(&mut **transaction).await?.map(Row::Sqlite))
            }
        }
    }

    /// Executes a statement that returns a row.
    ///
    /// # Errors
    ///
    /// The errors of the database, and [`sqlx::Error::RowNotFound`].
    pub async fn fetch_one(
        &mut self,
        statement: impl Into<Statement>,
        values: &[Value<'_>],
    ) -> Result<Row, sqlx::Error> {
        self.fetch_optional(statement, values).await?.ok_or(sqlx::Error::RowNotFound)
    }

    /// Executes a statement and returns all rows.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn fetch_all(
        &mut self,
        statement: impl Into<Statement>,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, sqlx::Error> {
        let Statement { postgres, sqlite } = statement.into();
        let of_sqlite = |rows: Vec<_>| rows.into_iter().map(Row::Sqlite).collect();
        match &mut self.inner {
            Inner::Postgres(lease) => {
                let query = postgres_query(lease, postgres, values);
                let rows = query.fetch_all(&mut **lease).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
            Inner::Sqlite(connection) => {
                let query = bind_sqlite(sqlx::query(sqlite), values);
                Ok(of_sqlite(query.fetch_all(&mut **connection).await?))
            }
            Inner::Writer(transaction) => {
                let query = bind_sqlite(sqlx::query(sqlite), values);
                Ok(of_sqlite(query.fetch_all(&mut **transaction).await?))
            }
        }
    }

    /// Marks the result of the statements: if the connection was lost, it is unknown whether a statement
    /// that commits by itself was executed.
    ///
    /// # Errors
    ///
    /// The errors of the statements.
    #[doc(hidden)]
    pub fn outcome<T>(&self, result: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        match self.kind {
            // Behind a proxy with transaction pooling there is a transaction to commit.
            Kind::WriteOne => result.map_err(error::undecided),
            Kind::Read | Kind::Transaction => result,
        }
    }

    /// Ends an operation and commits what it wrote.
    ///
    /// # Errors
    ///
    /// If the database refuses or the connection is lost. In the latter case the commit may or may not
    /// have taken place.
    pub async fn end(self) -> Result<(), sqlx::Error> {
        if self.is_abandoned {
            return Ok(());
        }
        match self.inner {
            Inner::Postgres(lease) if self.kind == Kind::Read => {
                lease.done();
                Ok(())
            }
            Inner::Postgres(lease) => lease.commit().await.map_err(error::undecided),
            Inner::Sqlite(_) => Ok(()),
            Inner::Writer(transaction) => transaction.commit().await,
        }
    }
}

/// Behind a proxy with transaction pooling, statements must not stay prepared.
fn postgres_query<'q>(lease: &Lease, text: &'static str, values: &[Value<'q>]) -> PgQuery<'q> {
    bind_postgres(sqlx::query(text).persistent(!lease.is_pooled()), values)
}

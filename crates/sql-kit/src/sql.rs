//! A database of either engine, and units of work on it. A statement is written once where both
//! engines read it alike, and twice where they do not ([`Statement`]).

use std::{io, time::Duration};

use service_kit::{clock::Clock, health::Successes};
use sqlx::{Sqlite as SqliteEngine, Transaction, migrate::Migrator, pool::PoolConnection};

use crate::{
    Connections, Database, Lease, Migrated, MigrationState, PoolOptions, Postgres, Sqlite,
    StoreError,
    clock::Readings,
    error,
    migrate::{self, Applied},
    value::{PgQuery, Row, Value, bind_postgres, bind_sqlite},
};

/// How often an operation is repeated that the server gave up in favour of another one, with growing
/// pauses. [`crate::OPERATION_TIMEOUT`] holds for all of them together.
const CONFLICTS: u32 = 12;
/// How often an operation is repeated whose connection turned out to be dead, or to be to a server that
/// takes no writes. After the first time the others that were made before are not used any more.
const LOST: u32 = 2;

/// The text of a statement, with placeholders `$1`, `$2`, ….
#[derive(Debug, Clone, Copy)]
pub struct Statement {
    postgres: &'static str,
    sqlite: &'static str,
}

impl Statement {
    /// A statement that the engines need in different words.
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

/// A database of either engine. Clones share its connections.
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
    /// Opens a database. Nothing is connected before the first operation.
    ///
    /// # Errors
    ///
    /// Where the folder of a SQLite file cannot be made.
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

    /// The database's clock: on Postgres the server's as of the last few [`Sql::ping`], on SQLite the
    /// machine's.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Where it is noted that the database has carried out an operation: for readiness.
    #[must_use]
    pub const fn successes(&self) -> &Successes {
        &self.successes
    }

    /// Does an operation: observed, given up after [`crate::OPERATION_TIMEOUT`], and done again where
    /// the server gave it up in favour of another one. [`crate::read`], [`crate::write_one`] and
    /// [`crate::transaction`] call this.
    ///
    /// # Errors
    ///
    /// Those of the operation, and [`StoreError::Unavailable`] when it takes too long.
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
                        // Those that collided should not collide again at once.
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

    /// Draws the conclusions of an error for the other connections.
    fn judge(&self, error: &sqlx::Error) {
        match &self.engine {
            Engine::Postgres(database) => database.judge(error),
            Engine::Sqlite(database) => database.judge(error),
        }
    }

    /// Begins an operation of `kind`, inside [`Sql::run`].
    ///
    /// # Errors
    ///
    /// Where no connection is free in time, or none can be made.
    pub async fn begin(&self, kind: Kind) -> Result<Unit, sqlx::Error> {
        let inner = match (&self.engine, kind) {
            (Engine::Postgres(database), Kind::Transaction) => {
                Inner::Postgres(database.transaction().await?)
            }
            (Engine::Postgres(database), Kind::Read) => Inner::Postgres(database.lease().await?),
            // A statement is a transaction of its own.
            (Engine::Postgres(database), Kind::WriteOne) => {
                Inner::Postgres(database.lease_to_write().await?)
            }
            (Engine::Sqlite(database), Kind::Read) => Inner::Reader(database.read().await?),
            (Engine::Sqlite(database), _) => Inner::Writer(database.write().await?),
        };
        Ok(Unit { inner, kind, is_abandoned: false })
    }

    /// Tries whether the database can be reached.
    ///
    /// # Errors
    ///
    /// Which it is, what it says, and what to do.
    pub async fn reach(&self) -> Result<(), String> {
        match &self.engine {
            Engine::Postgres(database) => database.reach().await.map_err(|error| error.to_string()),
            Engine::Sqlite(database) => database.reach().await,
        }
    }

    /// Runs the migrations that are missing. Safe when several replicas do it at once.
    ///
    /// # Errors
    ///
    /// [`StoreError::Newer`] for a database that knows more migrations than we do.
    pub async fn migrate(&self, migrations: &Migrations) -> Result<(), StoreError> {
        self.run_migrations(migrations).await.map(drop)
    }

    /// Runs the migrations that are missing, and tells which. They take as long as they take.
    ///
    /// # Errors
    ///
    /// Those of [`Sql::migrate`].
    pub async fn run_migrations(
        &self,
        migrations: &Migrations,
    ) -> Result<Vec<Migrated>, StoreError> {
        match &self.engine {
            // Large futures, and seldom needed.
            Engine::Postgres(database) => {
                Box::pin(database.run_migrations(&migrations.postgres)).await
            }
            Engine::Sqlite(database) => Box::pin(database.run_migrations(&migrations.sqlite)).await,
        }
    }

    /// The migrations of the database and ours, by their numbers.
    ///
    /// # Errors
    ///
    /// Where the database cannot be asked.
    pub async fn migration_states(
        &self,
        migrations: &Migrations,
    ) -> Result<Vec<MigrationState>, StoreError> {
        let (ours, applied) = self.applied(migrations).await?;
        Ok(migrate::states(ours, applied))
    }

    /// Our migrations for the engine, and those that the database has.
    async fn applied<'m>(
        &self,
        migrations: &'m Migrations,
    ) -> Result<(&'m Migrator, Vec<Applied>), StoreError> {
        Ok(match &self.engine {
            Engine::Postgres(database) => (&migrations.postgres, database.applied().await?),
            Engine::Sqlite(database) => (&migrations.sqlite, database.applied().await?),
        })
    }

    /// Checks that the database has our migrations, no fewer and no more.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotMigrated`] or [`StoreError::Newer`].
    pub async fn check_migrated(&self, migrations: &Migrations) -> Result<(), StoreError> {
        let (ours, applied) = self.applied(migrations).await?;
        migrate::compare(ours, &applied)
    }

    /// Asks the database for a sign of life, and on Postgres for its time. On Postgres this has a
    /// connection of its own, outside the pool.
    ///
    /// # Errors
    ///
    /// Where there is none, and [`StoreError::ReadOnly`] where the database answers but takes no writes.
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

    /// How many connections it has.
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

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only reads, in one statement or several that need not agree.
    Read,
    /// It writes with one statement.
    WriteOne,
    /// It is a transaction (READ COMMITTED on Postgres).
    Transaction,
}

/// Does an operation that only reads: `read!(sql, |unit| { … })`. The block is asynchronous, has the
/// [`Unit`] by its name, and is a `Result<T, sqlx::Error>`; the whole is a future of
/// `Result<T, StoreError>`. See [`Sql::run`].
#[macro_export]
macro_rules! read {
    ($sql:expr, |$unit:ident| $body:expr) => {
        $crate::operation!($sql, $crate::Kind::Read, |$unit| $body)
    };
}

/// Does an operation of one statement that writes; see [`read`].
#[macro_export]
macro_rules! write_one {
    ($sql:expr, |$unit:ident| $body:expr) => {
        $crate::operation!($sql, $crate::Kind::WriteOne, |$unit| $body)
    };
}

/// Does an operation of several statements in one transaction; see [`read`]. It is durable when the
/// future is done. An error, or [`Unit::abandon`], leaves nothing behind. What the server gave up in
/// favour of another transaction is done again, so the block may run more than once.
#[macro_export]
macro_rules! transaction {
    ($sql:expr, |$unit:ident| $body:expr) => {
        $crate::operation!($sql, $crate::Kind::Transaction, |$unit| $body)
    };
}

/// A closure that is given a unit cannot be used here: the compiler does not see that the futures of
/// such asynchronous closures may be sent to another thread.
#[doc(hidden)]
#[macro_export]
macro_rules! operation {
    ($sql:expr, $kind:expr, |$unit:ident| $body:expr) => {
        $sql.run(|| async {
            let mut unit = $sql.begin($kind).await?;
            let result: Result<_, $crate::SqlError> = async {
                let $unit = &mut unit;
                $body
            }
            .await;
            let result = unit.outcome(result)?;
            unit.end().await?;
            Ok(result)
        })
    };
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
    Reader(PoolConnection<SqliteEngine>),
    Writer(Transaction<'static, SqliteEngine>),
}

impl Unit {
    /// Has the transaction rolled back when the operation ends, although it ends well.
    pub const fn abandon(&mut self) {
        self.is_abandoned = true;
    }

    /// Whether the database is Postgres, where several transactions write at once.
    #[must_use]
    pub const fn is_postgres(&self) -> bool {
        matches!(self.inner, Inner::Postgres(_))
    }

    /// Carries out a statement and returns how many rows it has changed.
    ///
    /// # Errors
    ///
    /// Those of the database.
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
            Inner::Reader(connection) => {
                let query = bind_sqlite(sqlx::query(sqlite), values);
                Ok(query.execute(&mut **connection).await?.rows_affected())
            }
            Inner::Writer(transaction) => {
                let query = bind_sqlite(sqlx::query(sqlite), values);
                Ok(query.execute(&mut **transaction).await?.rows_affected())
            }
        }
    }

    /// Carries out a statement and returns its first row, if it has any.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn fetch_optional(
        &mut self,
        statement: impl Into<Statement>,
        values: &[Value<'_>],
    ) -> Result<Option<Row>, sqlx::Error> {
        let Statement { postgres, sqlite } = statement.into();
        match &mut self.inner {
            Inner::Postgres(lease) => {
                let query = postgres_query(lease, postgres, values);
                Ok(query.fetch_optional(&mut **lease).await?.map(Row::Postgres))
            }
            Inner::Reader(connection) => {
                let query = bind_sqlite(sqlx::query(sqlite), values);
                Ok(query.fetch_optional(&mut **connection).await?.map(Row::Sqlite))
            }
            Inner::Writer(transaction) => {
                let query = bind_sqlite(sqlx::query(sqlite), values);
                Ok(query.fetch_optional(&mut **transaction).await?.map(Row::Sqlite))
            }
        }
    }

    /// Carries out a statement that has one row.
    ///
    /// # Errors
    ///
    /// Those of the database, and [`sqlx::Error::RowNotFound`].
    pub async fn fetch_one(
        &mut self,
        statement: impl Into<Statement>,
        values: &[Value<'_>],
    ) -> Result<Row, sqlx::Error> {
        self.fetch_optional(statement, values).await?.ok_or(sqlx::Error::RowNotFound)
    }

    /// Carries out a statement and returns all its rows.
    ///
    /// # Errors
    ///
    /// Those of the database.
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
            Inner::Reader(connection) => {
                let query = bind_sqlite(sqlx::query(sqlite), values);
                Ok(of_sqlite(query.fetch_all(&mut **connection).await?))
            }
            Inner::Writer(transaction) => {
                let query = bind_sqlite(sqlx::query(sqlite), values);
                Ok(of_sqlite(query.fetch_all(&mut **transaction).await?))
            }
        }
    }

    /// What to make of the result of the statements: where the connection is lost, a statement that is
    /// a transaction of its own may have been carried out or not.
    ///
    /// # Errors
    ///
    /// Those of the statements.
    #[doc(hidden)]
    pub fn outcome<T>(&self, result: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        match self.kind {
            // Behind a proxy that pools by transaction there is one to commit.
            Kind::WriteOne => result.map_err(error::undecided),
            Kind::Read | Kind::Transaction => result,
        }
    }

    /// Ends an operation, and makes durable what it wrote.
    ///
    /// # Errors
    ///
    /// Where the database refuses, or is gone; what was written may then be there or not.
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
            Inner::Reader(_) => Ok(()),
            Inner::Writer(transaction) => transaction.commit().await,
        }
    }
}

/// Behind a proxy that pools by transaction a statement leaves nothing prepared behind.
fn postgres_query<'q>(lease: &Lease, text: &'static str, values: &[Value<'q>]) -> PgQuery<'q> {
    bind_postgres(sqlx::query(text).persistent(!lease.is_pooled()), values)
}

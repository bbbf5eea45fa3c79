//! A database of either engine, and units of work on it. A statement is written once where both
//! engines read it alike, and twice where they do not ([`Statement`]).

use std::io;

use service_kit::clock::Clock;
use sqlx::{Sqlite as SqliteEngine, Transaction, migrate::Migrator, pool::PoolConnection};

use crate::{
    Connections, Database, Lease, PoolOptions, Postgres, Sqlite, StoreError, error,
    value::{PgQuery, Row, Value, bind_postgres, bind_sqlite},
};

/// How often an operation is repeated that the server gave up in favour of another one.
const RETRIES: u32 = 5;

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
        let engine = match database {
            Database::Postgres(hosts) => Engine::Postgres(Postgres::open(hosts.clone(), options)),
            Database::Sqlite(file) => Engine::Sqlite(Sqlite::open((**file).clone(), options)?),
        };
        Ok(Self { engine, clock: Clock::default() })
    }

    /// The database's clock: on Postgres the server's as of the last [`Sql::ping`], on SQLite the
    /// machine's.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Does an operation that only reads, in one statement or several that need not agree.
    ///
    /// # Errors
    ///
    /// Those of the operation, and [`StoreError::Unavailable`] when it takes too long.
    pub async fn read<T>(
        &self,
        operation: impl AsyncFn(&mut Unit) -> Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        self.bounded(async || {
            let mut unit = Unit::new(match &self.engine {
                Engine::Postgres(database) => Inner::Postgres(database.lease().await?),
                Engine::Sqlite(database) => Inner::Reader(database.read().await?),
            });
            let result = operation(&mut unit).await?;
            unit.done();
            Ok(result)
        })
        .await
    }

    /// Does an operation of one statement that writes.
    ///
    /// # Errors
    ///
    /// Those of [`Sql::read`].
    pub async fn write_one<T>(
        &self,
        operation: impl AsyncFn(&mut Unit) -> Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        self.bounded(async || {
            let mut unit = Unit::new(match &self.engine {
                // A statement is a transaction of its own.
                Engine::Postgres(database) => Inner::Postgres(database.lease().await?),
                Engine::Sqlite(database) => Inner::Writer(database.write().await?),
            });
            let result = operation(&mut unit).await?;
            unit.commit().await?;
            Ok(result)
        })
        .await
    }

    /// Does an operation of several statements in one transaction (READ COMMITTED on Postgres). It is
    /// durable when this returns; an error, or [`Unit::abandon`], leaves nothing behind. What the
    /// server gave up in favour of another transaction is done again, so the operation may run more
    /// than once.
    ///
    /// # Errors
    ///
    /// Those of [`Sql::read`].
    pub async fn write<T>(
        &self,
        operation: impl AsyncFn(&mut Unit) -> Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        self.bounded(async || {
            let mut unit = Unit::new(match &self.engine {
                Engine::Postgres(database) => Inner::Postgres(database.transaction().await?),
                Engine::Sqlite(database) => Inner::Writer(database.write().await?),
            });
            let result = operation(&mut unit).await?;
            if !unit.abandoned {
                unit.commit().await?;
            }
            Ok(result)
        })
        .await
    }

    async fn bounded<T>(
        &self,
        operation: impl AsyncFn() -> Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        let repeated = async {
            let mut left = RETRIES;
            loop {
                match operation().await {
                    Err(error) if left > 0 && error::is_conflict(&error) => left -= 1,
                    result => return result,
                }
            }
        };
        match &self.engine {
            Engine::Postgres(database) => database.bounded(repeated).await,
            Engine::Sqlite(database) => database.bounded(repeated).await,
        }
    }

    /// Runs the migrations that are missing. Safe when several replicas do it at once.
    ///
    /// # Errors
    ///
    /// [`StoreError::Newer`] for a database that knows more migrations than we do.
    pub async fn migrate(&self, migrations: &Migrations) -> Result<(), StoreError> {
        match &self.engine {
            Engine::Postgres(database) => database.migrate(&migrations.postgres).await,
            Engine::Sqlite(database) => database.migrate(&migrations.sqlite).await,
        }
    }

    /// Checks that the database has our migrations, no fewer and no more.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotMigrated`] or [`StoreError::Newer`].
    pub async fn check_migrated(&self, migrations: &Migrations) -> Result<(), StoreError> {
        match &self.engine {
            Engine::Postgres(database) => database.check_migrated(&migrations.postgres).await,
            Engine::Sqlite(database) => database.check_migrated(&migrations.sqlite).await,
        }
    }

    /// Asks the database for a sign of life, and on Postgres for its time.
    ///
    /// # Errors
    ///
    /// Where there is none.
    pub async fn ping(&self) -> Result<(), StoreError> {
        match &self.engine {
            Engine::Postgres(database) => {
                self.clock.follow(database.ping().await?);
                Ok(())
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

/// The connection of one operation.
#[derive(Debug)]
pub struct Unit {
    inner: Inner,
    abandoned: bool,
}

#[derive(Debug)]
enum Inner {
    Postgres(Lease),
    Reader(PoolConnection<SqliteEngine>),
    Writer(Transaction<'static, SqliteEngine>),
}

impl Unit {
    const fn new(inner: Inner) -> Self {
        Self { inner, abandoned: false }
    }

    /// Has the transaction rolled back when the operation ends, although it ends well.
    pub const fn abandon(&mut self) {
        self.abandoned = true;
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

    /// Ends an operation that has only read.
    fn done(self) {
        if let Inner::Postgres(lease) = self.inner {
            lease.done();
        }
    }

    async fn commit(self) -> Result<(), sqlx::Error> {
        match self.inner {
            Inner::Postgres(lease) => lease.commit().await,
            Inner::Reader(_) => Ok(()),
            Inner::Writer(transaction) => transaction.commit().await,
        }
    }
}

/// Behind a proxy that pools by transaction a statement leaves nothing prepared behind.
fn postgres_query<'q>(lease: &Lease, text: &'static str, values: &[Value<'q>]) -> PgQuery<'q> {
    bind_postgres(sqlx::query(text).persistent(!lease.is_pooled()), values)
}

//! SQLite: one writer, several readers.

use std::{fs, path::Path, time::Duration};

use chrono::{DateTime, Utc};
use sqlx::{
    Connection as _, Row as _, Sqlite as Engine, SqlitePool, Transaction,
    migrate::Migrator,
    pool::PoolConnection,
    sqlite::{
        SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
    },
};

use crate::{Connections, PoolOptions, StoreError, migrate::MIGRATIONS_TABLE, observe::Observer};

/// How long a statement waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(4);

/// A SQLite database. SQLite lets one connection write at a time; a pool of one queues our writers
/// in order, where competing connections would fail with "busy".
#[derive(Debug, Clone)]
pub struct Sqlite {
    read: SqlitePool,
    write: SqlitePool,
    observer: Observer,
}

impl Sqlite {
    /// Opens the file, which is made with its folder where it does not exist.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn open(connect: SqliteConnectOptions, options: PoolOptions) -> std::io::Result<Self> {
        let in_memory = connect.get_filename() == Path::new(":memory:")
            || connect.get_filename().to_string_lossy().starts_with("file:sqlx-in-memory-");
        let connect = connect
            .create_if_missing(true)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .journal_mode(SqliteJournalMode::Wal)
            // What was answered must survive a loss of power, not only of the process.
            .synchronous(SqliteSynchronous::Full);
        if !in_memory {
            create_private(connect.get_filename())?;
        }
        let pool = |size| {
            SqlitePoolOptions::new()
                .max_connections(size)
                .min_connections(u32::from(in_memory))
                .acquire_timeout(options.acquire_timeout)
                // Where a commit fails, as on a full disk, SQLite rolls back by itself; sqlx then believes
                // in a transaction that has ended, and could never begin another one.
                .before_acquire(|connection, _| {
                    let usable = !connection.is_in_transaction();
                    Box::pin(async move { Ok(usable) })
                })
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
        };
        let write = pool(1).connect_lazy_with(connect.clone());
        // A database in memory belongs to its one connection.
        let read = if in_memory {
            write.clone()
        } else {
            pool(options.max_connections).connect_lazy_with(connect)
        };
        Ok(Self { read, write, observer: Observer::new(options.durations, "sqlite") })
    }

    /// Does one operation: observed, and given up after [`crate::OPERATION_TIMEOUT`].
    ///
    /// # Errors
    ///
    /// Those of the operation, and [`StoreError::Unavailable`] when it takes too long.
    pub async fn bounded<T>(
        &self,
        operation: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        self.observer.bounded(operation).await
    }

    /// Borrows a connection that only reads, for one operation inside [`Sqlite::bounded`].
    ///
    /// # Errors
    ///
    /// Where none is free in time.
    pub async fn read(&self) -> Result<PoolConnection<Engine>, sqlx::Error> {
        self.read.acquire().await
    }

    /// Starts a transaction that writes, for one operation inside [`Sqlite::bounded`].
    ///
    /// # Errors
    ///
    /// Where the writer is not free in time.
    pub async fn write(&self) -> Result<Transaction<'static, Engine>, sqlx::Error> {
        // A deferred transaction that starts with a read can fail to become a writer.
        self.write.begin_with("BEGIN IMMEDIATE").await
    }

    /// Runs the migrations that are missing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Newer`] for a database that knows more migrations than we do.
    pub async fn migrate(&self, migrator: &Migrator) -> Result<(), StoreError> {
        // The migrator has no lock of its own for SQLite: two processes would collide.
        let mut transaction = self.write().await?;
        migrator.run_direct(None, &mut *transaction, false).await?;
        Ok(transaction.commit().await?)
    }

    /// Checks that exactly the migrations of `migrator` have been run.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotMigrated`] or [`StoreError::Newer`].
    pub async fn check_migrated(&self, migrator: &Migrator) -> Result<(), StoreError> {
        let applied = self
            .bounded(async {
                let mut connection = self.read().await?;
                let exists =
                    sqlx::query("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?")
                        .bind(MIGRATIONS_TABLE)
                        .fetch_optional(&mut *connection)
                        .await?;
                if exists.is_none() {
                    return Ok(Vec::new());
                }
                sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success")
                    .fetch_all(&mut *connection)
                    .await
            })
            .await?;
        crate::migrate::compare(migrator, &applied)
    }

    /// Checks that the file can be read.
    ///
    /// # Errors
    ///
    /// Where it cannot.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.bounded(async {
            let mut connection = self.read().await?;
            sqlx::query("SELECT count(*) FROM sqlite_schema").execute(&mut *connection).await?;
            Ok(())
        })
        .await
    }

    /// How many connections read.
    #[must_use]
    pub fn connections(&self) -> Connections {
        Connections::of(&self.read, 0)
    }

    /// Closes all connections, which folds the write-ahead log into the file.
    pub async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }
}

/// Reads a time that is stored in microseconds since 1970.
///
/// # Errors
///
/// Where the column is missing or holds no time.
pub fn sqlite_time(row: &SqliteRow, column: &str) -> Result<DateTime<Utc>, sqlx::Error> {
    DateTime::from_timestamp_micros(row.try_get(column)?)
        .ok_or_else(|| sqlx::Error::Decode("a stored time is out of range".into()))
}

/// Makes the file and its folder where they do not exist, for their owner alone: password hashes and
/// profiles are nobody else's to read. SQLite gives the files beside it the same mode.
fn create_private(file: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};

    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty())
        && !folder.exists()
    {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

//! SQLite: one writer, several readers.

use std::{
    borrow::Cow,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{
    Connection as _, Sqlite as Engine, SqlitePool, Transaction,
    migrate::Migrator,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{
    Connections, PoolOptions, StoreError, error,
    migrate::{self, Applied, MIGRATIONS_TABLE, Migrated},
    observe::Observer,
};

/// How long a statement waits for the lock of another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(4);
/// How long to wait before trying to take the lock again under which another process migrates.
const MIGRATION_PAUSE: Duration = Duration::from_millis(200);

/// It is logged again only after this time that the file cannot be used.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// A SQLite database. SQLite allows one writer at a time. A write pool of one connection queues writers in
/// order; competing connections would fail with "busy".
#[derive(Debug, Clone)]
pub(crate) struct Sqlite {
    read: SqlitePool,
    write: SqlitePool,
    observer: Observer,
    /// The file, unless the database is in memory.
    file: Option<PathBuf>,
    /// Connections that were opened at or before this time are not used any more, because the file was
    /// read-only then.
    distrusted: Arc<Mutex<Option<Instant>>>,
    /// When it was last logged that the file cannot be used.
    reported: Arc<Mutex<Option<Instant>>>,
}

impl Sqlite {
    /// Opens the file. If it does not exist, it is created with its directory.
    ///
    /// # Errors
    ///
    /// The errors of the file system.
    pub(crate) fn open(
        connect: SqliteConnectOptions,
        options: PoolOptions,
    ) -> std::io::Result<Self> {
        let in_memory = is_in_memory(&connect);
        let connect = connect
            .create_if_missing(true)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .journal_mode(SqliteJournalMode::Wal)
            // A confirmed write must survive a power failure, and not only a crash of the process.
            .synchronous(SqliteSynchronous::Full);
        let file = (!in_memory).then(|| connect.get_filename().to_path_buf());
        if let Some(file) = &file {
            create_private(file).map_err(|error| error::cannot_open(file, &error))?;
        }
        let distrusted = Arc::<Mutex<Option<Instant>>>::default();
        let pool = |size| {
            let distrusted = Arc::clone(&distrusted);
            SqlitePoolOptions::new()
                .max_connections(size)
                .min_connections(u32::from(in_memory))
                .acquire_timeout(options.acquire_timeout)
                // If a commit fails, for example on a full disk, SQLite rolls back by itself. sqlx would
                // then still assume an open transaction and could never start another one.
                .before_acquire(move |connection, about| {
                    let distrusted = *distrusted.lock().unwrap_or_else(PoisonError::into_inner);
                    let is_young = distrusted.is_none_or(|at| about.age < at.elapsed());
                    let usable = is_young && !connection.is_in_transaction();
                    Box::pin(async move { Ok(usable) })
                })
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
        };
        let write = pool(1).connect_lazy_with(connect.clone());
        // A database in memory exists only in its one connection.
        let read = if in_memory {
            write.clone()
        } else {
            pool(options.max_connections).connect_lazy_with(connect)
        };
        let observer = Observer::new(options.durations, "sqlite");
        Ok(Self { read, write, observer, file, distrusted, reported: Arc::default() })
    }

    /// Runs one operation, with metrics and the timeout [`crate::OPERATION_TIMEOUT`].
    ///
    /// # Errors
    ///
    /// The errors of the operation, and [`StoreError::Unavailable`] after the timeout.
    pub(crate) async fn bounded<T>(
        &self,
        operation: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        let judged = async { operation.await.inspect_err(|error| self.judge(error)) };
        self.observer.bounded(judged).await.unwrap_or(Err(StoreError::Unavailable))
    }

    /// Updates what the pools know about their connections after an error. SQLite opens a file without
    /// write permission as read-only, and the connection stays read-only.
    pub(crate) fn judge(&self, error: &sqlx::Error) {
        if error::is_read_only(error) {
            let now = Some(Instant::now());
            *self.distrusted.lock().unwrap_or_else(PoisonError::into_inner) = now;
        }
        if error::is_of_file(error) {
            let said = error::said_by_sqlite(error);
            self.report(&self.unwritable().unwrap_or(said));
        }
    }

    /// Logs why the file cannot be used, at most once a minute.
    fn report(&self, why: &str) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.is_none_or(|last| last.elapsed() >= REPORT_INTERVAL) {
            *reported = Some(Instant::now());
            let place = self.place();
            tracing::warn!(event = "database.unreachable", "SQLite at {place}: {why}");
        }
    }

    /// Why the database cannot be written, with the file to mend, or `None` if it can.
    fn unwritable(&self) -> Option<String> {
        let path = unwritable(self.file.as_deref()?)?;
        Some(format!("{} cannot be written; {}", path.display(), error::LET_WRITE))
    }

    fn place(&self) -> Cow<'_, str> {
        self.file.as_deref().map_or("in memory".into(), Path::to_string_lossy)
    }

    /// Takes a read-only connection for one operation inside [`Sqlite::bounded`].
    ///
    /// # Errors
    ///
    /// If none is free in time.
    pub(crate) async fn read(&self) -> Result<PoolConnection<Engine>, sqlx::Error> {
        self.read.acquire().await
    }

    /// Takes the connection that writes, for one statement inside [`Sqlite::bounded`], which is a
    /// transaction of its own.
    ///
    /// # Errors
    ///
    /// If the writer is not free in time.
    pub(crate) async fn writer(&self) -> Result<PoolConnection<Engine>, sqlx::Error> {
        self.write.acquire().await
    }

    /// Starts a write transaction for one operation inside [`Sqlite::bounded`].
    ///
    /// # Errors
    ///
    /// If the writer is not free in time.
    pub(crate) async fn write(&self) -> Result<Transaction<'static, Engine>, sqlx::Error> {
        // A deferred transaction that starts with a read may fail when it has to become a writer.
        self.write.begin_with("BEGIN IMMEDIATE").await
    }

    /// Tries to open the file.
    pub(crate) async fn reach(&self) -> Result<(), String> {
        let opened = async {
            let mut connection = self.read.acquire().await?;
            sqlx::query("SELECT count(*) FROM sqlite_schema").execute(&mut *connection).await
        };
        let Err(error) = opened.await else { return Ok(()) };
        Err(format!("SQLite at {}: {}", self.place(), error::said_by_sqlite(&error)))
    }

    /// Runs the missing migrations and returns them.
    pub(crate) async fn run_migrations(
        &self,
        migrator: &Migrator,
    ) -> Result<Vec<Migrated>, StoreError> {
        // If nothing is missing, nothing is written.
        match migrate::compare(migrator, &self.applied().await?) {
            Ok(()) => return Ok(Vec::new()),
            Err(error @ StoreError::OtherService) => return Err(error),
            // The migrator looks again, under the lock.
            Err(_) => {}
        }
        // sqlx's migrator takes no lock on SQLite, so two processes would collide.
        let mut transaction = loop {
            match self.write().await {
                Err(error) if error::is_busy(&error) => {
                    tracing::info!("another process has the lock of the file: waiting for it");
                    tokio::time::sleep(MIGRATION_PAUSE).await;
                }
                result => break result.inspect_err(|error| self.judge(error))?,
            }
        };
        let migrated = migrate::sqlite::run(&mut transaction, migrator).await?;
        transaction.commit().await?;
        Ok(migrated)
    }

    /// The applied migrations.
    pub(crate) async fn applied(&self) -> Result<Vec<Applied>, StoreError> {
        self.bounded(async {
            let mut connection = self.read().await?;
            let exists =
                sqlx::query("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?")
                    .bind(MIGRATIONS_TABLE)
                    .fetch_optional(&mut *connection)
                    .await?;
            if exists.is_none() {
                return Ok(Vec::new());
            }
            let rows = sqlx::query_as(migrate::SELECT_APPLIED).fetch_all(&mut *connection).await?;
            Ok(migrate::applied(rows))
        })
        .await
    }

    /// Checks that the file can be read and written.
    ///
    /// # Errors
    ///
    /// If it cannot be read; [`StoreError::ReadOnly`] if it can only be read.
    pub(crate) async fn ping(&self) -> Result<(), StoreError> {
        self.bounded(async {
            let mut connection = self.read().await?;
            sqlx::query("SELECT count(*) FROM sqlite_schema").execute(&mut *connection).await?;
            Ok(())
        })
        .await?;
        match self.unwritable() {
            None => Ok(()),
            Some(why) => {
                self.report(&why);
                Err(StoreError::ReadOnly)
            }
        }
    }

    /// The number of connections that read.
    #[must_use]
    pub(crate) fn connections(&self) -> Connections {
        Connections::of(&self.read)
    }

    /// Closes all connections, which merges the write-ahead log into the file.
    pub(crate) async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }
}

/// The file or folder that this process may not write, although the database needs it: the file itself,
/// the log and its index beside it or, where they do not exist, their folder. SQLite gives the files
/// beside it the mode of the file, so they may stay read-only when the file no longer is. This asks the
/// system, because opening and closing the file would drop SQLite's locks on it in this process.
fn unwritable(file: &Path) -> Option<PathBuf> {
    use rustix::{
        fs::{Access, AtFlags, CWD, accessat},
        io::Errno,
    };

    let is_refused = |path: &PathBuf| {
        let answer = accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS);
        // If an old system cannot answer, assume that it is writable.
        matches!(answer, Err(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::NOENT))
    };
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).to_path_buf();
    let beside = |suffix: &str| {
        let mut path = file.as_os_str().to_owned();
        path.push(suffix);
        Some(PathBuf::from(path)).filter(|path| path.exists()).unwrap_or_else(|| folder.clone())
    };
    [file.to_path_buf(), beside("-wal"), beside("-shm")].into_iter().find(is_refused)
}

/// Whether the database is in memory.
pub(crate) fn is_in_memory(options: &SqliteConnectOptions) -> bool {
    let file = options.get_filename();
    file == Path::new(":memory:") || file.to_string_lossy().starts_with("file:sqlx-in-memory-")
}

/// Creates the directory of a file if it does not exist, so that only its owner can access it.
pub(crate) fn create_private_folder(file: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;

    match file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) if !folder.exists() => {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
        }
        _ => Ok(()),
    }
}

/// Creates the file and its directory if they do not exist, so that only their owner can access them,
/// because they contain password hashes and profiles. SQLite gives the files next to it the same mode.
pub(crate) fn create_private(file: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;

    create_private_folder(file)?;
    if file.is_dir() {
        return Err(std::io::ErrorKind::IsADirectory.into());
    }
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

//! The `backup` and `restore` subcommands of both services, for SQLite files. Postgres has its own tools.

use service_kit::print_line;
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Arg, ArgMatches, Command};
use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteLockingMode},
};

use crate::{
    Database, Migrations, error,
    migrate::{self, MIGRATIONS_TABLE},
    sqlite::{create_private_folder, is_in_memory},
};

/// How long to wait for a concurrent writer, or for a process that is just closing the file.
const PATIENCE: Duration = Duration::from_secs(4);

/// Why a backup or restore failed. The text is printed on the terminal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BackupError(String);

impl From<sqlx::Error> for BackupError {
    fn from(error: sqlx::Error) -> Self {
        Self(error::said_by_sqlite(&error))
    }
}

fn file_argument(help: &'static str) -> Arg {
    Arg::new("file")
        .value_name("FILE")
        .required(true)
        .value_parser(clap::value_parser!(PathBuf))
        .help(help)
}

/// The `backup` subcommand.
#[must_use]
pub fn backup_command() -> Command {
    Command::new("backup")
        .about("Copy the SQLite database into a file, also while the service runs; needs no setting but the database")
        .arg(file_argument("The copy, which must not exist yet"))
}

/// The `restore` subcommand.
#[must_use]
pub fn restore_command() -> Command {
    Command::new("restore")
        .about("Put a backup in the place of the SQLite database of a stopped service; needs no setting but the database")
        .arg(file_argument("The backup"))
}

fn argument(flags: &ArgMatches) -> Result<&PathBuf, BackupError> {
    flags.get_one("file").ok_or_else(|| BackupError("FILE is missing".to_owned()))
}

/// The options of a SQLite file.
fn sqlite<'d>(
    database: &'d Database,
    tool: &str,
) -> Result<(&'d SqliteConnectOptions, &'d Path), BackupError> {
    match database {
        Database::Sqlite(options) if !is_in_memory(options) => {
            Ok((options, options.get_filename()))
        }
        Database::Sqlite(_) => Err(BackupError("a database in memory has no file".to_owned())),
        Database::Postgres(_) => Err(BackupError(format!(
            "{} has tools of its own: use {tool}, as docs/operations.md says",
            database.describe()
        ))),
    }
}

/// Copies a consistent snapshot of the database into a file that only its owner can read. The file gets its
/// name only when all of it is on disk.
///
/// # Errors
///
/// If there is no database or not enough space, or if the file exists.
pub async fn backup(database: &Database, flags: &ArgMatches) -> Result<(), BackupError> {
    let (options, _) = sqlite(database, "pg_dump")?;
    let file = argument(flags)?;
    database.must_exist().map_err(|why| BackupError(format!("DATABASE_URL: {why}")))?;
    if file.exists() {
        return Err(BackupError(format!("{} exists: a backup replaces nothing", file.display())));
    }
    let part = beside(file, ".part");
    let named = |error: &io::Error| BackupError(format!("{}: {error}", file.display()));
    remove(&part).map_err(|error| named(&error))?;
    create(&part).map_err(|error| named(&error))?;
    let copied = async {
        let options = options.clone().create_if_missing(false).busy_timeout(PATIENCE);
        let mut connection = SqliteConnection::connect_with(&options).await?;
        sqlx::query("VACUUM INTO ?")
            .bind(part.to_string_lossy().into_owned())
            .execute(&mut connection)
            .await?;
        connection.close().await?;
        check(&part).await
    };
    let finished = match copied.await {
        // SQLite does not sync the copy to disk.
        Ok(()) => File::open(&part)
            .and_then(|copy| copy.sync_all())
            .and_then(|()| fs::rename(&part, file))
            .and_then(|()| sync_folder(file))
            .map_err(|error| named(&error)),
        Err(error) => Err(error),
    };
    if let Err(error) = finished {
        let _ = remove(&part);
        return Err(error);
    }
    let bytes = fs::metadata(file).map_err(|error| named(&error))?.len();
    print_line!("{} was copied to {}: {bytes} bytes", database.describe(), file.display());
    Ok(())
}

/// Replaces the database with a backup. The former database is kept next to it.
///
/// # Errors
///
/// If the file is damaged or not a backup of this service, if a service uses the database, or if the files
/// cannot be moved. The database is then unchanged.
pub async fn restore(
    database: &Database,
    migrations: &Migrations,
    flags: &ArgMatches,
) -> Result<(), BackupError> {
    let (options, path) = sqlite(database, "pg_restore")?;
    let file = argument(flags)?;
    let named = |error: &io::Error| BackupError(format!("{}: {error}", path.display()));
    let (incoming, before) = (beside(path, ".restoring"), beside(path, ".before-restore"));
    if before.exists() {
        return Err(BackupError(format!(
            "{} is there from an earlier restore: move it away or remove it first",
            before.display()
        )));
    }
    if has_log(file) {
        return Err(BackupError(format!(
            "{} has a log of changes beside it (-wal), so it is no backup but a database that is or was in \
             use: make a backup of it with the backup subcommand",
            file.display()
        )));
    }
    create_private_folder(path).map_err(|error| named(&error))?;
    remove(&incoming).map_err(|error| named(&error))?;
    copy(file, &incoming).map_err(|error| BackupError(format!("{}: {error}", file.display())))?;
    let put = async {
        check(&incoming).await.map_err(|BackupError(why)| {
            BackupError(format!("{}: {why}; nothing was changed", file.display()))
        })?;
        is_of_this_service(&incoming, migrations).await?;
        put_in_place(options, path, &incoming, &before).await
    };
    let result = put.await;
    let _ = remove(&incoming);
    result?;
    print_line!("{} was restored from {}", database.describe(), file.display());
    if before.exists() {
        print_line!("the database of before is at {}", before.display());
    }
    Ok(())
}

/// Replaces the database atomically, while it is locked against use.
async fn put_in_place(
    options: &SqliteConnectOptions,
    path: &Path,
    incoming: &Path,
    before: &Path,
) -> Result<(), BackupError> {
    let named = |error: &io::Error| BackupError(format!("{}: {error}", path.display()));
    let mut held = None;
    if path.exists() {
        let options = options
            .clone()
            .create_if_missing(false)
            .busy_timeout(PATIENCE)
            .locking_mode(SqliteLockingMode::Exclusive)
            // It is expected to wait.
            .disable_statement_logging();
        let taken = async {
            let mut connection = SqliteConnection::connect_with(&options).await?;
            connection.execute("BEGIN EXCLUSIVE; COMMIT").await?;
            // Merges the write-ahead log into the file, which is then complete on its own.
            connection.execute("PRAGMA journal_mode = DELETE").await?;
            Ok(connection)
        };
        held = match taken.await {
            Ok(connection) => Some(connection),
            Err(error) if error::is_busy(&error) => {
                return Err(BackupError(format!(
                    "{} is in use: stop the service first",
                    path.display()
                )));
            }
            // A damaged file can still be replaced; that is what backups are for.
            Err(error) if error::is_damaged_file(&error) => None,
            Err(error) => return Err(error.into()),
        };
        fs::hard_link(path, before)
            .or_else(|_| copy(path, before))
            .map_err(|error| named(&error))?;
    }
    // A leftover write-ahead log belongs to the former database.
    for log in ["-wal", "-shm"] {
        let (log, kept) = (beside(path, log), beside(before, log));
        match fs::rename(&log, &kept) {
            // SQLite itself removes it if a connection to a damaged file is just being closed.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(named(&error)),
            _ => {}
        }
    }
    fs::rename(incoming, path).and_then(|()| sync_folder(path)).map_err(|error| named(&error))?;
    if let Some(connection) = held {
        let _ = connection.close().await;
    }
    Ok(())
}

/// Checks that the file is an intact database.
async fn check(file: &Path) -> Result<(), BackupError> {
    let mut connection = open(file).await?;
    let said: String =
        sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(&mut connection).await?;
    connection.close().await?;
    if said == "ok" { Ok(()) } else { Err(BackupError(format!("the file is damaged: {said}"))) }
}

async fn is_of_this_service(file: &Path, migrations: &Migrations) -> Result<(), BackupError> {
    let mut connection = open(file).await?;
    let has_table = sqlx::query("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?")
        .bind(MIGRATIONS_TABLE)
        .fetch_optional(&mut connection)
        .await?;
    let applied = match has_table {
        Some(_) => {
            let rows = sqlx::query_as(migrate::SELECT_APPLIED).fetch_all(&mut connection).await?;
            migrate::applied(rows)
        }
        None => Vec::new(),
    };
    connection.close().await?;
    let is_ours = migrate::is_of_these(&migrations.sqlite, &applied);
    if applied.is_empty() || !is_ours {
        return Err(BackupError("the file is not a database of this service".to_owned()));
    }
    match migrate::compare(&migrations.sqlite, &applied) {
        Err(error @ crate::StoreError::Newer(_)) => Err(BackupError(error.to_string())),
        // An older backup is accepted: the service migrates it at its start.
        _ => Ok(()),
    }
}

async fn open(file: &Path) -> Result<SqliteConnection, BackupError> {
    let options = SqliteConnectOptions::new().filename(file).create_if_missing(false);
    Ok(SqliteConnection::connect_with(&options).await?)
}

/// The file's path with an additional suffix.
fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn has_log(file: &Path) -> bool {
    fs::metadata(beside(file, "-wal")).is_ok_and(|about| about.len() > 0)
}

/// Creates an empty file that only its owner can access.
fn create(file: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)
}

/// Copies a file so that only its owner can access it, and syncs it to disk.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let (mut from, mut to) = (File::open(from)?, create(to)?);
    io::copy(&mut from, &mut to)?;
    to.sync_all()
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Syncs the directory, so that a new name in it is durable.
fn sync_folder(file: &Path) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

//! Database errors, reduced to the kinds that a service handles differently.

use std::io;

use sqlx::migrate::MigrateError;

use crate::postgres::ConnectError;

/// A failure of a store. The cause is logged where it is converted and is not passed on, because its text
/// may quote data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, does not answer, or temporarily refuses. A retry may succeed.
    #[error("the database is unavailable")]
    Unavailable,
    /// The database answers but rejects writes, for example because it is a standby or a read-only file. A
    /// retry may succeed.
    #[error("the database takes no writes")]
    ReadOnly,
    /// The database was migrated by a newer version of the service.
    #[error(
        "the database has migration {0}, which this version does not know: it was made by a newer \
         version; start that one"
    )]
    Newer(i64),
    /// Another service has migrated the database.
    #[error("the database is that of another service: each service needs a database of its own")]
    OtherService,
    /// The database is not migrated yet.
    #[error("the database lacks migration {0}: run the migrate subcommand")]
    NotMigrated(i64),
    /// An applied migration differs from the one in this version.
    #[error("migration {0} in the database is not the one of this version")]
    Altered(i64),
    /// A migration failed.
    #[error("migration {version} failed: {said}")]
    Migration {
        /// Its number.
        version: i64,
        /// What the database said.
        said: String,
    },
    /// The role in the URL lacks a privilege.
    #[error(
        "the role of the URL may not do what was asked: grant it the rights, or use another role. \
         The server says: {0} (42501)"
    )]
    Denied(String),
    /// The database was reached but cannot be used in its present state.
    #[error("{0}")]
    Unusable(String),
    /// An internal error.
    #[error("the database refused an operation")]
    Internal,
}

impl StoreError {
    /// Whether a later retry may succeed.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable | Self::ReadOnly)
    }
}

impl StoreError {
    /// Logs that work in the background failed and will be tried again: at debug while the database is
    /// unavailable, which the health checks log, and otherwise as a warning.
    pub fn note(&self, what: &'static str) {
        if self.is_transient() {
            tracing::debug!(error = %self, "{what}");
        } else {
            tracing::warn!(error = %self, "{what}");
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if let sqlx::Error::Configuration(error) = &error {
            return Self::Unusable(error.to_string());
        }
        if is_read_only(&error) {
            // What is wrong with a file was already logged with its path.
            if !is_of_file(&error) {
                tracing::warn!("the database takes no writes");
            }
            return Self::ReadOnly;
        }
        if is_unavailable(&error) {
            // A failed connection and a file that cannot be used were already logged, with more details and
            // a limited rate.
            if !is_connect_error(&error) && !is_of_file(&error) {
                tracing::warn!(%error, "the database is unavailable");
            }
            return Self::Unavailable;
        }
        // Only the code of a database error is safe to log, because its text can quote a row.
        match error.as_database_error() {
            Some(error) if error.code().is_some_and(|code| code == "42501") => {
                // This message names a table or schema, and quotes no row.
                let said = error.message().to_owned();
                tracing::error!(code = "42501", said, "the database denied an operation");
                return Self::Denied(said);
            }
            Some(error) if error.code().is_some_and(|code| is_damaged(&code)) => {
                tracing::error!(code = error.code().as_deref(), "{DAMAGED}");
                return Self::Unusable(DAMAGED.to_owned());
            }
            Some(error) => {
                tracing::error!(
                    code = error.code().as_deref(),
                    "the database refused an operation"
                );
            }
            None => tracing::error!(%error, "an operation on the database failed"),
        }
        Self::Internal
    }
}

impl From<MigrateError> for StoreError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) => error.into(),
            MigrateError::ExecuteMigration(error, version) => match error.as_database_error() {
                // Migrations belong to us and their errors quote no rows, so the text is safe.
                Some(said) if !is_unavailable(&error) && !is_read_only(&error) => {
                    let code = said.code().unwrap_or_default();
                    Self::Migration { version, said: format!("{} ({code})", said.message()) }
                }
                _ => error.into(),
            },
            MigrateError::VersionMissing(version) => Self::Newer(version),
            MigrateError::VersionMismatch(version) => Self::Altered(version),
            error => {
                tracing::error!(%error, "cannot migrate the database");
                Self::Internal
            }
        }
    }
}

fn has_code(error: &sqlx::Error, codes: &[&str]) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| codes.contains(&&*code))
}

/// Whether the server rolled back a transaction in favour of a concurrent one and it should be retried: a
/// serialization failure or a deadlock (PostgreSQL, appendix A, class 40).
pub(crate) fn is_conflict(error: &sqlx::Error) -> bool {
    has_code(error, &["40001", "40P01"])
}

/// Whether the lock of another transaction was the cause: a lock timeout or a deadlock.
pub(crate) fn is_blocked(error: &sqlx::Error) -> bool {
    has_code(error, &["55P03", "40P01"])
}

/// Whether another process holds the lock of a SQLite file.
pub(crate) fn is_busy(error: &sqlx::Error) -> bool {
    sqlite_code(error).is_some_and(|code| [5, 6].contains(&code))
}

/// Whether the server or the file is read-only.
pub(crate) fn is_read_only(error: &sqlx::Error) -> bool {
    has_code(error, &["25006"]) || sqlite_code(error) == Some(8)
}

/// Whether an established connection was lost: broken, or closed by the server.
pub(crate) fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => !is_connect_error(error),
        sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            // Shutdown, crash, dropped database, session timeout; or a proxy that lost its server.
            code.len() == 5
                && (code.starts_with("57P")
                    || code.starts_with("08")
                    || ["25P03"].contains(&&*code))
        }),
        _ => false,
    }
}

/// The connection was lost during a commit, so it is unknown whether the commit took place.
#[derive(Debug, thiserror::Error)]
#[error("{0}, while a write was made durable: it may be, or not")]
struct Undecided(sqlx::Error);

/// Marks a lost connection as an error after which the operation must not be repeated.
pub(crate) fn undecided(error: sqlx::Error) -> sqlx::Error {
    if is_lost(&error) { sqlx::Error::Io(io::Error::other(Undecided(error))) } else { error }
}

/// Whether the operation had no effect and may be repeated on another connection.
pub(crate) fn may_be_repeated(error: &sqlx::Error) -> bool {
    let is_undecided = match error {
        sqlx::Error::Io(error) => {
            error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Undecided>)
        }
        _ => false,
    };
    is_read_only(error) || is_lost(error) && !is_undecided
}

fn is_connect_error(error: &sqlx::Error) -> bool {
    let sqlx::Error::Io(error) = error else { return false };
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<ConnectError>)
}

const DAMAGED: &str = "the file is damaged, or is no SQLite database: restore it from a backup, or correct \
                       the path in its URL";

/// The remedy if this user may not write to a SQLite file.
pub(crate) const LET_WRITE: &str = "let this user read and write the file and its folder";

/// Whether SQLite cannot use its file: read-only, an I/O error, a full disk, or a file that cannot be
/// opened.
pub(crate) fn is_of_file(error: &sqlx::Error) -> bool {
    sqlite_code(error).is_some_and(|code| [8, 10, 13, 14].contains(&code))
}

/// Describes why SQLite cannot use a file, and the remedy.
pub(crate) fn said_by_sqlite(error: &sqlx::Error) -> String {
    let said = error
        .as_database_error()
        .map_or_else(|| error.to_string(), |error| error.message().to_owned());
    match sqlite_code(error) {
        Some(11 | 26) => format!("{said}; {DAMAGED}"),
        Some(8 | 14) => format!("{said}; {LET_WRITE}"),
        Some(5 | 6) => format!("{said}; another process has the lock of the file"),
        _ => said,
    }
}

/// Adds the name of a SQLite file to the error of opening it.
pub(crate) fn cannot_open(file: &std::path::Path, error: &io::Error) -> io::Error {
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => "; let this user write to the folder",
        io::ErrorKind::IsADirectory => "; the URL must name a file",
        _ => "",
    };
    io::Error::new(
        error.kind(),
        format!("cannot make the file {}: {error}{advice}", file.display()),
    )
}

/// The primary result code of SQLite, which is the lowest byte of the extended one.
fn sqlite_code(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error()?.code()?;
    // Codes of Postgres have five characters.
    (code.len() < 5).then(|| code.parse::<u32>().ok())?.map(|code| code & 0xff)
}

/// Whether a SQLite file is malformed, or not a SQLite file.
pub(crate) fn is_damaged_file(error: &sqlx::Error) -> bool {
    sqlite_code(error).is_some_and(|code| [11, 26].contains(&code))
}

/// SQLite: the file is malformed, or not a SQLite file.
fn is_damaged(code: &str) -> bool {
    code.len() < 5 && code.parse::<u32>().is_ok_and(|code| [11, 26].contains(&(code & 0xff)))
}

fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::Protocol(_)
        | sqlx::Error::BeginFailed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| is_unavailable_code(&code)),
        _ => false,
    }
}

/// The SQLSTATE classes and codes of Postgres, and the result codes of SQLite, that are caused by the state
/// of the database and not by the query.
fn is_unavailable_code(code: &str) -> bool {
    if code.len() == 5 {
        return code.starts_with("08") // connection exception
            || code.starts_with("53") // insufficient resources: disk full, too many connections
            || code.starts_with("57P") // shutdown, crash, cannot connect now
            || code.starts_with("58") // system error, such as I/O
            || ["25P03", "28000", "28P01", "3D000", "40001", "40P01", "55P03", "57014"]
                .contains(&code);
    }
    // Busy, locked, I/O error, full, cannot open, protocol.
    code.parse::<u32>().is_ok_and(|code| [5, 6, 10, 13, 14, 15].contains(&(code & 0xff)))
}

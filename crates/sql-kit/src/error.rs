//! Errors of a database, reduced to what a service can act on.

use sqlx::migrate::MigrateError;

/// What went wrong in a store. The cause is logged where it is mapped and goes no further: its text
/// may quote data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, does not answer, or refuses for now. It may pass.
    #[error("the database is unavailable")]
    Unavailable,
    /// The database was migrated by a newer version of the service.
    #[error(
        "the database has migration {0}, which this version does not know: it was made by a newer \
         version; start that one"
    )]
    Newer(i64),
    /// The database is not migrated yet.
    #[error("the database lacks migration {0}: run the migrate subcommand")]
    NotMigrated(i64),
    /// A migration that was applied differs from ours.
    #[error("migration {0} in the database is not the one of this version")]
    Altered(i64),
    /// The role of the URL lacks a right.
    #[error(
        "the role of the URL may not do what was asked: grant it the rights, or migrate as another"
    )]
    Denied,
    /// A fault of ours.
    #[error("the database refused an operation")]
    Internal,
}

impl StoreError {
    /// Whether another try, later, may succeed.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable)
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if is_unavailable(&error) {
            tracing::warn!(%error, "the database is unavailable");
            return Self::Unavailable;
        }
        // Only the code of a database's own error is safe to log: its text can quote a row.
        match error.as_database_error() {
            Some(error) if error.code().is_some_and(|code| code == "42501") => {
                tracing::error!(code = "42501", "the database denied an operation");
                return Self::Denied;
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
            MigrateError::ExecuteMigration(error, _) => error.into(),
            MigrateError::VersionMissing(version) => Self::Newer(version),
            MigrateError::VersionMismatch(version) => Self::Altered(version),
            error => {
                tracing::error!(%error, "cannot migrate the database");
                Self::Internal
            }
        }
    }
}

/// Whether the server has given up a transaction in favour of another one, and says to try again: a
/// serialization failure or a deadlock (PostgreSQL, appendix A, class 40).
pub(crate) fn is_conflict(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| ["40001", "40P01"].contains(&&*code))
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

/// SQLSTATE classes and codes of Postgres, and result codes of SQLite, that tell of the database's
/// state rather than of our query.
fn is_unavailable_code(code: &str) -> bool {
    if code.len() == 5 {
        return code.starts_with("08") // connection exception
            || code.starts_with("53") // insufficient resources: disk full, too many connections
            || code.starts_with("57P") // shutdown, crash, cannot connect now
            || code.starts_with("58") // system error, such as I/O
            || ["25006", "28000", "28P01", "3D000", "40001", "40P01", "55P03", "57014"]
                .contains(&code);
    }
    // The lowest byte of an extended result code is the primary one: busy, locked, read-only, I/O
    // error, full, cannot open, protocol.
    code.parse::<u32>().is_ok_and(|code| [5, 6, 8, 10, 13, 14, 15].contains(&(code & 0xff)))
}

//! What the stores of both services share: connection pools whose waits are bounded, embedded
//! migrations, and the few kinds of error that a service tells apart. It holds no query.

mod error;
mod migrate;
mod postgres;
mod sqlite;

use std::time::Duration;

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
pub use error::StoreError;
pub use migrate::{MigrationSource, migrator};
pub use postgres::{Lease, Postgres};
pub use sqlite::{Sqlite, sqlite_time};
use sqlx::{postgres::PgConnectOptions, sqlite::SqliteConnectOptions};

/// How long one operation on the database may take in all. A database that hangs, rather than
/// refuses, is given up after this time.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(5);

/// The size and patience of a connection pool.
#[derive(Debug, Clone, Copy)]
pub struct PoolOptions {
    /// What the database calls us in its list of sessions.
    pub application: &'static str,
    /// The most connections at a time.
    pub max_connections: u32,
    /// How long an operation waits for a connection.
    pub acquire_timeout: Duration,
}

/// How many connections a store has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// Those that wait for work.
    pub idle: u32,
    /// Those at work.
    pub used: u32,
}

impl Connections {
    fn of<DB: sqlx::Database>(pool: &sqlx::Pool<DB>) -> Self {
        let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
        Self { idle, used: pool.size().saturating_sub(idle) }
    }

    /// The two numbers by the names that OpenTelemetry has for the states.
    #[must_use]
    pub fn by_state(self) -> Vec<(&'static str, f64)> {
        vec![("idle", f64::from(self.idle)), ("used", f64::from(self.used))]
    }
}

/// A database, as a `DATABASE_URL` names it.
#[derive(Clone)]
pub enum Database {
    /// `postgres://` or `postgresql://`.
    Postgres(Box<PgConnectOptions>),
    /// `sqlite:`, a file or `sqlite::memory:`.
    Sqlite(Box<SqliteConnectOptions>),
}

/// The engine only: the options print the password.
impl std::fmt::Debug for Database {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Postgres(_) => "Postgres",
            Self::Sqlite(_) => "Sqlite",
        })
    }
}

impl std::str::FromStr for Database {
    type Err = String;

    /// Chooses the engine by the scheme. The error does not repeat the URL, which may hold a
    /// password.
    fn from_str(url: &str) -> Result<Self, String> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let options = url.parse().map_err(|_| "is not a valid Postgres URL".to_owned())?;
            Ok(Self::Postgres(Box::new(options)))
        } else if url.starts_with("sqlite:") {
            let options = url.parse().map_err(|_| "is not a valid SQLite URL".to_owned())?;
            Ok(Self::Sqlite(Box::new(options)))
        } else {
            Err("must start with postgres://, postgresql:// or sqlite:".to_owned())
        }
    }
}

/// The present time in the precision that both engines keep: microseconds. What is stored is then
/// exactly what was answered.
#[must_use]
pub fn now() -> DateTime<Utc> {
    let now = Utc::now();
    now.duration_trunc(TimeDelta::microseconds(1)).unwrap_or(now)
}

/// Gives up an operation after [`OPERATION_TIMEOUT`].
///
/// # Errors
///
/// Those of the operation, and [`StoreError::Unavailable`] when it takes too long.
pub async fn bounded<T>(
    operation: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(OPERATION_TIMEOUT, operation).await {
        Ok(result) => result.map_err(StoreError::from),
        Err(_) => {
            tracing::warn!(seconds = OPERATION_TIMEOUT.as_secs(), "the database does not answer");
            Err(StoreError::Unavailable)
        }
    }
}

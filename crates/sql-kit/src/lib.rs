//! The database layer that both services share: connection pools with bounded waits, embedded migrations,
//! and the kinds of errors that services handle differently. It contains no queries.

pub mod backup;
mod clock;
pub mod command;
mod error;
mod migrate;
mod observe;
mod operation;
mod postgres;
pub mod settings;
mod sql;
mod sqlite;
mod start;
pub mod transfer;
mod url;
mod value;

use std::time::Duration;

use crate::settings::{PoolMode, PoolSettings};
pub use error::StoreError;
pub use migrate::{Migrated, MigrationSource, MigrationState, migrator};
pub use operation::Kind;
use postgres::{Lease, Postgres};
use service_kit::{
    clock::Clock,
    health::Successes,
    metrics::{Durations, Metrics, Unit as MetricUnit},
};
pub use settings::DatabaseSettings;
pub use sql::{Migrations, Sql, Statement, Unit};
use sqlite::Sqlite;
pub use sqlx::Error as SqlError;
use sqlx::sqlite::SqliteConnectOptions;
pub use start::Starting;
pub use url::Servers;
pub use value::{Column, Row, Value};

/// The total time limit of one database operation. It is for databases that hang instead of failing.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(5);

/// The options of a connection pool.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// The application name in the database's list of sessions.
    pub application: &'static str,
    /// The most connections at a time.
    pub max_connections: u32,
    /// How long an operation waits for a connection.
    pub acquire_timeout: Duration,
    /// Whether a proxy such as PgBouncer assigns a server connection only for a transaction at a time. Only
    /// for Postgres.
    pub transaction_pooling: bool,
    /// Where the durations of operations are recorded.
    pub durations: Durations,
    /// The clock that is kept in step with the database's.
    pub clock: Clock,
    /// Where successful operations are recorded.
    pub successes: Successes,
}

impl PoolOptions {
    /// The pool of a short-lived command.
    #[must_use]
    pub fn for_command(application: &'static str) -> Self {
        let metrics = Metrics::default();
        Self {
            application,
            max_connections: 2,
            acquire_timeout: OPERATION_TIMEOUT,
            transaction_pooling: false,
            durations: metrics.durations("db.client.operation.duration", "", "db.system.name", &[]),
            clock: Clock::default(),
            successes: Successes::default(),
        }
    }

    /// The pool of the service `application`, according to its settings.
    #[must_use]
    pub fn new(application: &'static str, settings: &PoolSettings, metrics: &Metrics) -> Self {
        let help = "Duration of operations on the database, with the wait for a connection";
        let clock = Clock::default();
        let ahead = clock.clone();
        metrics.gauge(
            "db.client.clock.offset",
            "How far the database's clock is ahead of this machine's",
            MetricUnit::Seconds,
            move || Some(ahead.offset().as_seconds_f64()),
        );
        Self {
            clock,
            successes: Successes::default(),
            application,
            max_connections: settings.max_connections,
            acquire_timeout: settings.acquire_timeout,
            transaction_pooling: settings.mode == PoolMode::Transaction,
            durations: metrics.durations(
                "db.client.operation.duration",
                help,
                "db.system.name",
                &[],
            ),
        }
    }
}

/// The number of connections of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// Idle connections.
    pub idle: u32,
    /// Connections in use.
    pub used: u32,
}

impl Connections {
    /// The connections of an sqlx pool.
    fn of<DB: sqlx::Database>(pool: &sqlx::Pool<DB>) -> Self {
        let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
        Self { idle, used: pool.size().saturating_sub(idle) }
    }

    /// The numbers, labelled with OpenTelemetry's names of the states.
    #[must_use]
    pub fn by_state(self) -> Vec<(&'static str, f64)> {
        vec![("idle", f64::from(self.idle)), ("used", f64::from(self.used))]
    }
}

/// A database, as a `DATABASE_URL` names it.
#[derive(Clone)]
pub enum Database {
    /// `postgres://` or `postgresql://`: one or several servers, of which one is the primary.
    Postgres(Servers),
    /// `sqlite:`, a file or `sqlite::memory:`.
    Sqlite(Box<SqliteConnectOptions>),
}

impl Database {
    /// Checks that a SQLite file exists. A command that reads or changes a database must not create it.
    ///
    /// # Errors
    ///
    /// If there is none, or if that cannot be told. The text names the file.
    pub fn must_exist(&self) -> Result<(), String> {
        let Self::Sqlite(options) = self else { return Ok(()) };
        let path = options.get_filename();
        match path.try_exists() {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!(
                "there is no database at {}; serve or migrate makes it",
                path.display()
            )),
            Err(error) => Err(format!("cannot look at {}: {error}", path.display())),
        }
    }

    /// The engine, address and name for messages, without credentials.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Postgres(servers) => {
                let addresses: Vec<String> = servers.iter().map(url::address).collect();
                let name = servers.first().map(url::database).unwrap_or_default();
                format!("Postgres at {}, database \"{name}\"", addresses.join(" and "))
            }
            Self::Sqlite(options) => format!("SQLite at {}", options.get_filename().display()),
        }
    }
}

/// Prints only the engine, because the options would print the password.
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

    /// Selects the engine by the scheme. Parameters that a Postgres URL omits come from libpq's environment
    /// variables (`PGUSER`, `PGPASSWORD`, `PGSSLMODE`, …). The error does not quote the URL, because it may
    /// contain a password.
    fn from_str(url: &str) -> Result<Self, String> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            #[expect(clippy::disallowed_methods, reason = "they are libpq's, not settings of ours")]
            let servers = url::read(url, |name| std::env::var(name).ok())?;
            Ok(Self::Postgres(servers))
        } else if url.starts_with("sqlite:") {
            let options: SqliteConnectOptions =
                url.parse().map_err(|_| "is not a valid SQLite URL".to_owned())?;
            if options.get_filename().as_os_str().is_empty() {
                return Err("names no file, such as sqlite://data/name.db".to_owned());
            }
            Ok(Self::Sqlite(Box::new(options)))
        } else {
            Err("must start with postgres://, postgresql:// or sqlite:".to_owned())
        }
    }
}

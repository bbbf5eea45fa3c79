//! What the stores of both services share: connection pools whose waits are bounded, embedded
//! migrations, and the few kinds of error that a service tells apart. It holds no query.

pub mod backup;
mod clock;
pub mod command;
mod error;
mod migrate;
mod observe;
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
use postgres::{Lease, Postgres};
use service_kit::{
    clock::Clock,
    health::Successes,
    metrics::{Durations, Metrics, Unit as MetricUnit},
};
pub use settings::DatabaseSettings;
pub use sql::{Kind, Migrations, Sql, Statement, Unit};
use sqlite::Sqlite;
pub use sqlx::Error as SqlError;
use sqlx::sqlite::SqliteConnectOptions;
pub use start::Starting;
pub use url::Servers;
pub use value::{Column, Row, Value};

/// How long one operation on the database may take in all. A database that hangs, rather than
/// refuses, is given up after this time.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(5);

/// The size and patience of a connection pool.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// What the database calls us in its list of sessions.
    pub application: &'static str,
    /// The most connections at a time.
    pub max_connections: u32,
    /// How long an operation waits for a connection.
    pub acquire_timeout: Duration,
    /// Whether a proxy such as PgBouncer gives us a server for one transaction at a time. Of Postgres
    /// only.
    pub transaction_pooling: bool,
    /// Where the durations of operations are noted.
    pub durations: Durations,
    /// The clock that follows the database's.
    pub clock: Clock,
    /// Where it is noted that the database has carried out an operation.
    pub successes: Successes,
}

impl PoolOptions {
    /// The pool of a command that one person has called, for a moment.
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

    /// The pool of the service `application`, as its settings say.
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

/// How many connections a store has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// Those that wait for work.
    pub idle: u32,
    /// Those at work.
    pub used: u32,
}

impl Connections {
    /// Those of a pool of sqlx.
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
    /// `postgres://` or `postgresql://`: the servers, of which one is the primary.
    Postgres(Servers),
    /// `sqlite:`, a file or `sqlite::memory:`.
    Sqlite(Box<SqliteConnectOptions>),
}

impl Database {
    /// Engine, address and name, without a credential, for messages.
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

    /// Chooses the engine by the scheme. What a Postgres URL leaves open is as libpq's environment
    /// variables say (`PGUSER`, `PGPASSWORD`, `PGSSLMODE`, …). The error does not repeat the URL, which may
    /// hold a password.
    fn from_str(url: &str) -> Result<Self, String> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            #[expect(clippy::disallowed_methods, reason = "they are libpq's, not settings of ours")]
            let servers = url::read(url, |name| std::env::var(name).ok())?;
            Ok(Self::Postgres(servers))
        } else if url.starts_with("sqlite:") {
            let options = url.parse().map_err(|_| "is not a valid SQLite URL".to_owned())?;
            Ok(Self::Sqlite(Box::new(options)))
        } else {
            Err("must start with postgres://, postgresql:// or sqlite:".to_owned())
        }
    }
}

//! The settings of a service's database.

use std::time::Duration;

use service_kit::settings::{Group, Setting, Source, boolean, number, seconds};

use crate::{Database, url};

/// How a proxy before Postgres assigns server connections to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolMode {
    /// For as long as the client is connected. This is equivalent to no proxy.
    Session,
    /// For one transaction at a time.
    Transaction,
}

impl std::str::FromStr for PoolMode {
    type Err = String;

    fn from_str(mode: &str) -> Result<Self, String> {
        match mode {
            "session" => Ok(Self::Session),
            "transaction" => Ok(Self::Transaction),
            _ => Err("is neither session nor transaction".to_owned()),
        }
    }
}

service_kit::settings! {
    "Database"
    /// How the database is used.
    pub struct PoolSettings {
        /// The most connections to the database at a time, 1 to 1000.
        max_connections: u32 = value DATABASE_MAX_CONNECTIONS("8", number(1, 1000));
        /// How long a request waits for a connection to the database, in seconds, 1 to 60.
        acquire_timeout: Duration = value DATABASE_ACQUIRE_TIMEOUT("3", seconds(1, 60));
        /// How a proxy before Postgres, such as PgBouncer, gives out servers: session, also without a
        /// proxy, or transaction (then MIGRATE_ON_START must be false).
        mode: PoolMode = value DATABASE_POOL_MODE("session", str::parse);
        /// Whether the database is migrated at start: true or false (then run the migrate subcommand).
        migrate_on_start: bool = value MIGRATE_ON_START("true", boolean);
    }
}

/// The groups of this module. The URL is not included, because its default depends on the service.
pub const GROUPS: &[Group] = &[PoolSettings::GROUP];

/// A service's database, and how it is used.
#[derive(Debug)]
pub struct DatabaseSettings {
    /// Where it is.
    pub database: Database,
    /// How it is used.
    pub pool: PoolSettings,
}

/// Reads the database alone; `setting` is the service's `DATABASE_URL`.
pub fn database(setting: &Setting, source: &mut Source) -> Database {
    let mut database = source.value(setting, str::parse);
    if let Database::Postgres(servers) = &mut database {
        servers.variable = source.name(setting);
    }
    database
}

impl DatabaseSettings {
    /// Logs which database the service uses, without credentials.
    pub fn note(&self, service: &'static str) {
        match &self.database {
            Database::Postgres(servers) => {
                let hosts: Vec<_> = servers.iter().map(url::address).collect();
                let name = servers.first().map(url::database);
                tracing::info!(
                    service,
                    engine = "postgresql",
                    host = hosts.join(","),
                    name,
                    "database"
                );
            }
            Database::Sqlite(options) => {
                let name = options.get_filename().display().to_string();
                tracing::info!(service, engine = "sqlite", name, "database");
            }
        }
    }

    /// Reads the settings; `setting` is the service's `DATABASE_URL`.
    pub fn read(setting: &Setting, source: &mut Source) -> Self {
        let database = database(setting, source);
        let pool = PoolSettings::read(source);
        if pool.mode == PoolMode::Transaction && pool.migrate_on_start {
            // The lock of migrations belongs to a session, which a proxy with transaction pooling does
            // not preserve.
            source.fault(
                &MIGRATE_ON_START,
                "must be false with DATABASE_POOL_MODE=transaction: run the migrate subcommand with \
                 the URL of Postgres itself in place of the proxy's",
            );
        }
        Self { database, pool }
    }
}

//! The store: profiles, tombstones, and the outbox of deletions. Statements are by subject in files
//! of their own, written once for both engines where they read them alike; one suite of tests runs on
//! both (`tests/it/store.rs`). Every operation is atomic, durable when it returns, and bounded in
//! time.

mod deletions;
mod profiles;

use std::{io, sync::LazyLock};

pub use outbox::Origin;
use outbox::Outbox;
use service_kit::{clock::Clock, health::Successes};
pub use sql_kit::StoreError;
use sql_kit::{
    Connections, Database, Migrations, PoolOptions, Sql, migrator, read, transaction, values,
};

pub use self::deletions::{Deletion, OUTBOX};

macro_rules! migrations {
    ($engine:literal) => {
        migrator(&[
            (1, "profiles", include_str!(concat!("../migrations/", $engine, "/0001_profiles.sql"))),
            (
                2,
                "traceparent",
                include_str!(concat!("../migrations/", $engine, "/0002_traceparent.sql")),
            ),
            (3, "leases", include_str!(concat!("../migrations/", $engine, "/0003_leases.sql"))),
            (4, "cursors", include_str!(concat!("../migrations/", $engine, "/0004_cursors.sql"))),
        ])
    };
}

/// The migrations of both engines.
pub static MIGRATIONS: LazyLock<Migrations> = LazyLock::new(|| Migrations {
    postgres: migrations!("postgres"),
    sqlite: migrations!("sqlite"),
});

/// The database of the user service. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Store {
    sql: Sql,
    outbox: Outbox,
}

impl Store {
    /// Opens the store. Nothing is connected before the first operation.
    ///
    /// # Errors
    ///
    /// Where the folder of a SQLite file cannot be made.
    pub fn open(database: &Database, options: PoolOptions) -> io::Result<Self> {
        let sql = Sql::open(database, options)?;
        Ok(Self { outbox: Outbox::new(sql.clone(), &OUTBOX), sql })
    }

    /// The deletions that the auth service has not been told of.
    #[must_use]
    pub const fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// The database's clock, as of the last [`Store::ping`].
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        self.sql.clock()
    }

    /// Where it is noted that the database has carried out an operation: for readiness.
    #[must_use]
    pub const fn successes(&self) -> &Successes {
        self.sql.successes()
    }

    /// Runs the migrations that are missing. Safe when several replicas do it at once.
    ///
    /// # Errors
    ///
    /// [`StoreError::Newer`] for a database that knows more migrations than we do.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        self.sql.migrate(&MIGRATIONS).await
    }

    /// Checks that the database has our migrations, no fewer and no more.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotMigrated`] or [`StoreError::Newer`].
    pub async fn check_migrated(&self) -> Result<(), StoreError> {
        self.sql.check_migrated(&MIGRATIONS).await
    }

    /// Asks for a sign of life, and sets the clock by the database's.
    ///
    /// # Errors
    ///
    /// Where there is none.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.sql.ping().await
    }

    /// The secret that all replicas share under `name`; `fresh` becomes it if there is none.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn shared_secret(&self, name: &str, fresh: &[u8]) -> Result<Vec<u8>, StoreError> {
        const FIND: &str = "SELECT value FROM secrets WHERE name = $1";
        // A database that takes no writes has one already.
        let found = read!(self.sql, |unit| unit.fetch_optional(FIND, values![name]).await).await?;
        if let Some(row) = found {
            return Ok(row.get("value")?);
        }
        transaction!(self.sql, |unit| {
            unit.execute(
                "INSERT INTO secrets (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
                values![name, fresh],
            )
            .await?;
            unit.fetch_one(FIND, values![name]).await?.get("value")
        })
        .await
    }

    /// How many connections it has.
    #[must_use]
    pub fn connections(&self) -> Connections {
        self.sql.connections()
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.sql.close().await;
    }
}

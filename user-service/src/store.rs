//! The store: profiles, tombstones and the outbox of deletions. Statements are grouped by subject in
//! files of their own, and written once where both engines understand them; one test suite runs on
//! both (`tests/it/store.rs`). Every operation is atomic, durable when it returns, and limited in
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

/// The database of the user service. Clones share its connection pool.
#[derive(Debug, Clone)]
pub struct Store {
    sql: Sql,
    outbox: Outbox,
}

impl Store {
    /// Opens the store. The first operation opens a connection.
    ///
    /// # Errors
    ///
    /// If the directory of a SQLite file cannot be created.
    pub fn open(database: &Database, options: PoolOptions) -> io::Result<Self> {
        let sql = Sql::open(database, options)?;
        Ok(Self { outbox: Outbox::new(sql.clone(), &OUTBOX), sql })
    }

    /// The deletions that have not been delivered to the auth service yet.
    #[must_use]
    pub const fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// The database's clock, as of the last [`Store::ping`].
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        self.sql.clock()
    }

    /// The record of successful operations, for readiness.
    #[must_use]
    pub const fn successes(&self) -> &Successes {
        self.sql.successes()
    }

    /// Tries whether the database can be reached.
    ///
    /// # Errors
    ///
    /// If it cannot. The text contains the database, its message and a remedy.
    pub async fn reach(&self) -> Result<(), String> {
        self.sql.reach().await
    }

    /// Runs the missing migrations. Several replicas may do so at the same time.
    ///
    /// # Errors
    ///
    /// [`StoreError::Newer`] if the database has migrations that this version does not know.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        self.sql.migrate(&MIGRATIONS).await
    }

    /// Checks that the database has exactly the migrations of this version.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotMigrated`] or [`StoreError::Newer`].
    pub async fn check_migrated(&self) -> Result<(), StoreError> {
        self.sql.check_migrated(&MIGRATIONS).await
    }

    /// Checks that the database answers, and sets the clock by it.
    ///
    /// # Errors
    ///
    /// If it does not answer.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.sql.ping().await
    }

    /// The secret that all replicas share under `name`. If there is none yet, `fresh` is stored as
    /// that secret.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn shared_secret(&self, name: &str, fresh: &[u8]) -> Result<Vec<u8>, StoreError> {
        const FIND: &str = "SELECT value FROM secrets WHERE name = $1";
        // Looks first, so that a read-only database that has the secret is enough.
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

    /// The state of the connection pool.
    #[must_use]
    pub fn connections(&self) -> Connections {
        self.sql.connections()
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.sql.close().await;
    }
}

//! The store: the database of the service, by subject. The functions of a subject's module work on a [`Unit`], so that
//! one transaction can write several subjects. One test suite runs them on both engines (`tests/it/store.rs`).

pub mod account_list;
pub mod accounts;
pub mod attempts;
pub mod deletions;
pub mod events;
pub mod imports;
pub mod keys;
pub mod links;
pub mod registrations;
pub mod revocations;
pub mod secrets;
pub mod sessions;

use std::{
    io,
    ops::Deref,
    sync::{Arc, LazyLock},
};

use chrono::{DateTime, Utc};
use outbox::Outbox;
use sql_kit::{Database, Migrations, PoolOptions, Sql, migrator};
pub use sql_kit::{StoreError, Unit};

pub use self::{
    accounts::AccountRecord, events::EventRecord, keys::KeyRecord, sessions::SessionRecord,
};
use crate::webhooks::WEBHOOKS;

macro_rules! migrations {
    ($engine:literal) => {
        migrator(&[
            (1, "accounts", include_str!(concat!("../migrations/", $engine, "/0001_accounts.sql"))),
            (2, "throttle", include_str!(concat!("../migrations/", $engine, "/0002_throttle.sql"))),
            (3, "sessions", include_str!(concat!("../migrations/", $engine, "/0003_sessions.sql"))),
            (4, "imports", include_str!(concat!("../migrations/", $engine, "/0004_imports.sql"))),
            (
                5,
                "deletions",
                include_str!(concat!("../migrations/", $engine, "/0005_deletions.sql")),
            ),
            (
                6,
                "credentials",
                include_str!(concat!("../migrations/", $engine, "/0006_credentials.sql")),
            ),
            (7, "events", include_str!(concat!("../migrations/", $engine, "/0007_events.sql"))),
            (
                8,
                "accounts_by_creation",
                include_str!(concat!("../migrations/", $engine, "/0008_accounts_by_creation.sql")),
            ),
            (
                9,
                "accounts_disabled",
                include_str!(concat!("../migrations/", $engine, "/0009_accounts_disabled.sql")),
            ),
        ])
    };
}

/// The migrations of both engines.
pub static MIGRATIONS: LazyLock<Migrations> = LazyLock::new(|| Migrations {
    postgres: migrations!("postgres"),
    sqlite: migrations!("sqlite"),
});

/// The database of the auth service. Every operation ([`sql_kit::read`], [`sql_kit::write_one`],
/// [`sql_kit::transaction`]) is atomic, durable when it returns, and limited in time. Clones share the connection pool.
#[derive(Debug, Clone)]
pub struct Store {
    sql: Sql,
    /// The outbox of webhooks, if there is a receiver.
    webhooks: Option<Arc<Outbox>>,
}

impl Store {
    /// Opens the store. The first operation opens a connection.
    ///
    /// # Errors
    ///
    /// If the directory of a SQLite file cannot be created.
    pub fn open(database: &Database, options: PoolOptions) -> io::Result<Self> {
        Ok(Self { sql: Sql::open(database, options)?, webhooks: None })
    }

    /// Queues a webhook for every recorded event.
    #[must_use]
    pub fn with_webhooks(mut self) -> Self {
        self.webhooks = Some(Arc::new(Outbox::new(self.sql.clone(), &WEBHOOKS)));
        self
    }

    /// The outbox of webhooks, if webhooks are on.
    #[must_use]
    pub fn webhooks(&self) -> Option<&Outbox> {
        self.webhooks.as_deref()
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

    /// The current time, by the database's clock.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.sql.clock().now()
    }
}

impl Deref for Store {
    type Target = Sql;

    fn deref(&self) -> &Sql {
        &self.sql
    }
}

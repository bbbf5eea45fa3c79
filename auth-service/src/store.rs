//! The store: accounts and signing keys. One trait, two engines, and one suite of tests for both
//! (`tests/it/store.rs`).

mod postgres;
mod sqlite;

use std::{fmt::Debug, io, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sql_kit::{Database, PoolOptions};
pub use sql_kit::StoreError;

use crate::domain::{AccountId, Email};

/// An account as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRecord {
    /// Its id.
    pub id: AccountId,
    /// Its email; no other account has it.
    pub email: Email,
    /// The hash of its password.
    pub password_hash: String,
    /// The algorithm and parameters of the hash, as [`crate::password::Scheme`] writes them.
    pub hash_scheme: String,
    /// When it was created, in microseconds' precision.
    pub created_at: DateTime<Utc>,
}

/// A signing key as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its id.
    pub kid: String,
    /// Its algorithm (RFC 7518, section 3.1).
    pub algorithm: String,
    /// The private key, encrypted.
    pub sealed_key: Vec<u8>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// From when on it signs.
    pub activates_at: DateTime<Utc>,
}

/// What the service asks of its database. Every operation is atomic, durable when it returns, and
/// bounded in time.
#[async_trait]
pub trait Store: Debug + Send + Sync {
    /// Runs the migrations that are missing. Safe when several replicas do it at once.
    async fn migrate(&self) -> Result<(), StoreError>;

    /// Checks that the database has our migrations, no fewer and no more.
    async fn check_migrated(&self) -> Result<(), StoreError>;

    /// Asks for a sign of life.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Adds an account; `false` if its email has one.
    async fn create_account(&self, account: &AccountRecord) -> Result<bool, StoreError>;

    /// Finds an account by its email.
    async fn account_by_email(&self, email: &Email) -> Result<Option<AccountRecord>, StoreError>;

    /// Whether an account exists.
    async fn account_exists(&self, id: AccountId) -> Result<bool, StoreError>;

    /// Replaces the hash of an account's password if it is still `before`, so that of two that
    /// replace it at once neither undoes the other. Returns whether it did.
    async fn replace_password_hash(
        &self,
        id: AccountId,
        before: &str,
        after: &str,
        scheme: &str,
    ) -> Result<bool, StoreError>;

    /// Deletes an account with all that belongs to it; `false` if there is none.
    async fn delete_account(&self, id: AccountId) -> Result<bool, StoreError>;

    /// The schemes of all stored password hashes, each once.
    async fn hash_schemes(&self) -> Result<Vec<String>, StoreError>;

    /// All signing keys by time of activation.
    async fn signing_keys(&self) -> Result<Vec<KeyRecord>, StoreError>;

    /// Adds a signing key if `expected` is the one that is activated last at this moment, or there
    /// is none and `expected` is absent. Returns whether it did.
    async fn add_signing_key(
        &self,
        key: &KeyRecord,
        expected: Option<&str>,
    ) -> Result<bool, StoreError>;

    /// Removes a signing key.
    async fn remove_signing_key(&self, kid: &str) -> Result<(), StoreError>;

    /// Closes all connections.
    async fn close(&self);
}

/// Opens the store. Nothing is connected before the first operation.
///
/// # Errors
///
/// Where the folder of a SQLite file cannot be made.
pub fn open(database: &Database, options: PoolOptions) -> io::Result<Arc<dyn Store>> {
    Ok(match database {
        Database::Postgres(connect) => {
            Arc::new(postgres::PostgresStore::open((**connect).clone(), options))
        }
        Database::Sqlite(connect) => {
            Arc::new(sqlite::SqliteStore::open((**connect).clone(), options)?)
        }
    })
}

/// An email that was stored has been parsed before; another one is damage.
fn stored_email(text: &str) -> Result<Email, sqlx::Error> {
    Email::parse(text).map_err(|_| sqlx::Error::Decode("a stored email is malformed".into()))
}

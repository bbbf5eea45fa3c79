//! The store: profiles, tombstones and the outbox of deletions. One trait, two engines, and one
//! suite of tests for both (`tests/it/store.rs`).

mod postgres;
mod sqlite;

use std::{fmt::Debug, io, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
pub use sql_kit::StoreError;
use sql_kit::{Connections, Database, PoolOptions};

use crate::{
    domain::{Profile, UserId},
    page_token::Cursor,
};

/// The request that a deletion comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Its id.
    pub request_id: String,
    /// Its trace (W3C Trace Context); empty if that is not known.
    pub traceparent: String,
}

impl Origin {
    /// The id of the trace, if it is known.
    #[must_use]
    pub fn trace_id(&self) -> Option<&str> {
        self.traceparent.split('-').nth(1)
    }
}

/// Which profile to delete.
#[derive(Debug, Clone, Copy)]
pub struct Deletion<'a> {
    /// Its id.
    pub id: UserId,
    /// The version that it must still have.
    pub version: i64,
    /// The request that deletes it.
    pub origin: &'a Origin,
}

/// A deletion that the auth service has to be told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEntry {
    /// The deleted account.
    pub account_id: UserId,
    /// The request that deleted its profile.
    pub origin: Origin,
    /// When that was.
    pub created_at: DateTime<Utc>,
    /// How many attempts there have been, the one that is now made included.
    pub attempts: i32,
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

    /// The secret that all replicas share under `name`; `fresh` becomes it if there is none.
    async fn shared_secret(&self, name: &str, fresh: &[u8]) -> Result<Vec<u8>, StoreError>;

    /// Finds the profiles with these ids, as far as they exist, in no particular order.
    async fn profiles(&self, ids: &[UserId]) -> Result<Vec<Profile>, StoreError>;

    /// Adds a profile, unless its id has one or was deleted. Returns whether it did.
    async fn create_profile(&self, profile: &Profile) -> Result<bool, StoreError>;

    /// Replaces a profile if it still has the version before that of `profile`, so that of two that
    /// replace it at once one fails. Returns whether it did.
    async fn update_profile(&self, profile: &Profile) -> Result<bool, StoreError>;

    /// Notes that a token of `iat` names the email that the profile has, unless a newer one did.
    async fn confirm_email(&self, id: UserId, iat: i64) -> Result<(), StoreError>;

    /// Deletes a profile if it still has its version; leaves a tombstone and an outbox entry, due at
    /// once, in the same transaction. Returns whether it did.
    async fn delete_profile(
        &self,
        deletion: Deletion<'_>,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError>;

    /// Whether there is a tombstone.
    async fn is_deleted(&self, id: UserId) -> Result<bool, StoreError>;

    /// The first `limit` profiles after a place, by creation, then id.
    async fn page(&self, after: Option<Cursor>, limit: u32) -> Result<Vec<Profile>, StoreError>;

    /// Takes up to `limit` outbox entries that are due at `now`, the longest due first, and makes
    /// them due again at `lease_until`: nobody else takes them before, and nothing is lost if the
    /// taker dies.
    async fn take_due(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<OutboxEntry>, StoreError>;

    /// How many entries the outbox has, and when the oldest was made.
    async fn backlog(&self) -> Result<(i64, Option<DateTime<Utc>>), StoreError>;

    /// The first `limit` entries of the outbox, the oldest first.
    async fn outbox(&self, limit: u32) -> Result<Vec<OutboxEntry>, StoreError>;

    /// Makes all entries of the outbox due at `now`. Returns how many.
    async fn retry_all(&self, now: DateTime<Utc>) -> Result<u64, StoreError>;

    /// Removes an outbox entry that was delivered.
    async fn remove_delivered(&self, account_id: UserId) -> Result<(), StoreError>;

    /// Makes an outbox entry due at another time.
    async fn postpone(&self, account_id: UserId, due_at: DateTime<Utc>) -> Result<(), StoreError>;

    /// How many connections it has.
    fn connections(&self) -> Connections;

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
            Arc::new(postgres::PostgresStore::open(connect.clone(), options))
        }
        Database::Sqlite(connect) => {
            Arc::new(sqlite::SqliteStore::open((**connect).clone(), options)?)
        }
    })
}

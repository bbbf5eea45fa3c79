//! The store: accounts and signing keys. One trait, two engines, and one suite of tests for both
//! (`tests/it/store.rs`).

mod postgres;
mod sqlite;

use std::{fmt::Debug, io, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
pub use sql_kit::StoreError;
use sql_kit::{Connections, Database, PoolOptions};

use service_kit::client_address::Network;

use crate::{
    domain::{AccountId, Email},
    throttle::{FailureLimits, Subject},
};

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

/// Whether a login may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// It may. It is counted as if it would fail until [`Store::settle_attempt`].
    Counted,
    /// Not yet: attempts under way may use up what is left. It is not counted.
    Busy,
    /// The account has had its failures from this network. It is not counted.
    PairExhausted {
        /// When the window ends.
        until: DateTime<Utc>,
    },
    /// The account has had its failures from all networks together. It is not counted.
    AccountExhausted {
        /// When the window ends.
        until: DateTime<Utc>,
    },
}

/// How an attempt that was counted has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The password was wrong.
    Failed,
    /// The password was right: the pair starts afresh.
    Succeeded,
    /// The password was not looked at: the attempt did not happen.
    Abandoned,
}

/// A row after an attempt was reserved in it.
struct Reserved {
    failures: i32,
    /// The attempt itself included.
    pending: i32,
    until: DateTime<Utc>,
}

impl Reserved {
    /// Why the attempt may not be made, if it may not.
    fn refused(&self, limit: u32, pair: bool) -> Option<Attempt> {
        let (failures, pending) = (i64::from(self.failures), i64::from(self.pending));
        let until = self.until;
        if failures >= i64::from(limit) {
            return Some(match pair {
                true => Attempt::PairExhausted { until },
                false => Attempt::AccountExhausted { until },
            });
        }
        (failures + pending > i64::from(limit)).then_some(Attempt::Busy)
    }
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

    /// Deletes an account and returns its email, if there is one.
    async fn delete_account(&self, id: AccountId) -> Result<Option<Email>, StoreError>;

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

    /// Replaces the sealed form of all signing keys at once, given as (id, before, after), if they
    /// are exactly those and still have the form before. Returns whether it did.
    async fn reseal_signing_keys(
        &self,
        keys: &[(String, Vec<u8>, Vec<u8>)],
    ) -> Result<bool, StoreError>;

    /// Removes a signing key.
    async fn remove_signing_key(&self, kid: &str) -> Result<(), StoreError>;

    /// Counts an attempt to log in, before the password is looked at.
    async fn count_attempt(
        &self,
        subject: Subject,
        network: Network,
        limits: FailureLimits,
        now: DateTime<Utc>,
    ) -> Result<Attempt, StoreError>;

    /// Says how a counted attempt has ended.
    async fn settle_attempt(
        &self,
        subject: Subject,
        network: Network,
        outcome: Outcome,
        limits: FailureLimits,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// Forgets all attempts on a subject.
    async fn forget_attempts(&self, subject: Subject) -> Result<(), StoreError>;

    /// Removes what no longer counts at `now`, a bounded number of rows at a time.
    async fn prune_attempts(&self, now: DateTime<Utc>) -> Result<(), StoreError>;

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

/// How long a network counts as an account's own after a login from it has succeeded.
const NETWORK_MEMORY: TimeDelta = TimeDelta::days(30);
/// A login from a known network is noted again only after this time, to spare a write.
const NETWORK_REFRESH: TimeDelta = TimeDelta::days(1);
/// After this time an attempt that was never settled no longer counts: its process has died.
const PENDING_FOR: TimeDelta = TimeDelta::seconds(60);
/// The network of the row that counts over all networks.
const ALL_NETWORKS: &str = "";
/// How many rows one pruning removes.
const PRUNE_BATCH: i64 = 10_000;

/// When a window that starts `now` ends.
fn window_end(limits: FailureLimits, now: DateTime<Utc>) -> DateTime<Utc> {
    now + TimeDelta::from_std(limits.window).unwrap_or(TimeDelta::MAX / 2)
}

/// An email that was stored has been parsed before; another one is damage.
fn stored_email(text: &str) -> Result<Email, sqlx::Error> {
    Email::parse(text).map_err(|_| sqlx::Error::Decode("a stored email is malformed".into()))
}

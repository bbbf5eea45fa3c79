//! A transactional outbox: a table of entries that a worker delivers, each at least once. An entry is
//! written in the transaction of the change that it reports, so neither can exist without the other. A crash
//! or an outage of the receiver only delays its delivery. The crate knows neither the content nor the
//! receiver.
//!
//! To have an outbox, a service
//!
//! 1. creates its table in a migration (see below),
//! 2. names it: `pub static MAILS: outbox::Table = outbox::table!(table: "mails", id: "id",
//!    metrics: "auth.mail", event: "mail", what: "mails");`,
//! 3. creates an [`Outbox`] from the table and its [`sql_kit::Sql`], and calls [`Outbox::add`] inside
//!    [`sql_kit::transaction!`] and [`Outbox::wake`] after it,
//! 4. implements [`Deliver`] and runs a [`Worker`],
//! 5. publishes depth and age with [`Backlog`], which also removes expired entries, and
//! 6. adds [`command::command`] to its command line, so that operators can list, retry and discard.
//!
//! # Guarantees
//!
//! - **Leases.** A worker takes a lease of four seconds on an entry, and renews it every second while it
//!   delivers the entry. Another worker can take the entry only after the lease has expired. So the
//!   entries of a killed process are delivered within seconds, however long an attempt may take. A
//!   worker that shuts down releases its leases ([`Worker::release`]). If another worker has taken the
//!   entry in the meantime, the late result of an attempt is ignored, unless it was a success, which
//!   removes the entry. While the database is unavailable, leases cannot be renewed, so an entry may
//!   be delivered by two workers.
//! - **Time** is that of [`sql_kit::Sql::clock`], which on Postgres follows the server's clock, so
//!   that replicas agree although their own clocks differ.
//! - **Retries** use exponential backoff with a limit ([`Backoff`]); half of each delay is random (jitter).
//! - **Order.** Entries with the same `order_key` are delivered one after the other, in the order in
//!   which they were added. For this, transactions that add entries with the same key must exclude
//!   each other, for example by a lock on the account's row. Entries without a key are delivered in
//!   any order.
//! - **Expiry.** An entry past its `expires_at` is removed without a further attempt.
//! - **Metrics.** `<metrics>.depth`, `<metrics>.age` and `<metrics>.attempts` by `outcome`. Depth and
//!   age are absent while they are unknown.
//! - **Log.** `<event>.delivered`, `<event>.failed`, `<event>.discarded`, `<event>.expired`, with the
//!   entry's id, the request's id and the trace. The payload is never logged. Reasons are, so they
//!   must not contain secrets.
//!
//! # The table
//!
//! On Postgres:
//!
//! ```sql
#![doc = include_str!("table.postgres.sql")]
//! ```
//!
//! On SQLite, where times are microseconds since 1970-01-01T00:00:00Z:
//!
//! ```sql
#![doc = include_str!("table.sqlite.sql")]
//! ```

mod backlog;
mod backoff;
pub mod command;
mod entry;
mod table;
mod worker;

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use sql_kit::{Sql, StoreError, Unit, values};
use tokio::sync::Notify;
use uuid::Uuid;

#[doc(hidden)]
pub use sql_kit::Statement;
#[doc(hidden)]
pub use table::Names;

pub use self::{
    backlog::Backlog,
    backoff::Backoff,
    entry::{Entry, NewEntry, Origin},
    table::Table,
    worker::{Deliver, Outcome, Retry, Settings, Worker},
};

/// The outbox in one table. Clones share the signal that wakes the worker.
#[derive(Debug, Clone)]
pub struct Outbox {
    sql: Sql,
    table: &'static Table,
    added: Arc<Notify>,
}

impl Outbox {
    /// The outbox of `table` in `sql`.
    #[must_use]
    pub fn new(sql: Sql, table: &'static Table) -> Self {
        Self { sql, table, added: Arc::default() }
    }

    /// Adds an entry, due at once, in the transaction of `unit`. Returns whether it was added; an existing
    /// entry with the same id is left unchanged.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn add(&self, unit: &mut Unit, entry: &NewEntry<'_>) -> Result<bool, sqlx::Error> {
        let added = unit
            .execute(
                self.table.add,
                values![
                    entry.id,
                    entry.order_key,
                    entry.payload,
                    &entry.origin.request_id,
                    &entry.origin.traceparent,
                    self.now(),
                    entry.expires_at,
                ],
            )
            .await?;
        Ok(added == 1)
    }

    /// Wakes the worker of this process. Call it after the transaction of [`Outbox::add`] is committed.
    pub fn wake(&self) {
        self.added.notify_one();
    }

    /// Removes an entry in the transaction of `unit`, because it is obsolete. Returns whether it existed.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn remove(&self, unit: &mut Unit, id: Uuid) -> Result<bool, sqlx::Error> {
        Ok(unit.execute(self.table.remove, values![id]).await? == 1)
    }

    /// The oldest `limit` entries.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn list(&self, limit: u32) -> Result<Vec<Entry>, StoreError> {
        sql_kit::read!(self.sql, |unit| {
            let rows = unit.fetch_all(self.table.list, values![limit]).await?;
            rows.iter().map(Entry::read).collect()
        })
        .await
    }

    /// The number of entries, and when the oldest was added.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn backlog(&self) -> Result<(i64, Option<DateTime<Utc>>), StoreError> {
        sql_kit::read!(self.sql, |unit| {
            let row = unit.fetch_one(self.table.backlog, &[]).await?;
            Ok((row.get("depth")?, row.get("oldest")?))
        })
        .await
    }

    /// Makes all entries due now, except those that a worker holds a lease on. Returns how many these are.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn retry_all(&self) -> Result<u64, StoreError> {
        let now = self.now();
        sql_kit::write_one!(self.sql, |unit| unit.execute(self.table.retry_all, values![now]).await)
            .await
    }

    /// Makes an entry due now. Returns whether it exists.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn retry(&self, id: Uuid) -> Result<bool, StoreError> {
        let (text, now) = (self.table.retry, self.now());
        let done = sql_kit::write_one!(self.sql, |unit| unit.execute(text, values![id, now]).await)
            .await?;
        Ok(done == 1)
    }

    /// Removes an entry without delivering it. A worker that holds a lease on it may still deliver it.
    /// Returns whether it existed.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn discard(&self, id: Uuid) -> Result<bool, StoreError> {
        sql_kit::write_one!(self.sql, |unit| self.remove(unit, id).await).await
    }

    /// Removes all entries without delivering them, as [`Outbox::discard`] does. Returns how many.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn discard_all(&self) -> Result<u64, StoreError> {
        sql_kit::write_one!(self.sql, |unit| unit.execute(self.table.remove_all, &[]).await).await
    }

    /// Takes a lease on up to `limit` due entries, those that have been due for longest first.
    async fn take(&self, lease: TimeDelta, limit: u32) -> Result<Vec<Entry>, StoreError> {
        let now = self.now();
        // Most polls find nothing. They only read, so they neither block writers nor fail on a read-only
        // database.
        let is_due = sql_kit::read!(self.sql, |unit| unit
            .fetch_optional(self.table.is_due, values![now])
            .await)
        .await?;
        if is_due.is_none() {
            return Ok(Vec::new());
        }
        sql_kit::transaction!(self.sql, |unit| {
            let until = now + lease;
            let rows = unit.fetch_all(self.table.take, values![now, until, limit]).await?;
            rows.iter().map(Entry::read).collect()
        })
        .await
    }

    /// Extends the lease of an entry to `lease` from now, unless the attempt has ended or another worker has
    /// taken the entry.
    async fn renew(&self, id: Uuid, attempts: i64, lease: TimeDelta) -> Result<(), StoreError> {
        let text = self.table.renew;
        sql_kit::write_one!(self.sql, |unit| {
            let until = self.now() + lease;
            unit.execute(text, values![id, attempts, until]).await
        })
        .await?;
        Ok(())
    }

    /// Makes an entry due at `due_at`, unless another worker has taken it.
    async fn postpone(
        &self,
        entry: &Entry,
        due_at: DateTime<Utc>,
        reason: &str,
    ) -> Result<(), StoreError> {
        let (text, id, attempts) = (self.table.postpone, entry.id, entry.attempts);
        sql_kit::write_one!(self.sql, |unit| unit
            .execute(text, values![id, attempts, due_at, reason])
            .await)
        .await?;
        Ok(())
    }

    /// Releases the lease of an entry, unless another worker has taken it.
    async fn release(&self, id: Uuid, attempts: i64) -> Result<(), StoreError> {
        let text = self.table.release;
        sql_kit::write_one!(self.sql, |unit| unit.execute(text, values![id, attempts]).await)
            .await?;
        Ok(())
    }

    /// Removes up to `limit` expired entries.
    async fn expire(&self, limit: u32) -> Result<Vec<Entry>, StoreError> {
        let now = self.now();
        let is_any = sql_kit::read!(self.sql, |unit| unit
            .fetch_optional(self.table.is_expired, values![now])
            .await)
        .await?;
        if is_any.is_none() {
            return Ok(Vec::new());
        }
        sql_kit::transaction!(self.sql, |unit| {
            let rows = unit.fetch_all(self.table.expire, values![now, limit]).await?;
            rows.iter().map(Entry::read).collect()
        })
        .await
    }

    fn now(&self) -> DateTime<Utc> {
        self.sql.clock().now()
    }
}

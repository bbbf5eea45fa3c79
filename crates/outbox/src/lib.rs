//! An outbox: a table of entries that a worker delivers, each at least once. An entry is written in
//! the transaction of what it tells, so neither can be there without the other; a crash, or an
//! outage of the receiver, only delays it. The crate knows neither what is delivered nor to whom.
//!
//! A service that has one
//!
//! 1. makes its table in a migration (see below),
//! 2. names it: `pub static MAILS: outbox::Table = outbox::table!(table: "mails", id: "id",
//!    metrics: "auth.mail", event: "mail", what: "mails");`,
//! 3. makes an [`Outbox`] of the table and its [`sql_kit::Sql`], and calls [`Outbox::add`] inside
//!    [`sql_kit::transaction!`] and [`Outbox::wake`] after it,
//! 4. implements [`Deliver`] and runs a [`Worker`],
//! 5. shows depth and age with [`Backlog`], which also removes what has expired, and
//! 6. adds [`command::command`] to its command line, so that operators can list, retry and discard.
//!
//! # What is promised
//!
//! - **Leases.** A worker takes an entry for four seconds, and renews that each second while it delivers
//!   the entry. Only after that another one may take it, so what a killed process held is delivered
//!   within seconds, however long an attempt may take. A worker that stops
//!   in order gives back what it holds ([`Worker::release`]). A result that comes after the lease has
//!   gone to another worker changes nothing, unless it is a delivery: that removes the entry.
//!   While the database is away nothing can be renewed: an entry that is being delivered then may be
//!   delivered by another worker too.
//! - **Time** is that of [`sql_kit::Sql::clock`], which on Postgres follows the server's: replicas
//!   with different clocks agree.
//! - **Retries** wait longer after each attempt, up to a limit ([`Backoff`]); half of the wait is by chance.
//! - **Order.** Entries with the same `order_key` are delivered one after the other, in the order in
//!   which they were added, provided that transactions that add entries of one key exclude each other
//!   (as those that lock one account's row do). Entries without a key are delivered in any order.
//! - **Expiry.** An entry past its `expires_at` is removed without a further attempt.
//! - **Metrics.** `<metrics>.depth`, `<metrics>.age` and `<metrics>.attempts` by `outcome`. Depth and
//!   age are absent while they are not known.
//! - **Log.** `<event>.delivered`, `<event>.failed`, `<event>.discarded`, `<event>.expired`, with the
//!   entry's id, the request's id and the trace. The payload is never logged; a reason is, so it must
//!   hold nothing secret.
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

/// The entries of one table. Clones share the wake-up.
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

    /// Adds an entry, due at once, in the transaction of `unit`. Returns whether it did: an id that is
    /// there already is left as it is.
    ///
    /// # Errors
    ///
    /// Those of the database.
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

    /// Has the worker of this process look at once. Call it when the transaction of [`Outbox::add`]
    /// is committed.
    pub fn wake(&self) {
        self.added.notify_one();
    }

    /// Removes an entry in the transaction of `unit`: what it would tell is no longer so, or known
    /// already. Returns whether it was there.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn remove(&self, unit: &mut Unit, id: Uuid) -> Result<bool, sqlx::Error> {
        Ok(unit.execute(self.table.remove, values![id]).await? == 1)
    }

    /// The first `limit` entries, the oldest first.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn list(&self, limit: u32) -> Result<Vec<Entry>, StoreError> {
        sql_kit::read!(self.sql, |unit| {
            let rows = unit.fetch_all(self.table.list, values![limit]).await?;
            rows.iter().map(Entry::read).collect()
        })
        .await
    }

    /// How many entries there are, and when the oldest was added.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn backlog(&self) -> Result<(i64, Option<DateTime<Utc>>), StoreError> {
        sql_kit::read!(self.sql, |unit| {
            let row = unit.fetch_one(self.table.backlog, &[]).await?;
            Ok((row.get("depth")?, row.get("oldest")?))
        })
        .await
    }

    /// Makes all entries due now. What a worker holds stays with it. Returns how many waited.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn retry_all(&self) -> Result<u64, StoreError> {
        let now = self.now();
        sql_kit::write_one!(self.sql, |unit| unit.execute(self.table.retry_all, values![now]).await)
            .await
    }

    /// Makes an entry due now. Returns whether it is there.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn retry(&self, id: Uuid) -> Result<bool, StoreError> {
        let (text, now) = (self.table.retry, self.now());
        let done = sql_kit::write_one!(self.sql, |unit| unit.execute(text, values![id, now]).await)
            .await?;
        Ok(done == 1)
    }

    /// Removes an entry undelivered. A worker that has just taken it may deliver it all the same.
    /// Returns whether it was there.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn discard(&self, id: Uuid) -> Result<bool, StoreError> {
        sql_kit::write_one!(self.sql, |unit| self.remove(unit, id).await).await
    }

    /// Removes all entries undelivered, as [`Outbox::discard`] does. Returns how many.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn discard_all(&self) -> Result<u64, StoreError> {
        sql_kit::write_one!(self.sql, |unit| unit.execute(self.table.remove_all, &[]).await).await
    }

    /// Takes up to `limit` entries that are due, the longest due first, for the time of a `lease`.
    async fn take(&self, lease: TimeDelta, limit: u32) -> Result<Vec<Entry>, StoreError> {
        let now = self.now();
        // Most looks find nothing; they must neither make writers wait nor fail where the database
        // takes no writes.
        let is_due = sql_kit::read!(self.sql, |unit| unit
            .fetch_optional(self.table.is_due, values![now])
            .await)
        .await?;
        if is_due.is_none() {
            return Ok(Vec::new());
        }
        sql_kit::write_one!(self.sql, |unit| {
            let until = now + lease;
            let rows = unit.fetch_all(self.table.take, values![now, until, limit]).await?;
            rows.iter().map(Entry::read).collect()
        })
        .await
    }

    /// Extends the lease of an entry to `lease` from now, unless it has ended in a result or another
    /// worker has taken the entry since.
    async fn renew(&self, id: Uuid, attempts: i64, lease: TimeDelta) -> Result<(), StoreError> {
        let text = self.table.renew;
        sql_kit::write_one!(self.sql, |unit| {
            let until = self.now() + lease;
            unit.execute(text, values![id, attempts, until]).await
        })
        .await?;
        Ok(())
    }

    /// Makes an entry due at `due_at`, unless another worker has taken it since.
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

    /// Ends the lease of an entry, unless another worker has taken it since.
    async fn release(&self, id: Uuid, attempts: i64) -> Result<(), StoreError> {
        let text = self.table.release;
        sql_kit::write_one!(self.sql, |unit| unit.execute(text, values![id, attempts]).await)
            .await?;
        Ok(())
    }

    /// Removes up to `limit` entries that have expired.
    async fn expire(&self, limit: u32) -> Result<Vec<Entry>, StoreError> {
        let now = self.now();
        let is_any = sql_kit::read!(self.sql, |unit| unit
            .fetch_optional(self.table.is_expired, values![now])
            .await)
        .await?;
        if is_any.is_none() {
            return Ok(Vec::new());
        }
        sql_kit::write_one!(self.sql, |unit| {
            let rows = unit.fetch_all(self.table.expire, values![now, limit]).await?;
            rows.iter().map(Entry::read).collect()
        })
        .await
    }

    fn now(&self) -> DateTime<Utc> {
        self.sql.clock().now()
    }
}

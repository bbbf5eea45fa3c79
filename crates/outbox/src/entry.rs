//! The entries of an outbox.

use std::fmt;

use chrono::{DateTime, Utc};
use sql_kit::Row;
use uuid::Uuid;

/// The request that caused an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Its id.
    pub request_id: String,
    /// Its trace (W3C Trace Context); empty if unknown.
    pub traceparent: String,
}

impl Origin {
    /// The id of the trace, if it is known.
    #[must_use]
    pub fn trace_id(&self) -> Option<&str> {
        self.traceparent.split('-').nth(1)
    }
}

/// An entry to add.
#[derive(Debug, Clone, Copy)]
pub struct NewEntry<'a> {
    /// Its id, chosen by the caller.
    pub id: Uuid,
    /// Entries with the same key are delivered in order.
    pub order_key: Option<&'a str>,
    /// The content to deliver.
    pub payload: &'a [u8],
    /// The request that caused it.
    pub origin: &'a Origin,
    /// When it expires; `None` means never.
    pub expires_at: Option<DateTime<Utc>>,
}

/// An entry of the outbox.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: Uuid,
    /// Entries with the same key are delivered in order.
    pub order_key: Option<String>,
    /// The content to deliver.
    pub payload: Vec<u8>,
    /// The request that caused it.
    pub origin: Origin,
    /// When it was added.
    pub created_at: DateTime<Utc>,
    /// How many attempts there have been, including the present one.
    pub attempts: i64,
    /// When the next attempt is due.
    pub due_at: DateTime<Utc>,
    /// Until when a worker has a lease on it.
    pub leased_until: Option<DateTime<Utc>>,
    /// When it expires.
    pub expires_at: Option<DateTime<Utc>>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

impl Entry {
    pub(crate) fn read(row: &Row) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.get("id")?,
            order_key: row.get("order_key")?,
            payload: row.get("payload")?,
            origin: Origin {
                request_id: row.get("request_id")?,
                traceparent: row.get("traceparent")?,
            },
            created_at: row.get("created_at")?,
            attempts: row.get("attempts")?,
            due_at: row.get("due_at")?,
            leased_until: row.get("leased_until")?,
            expires_at: row.get("expires_at")?,
            last_error: row.get("last_error")?,
        })
    }
}

/// Omits the payload, which may contain personal data, such as a mail.
impl fmt::Debug for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Entry")
            .field("id", &self.id)
            .field("attempts", &self.attempts)
            .field("due_at", &self.due_at)
            .finish_non_exhaustive()
    }
}

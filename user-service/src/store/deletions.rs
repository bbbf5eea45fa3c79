//! Deletions: of a profile, and what has to be told of it.

use outbox::{NewEntry, Origin};
use sql_kit::{StoreError, read, transaction, values};

use super::{Store, profiles::LOCK};
use crate::domain::UserId;

/// The outbox of deletions. An entry is named after the account, and has no payload.
pub static OUTBOX: outbox::Table = outbox::table!(
    table: "outbox",
    id: "account_id",
    metrics: "user.outbox",
    event: "account_deletion",
    what: "deletions",
);

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

impl Store {
    /// Deletes a profile if it still has its version; leaves a tombstone and an outbox entry, due at
    /// once, in the same transaction. Returns whether it did.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn delete_profile(&self, deletion: Deletion<'_>) -> Result<bool, StoreError> {
        let Deletion { id, version, origin } = deletion;
        let id = id.0;
        let deleted = transaction!(self.sql, |unit| {
            if unit.is_postgres() {
                unit.execute(LOCK, values![&[id][..]]).await?;
            }
            let deleted = unit
                .execute(
                    "DELETE FROM profiles WHERE id = $1 AND version = $2",
                    values![id, version],
                )
                .await?;
            if deleted == 0 {
                unit.abandon();
                return Ok(false);
            }
            unit.execute(
                "INSERT INTO tombstones (account_id, deleted_at) VALUES ($1, $2)",
                values![id, self.clock().now()],
            )
            .await?;
            let entry = NewEntry { id, order_key: None, payload: &[], origin, expires_at: None };
            self.outbox.add(unit, &entry).await?;
            Ok(true)
        });
        let deleted = deleted.await?;
        if deleted {
            self.outbox.wake();
        }
        Ok(deleted)
    }

    /// Whether there is a tombstone.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn is_deleted(&self, id: UserId) -> Result<bool, StoreError> {
        let row = read!(self.sql, |unit| {
            unit.fetch_optional("SELECT 1 FROM tombstones WHERE account_id = $1", values![id.0])
                .await
        });
        Ok(row.await?.is_some())
    }
}

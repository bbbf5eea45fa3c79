//! Deletions of profiles, and the outbox that reports them to the auth service.

use chrono::{DateTime, Utc};
use outbox::{NewEntry, Origin};
use sql_kit::{Statement, StoreError, read, transaction, values};
use uuid::Uuid;

use super::{Store, profiles::LOCK};
use crate::domain::UserId;

/// The outbox of deletions. The name of an entry is the id of the account; there is no payload.
pub static OUTBOX: outbox::Table = outbox::table!(
    table: "outbox",
    id: "account_id",
    metrics: "user.outbox",
    event: "account_deletion",
    what: "deletions",
);

/// The name of the cursor that stores how far the list of deleted accounts has been read.
const CURSOR: &str = "deleted-accounts";

/// Which profile to delete.
#[derive(Debug, Clone, Copy)]
pub struct Deletion<'a> {
    /// Its id.
    pub id: UserId,
    /// The version that it must still have.
    pub version: i64,
    /// The request that caused the deletion.
    pub origin: &'a Origin,
}

impl Store {
    /// Deletes a profile if it still has this version. In the same transaction it adds a tombstone and an
    /// outbox entry that is due at once. Returns whether the profile was deleted.
    ///
    /// # Errors
    ///
    /// The errors of the database.
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

    /// Whether the account has a tombstone.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn is_deleted(&self, id: UserId) -> Result<bool, StoreError> {
        Ok(self.deleted_at(id).await?.is_some())
    }

    /// When the tombstone was added, if there is one.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn deleted_at(&self, id: UserId) -> Result<Option<DateTime<Utc>>, StoreError> {
        let row = read!(self.sql, |unit| {
            unit.fetch_optional(
                "SELECT deleted_at FROM tombstones WHERE account_id = $1",
                values![id.0],
            )
            .await
        });
        Ok(row.await?.map(|row| row.get("deleted_at")).transpose()?)
    }

    /// How far the list of deleted accounts has been read. Empty if it has not been read yet.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn deletions_cursor(&self) -> Result<String, StoreError> {
        let row = read!(self.sql, |unit| {
            unit.fetch_one("SELECT value FROM cursors WHERE name = $1", values![CURSOR]).await
        });
        Ok(row.await?.get("value")?)
    }

    /// Queues again the deletion of up to a thousand accounts that have a tombstone, in the order of their
    /// ids, beginning after the given one. Returns the last of them, or `None` if there are no more.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn tell_again(&self, after: Option<UserId>) -> Result<Option<UserId>, StoreError> {
        const ADD: Statement = Statement::per_engine(
            "INSERT INTO outbox (account_id, request_id, created_at, attempts, due_at)
             SELECT id, '', $2, 0, $2 FROM unnest($1::uuid[]) AS gone (id) ON CONFLICT DO NOTHING",
            "INSERT INTO outbox (account_id, request_id, created_at, attempts, due_at)
             SELECT unhex(value), '', $2, 0, $2 FROM json_each($1) WHERE true ON CONFLICT DO NOTHING",
        );
        let after = after.map_or(Uuid::nil(), |id| id.0);
        let last = transaction!(self.sql, |unit| {
            let rows = unit
                .fetch_all(
                    "SELECT account_id FROM tombstones WHERE account_id > $1 ORDER BY account_id LIMIT 1000",
                    values![after],
                )
                .await?;
            let ids: Vec<Uuid> =
                rows.iter().map(|row| row.get("account_id")).collect::<Result<_, _>>()?;
            unit.execute(ADD, values![&ids[..], self.clock().now()]).await?;
            Ok(ids.last().copied().map(UserId))
        });
        let last = last.await?;
        if last.is_some() {
            self.outbox.wake();
        }
        Ok(last)
    }

    /// Removes the profiles of accounts that were deleted at the auth service, adds a tombstone for each
    /// account, and moves the cursor from `before` to `after`, in one transaction. Returns the accounts that
    /// had a profile, or `None` if another replica has moved the cursor in the meantime.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn forget(
        &self,
        accounts: &[UserId],
        before: &str,
        after: &str,
    ) -> Result<Option<Vec<UserId>>, StoreError> {
        const LEAVE_TOMBSTONES: Statement = Statement::per_engine(
            "INSERT INTO tombstones (account_id, deleted_at)
             SELECT id, $2 FROM unnest($1::uuid[]) AS gone (id) ON CONFLICT DO NOTHING",
            // Without WHERE, SQLite would parse ON as the ON of a join.
            "INSERT INTO tombstones (account_id, deleted_at)
             SELECT unhex(value), $2 FROM json_each($1) WHERE true ON CONFLICT DO NOTHING",
        );
        const REMOVE: Statement = Statement::per_engine(
            "DELETE FROM profiles WHERE id = ANY($1::uuid[]) RETURNING id",
            "DELETE FROM profiles WHERE id IN (SELECT unhex(value) FROM json_each($1)) RETURNING id",
        );
        let ids: Vec<Uuid> = accounts.iter().map(|id| id.0).collect();
        let ids = &ids[..];
        transaction!(self.sql, |unit| {
            let now = self.clock().now();
            let moved = unit
                .execute(
                    "UPDATE cursors SET value = $3, updated_at = $4 WHERE name = $1 AND value = $2",
                    values![CURSOR, before, after, now],
                )
                .await?;
            if moved == 0 {
                unit.abandon();
                return Ok(None);
            }
            if unit.is_postgres() {
                unit.execute(LOCK, values![ids]).await?;
            }
            unit.execute(LEAVE_TOMBSTONES, values![ids, now]).await?;
            let removed = unit.fetch_all(REMOVE, values![ids]).await?;
            removed.iter().map(|row| row.get("id").map(UserId)).collect::<Result<_, _>>().map(Some)
        })
        .await
    }
}

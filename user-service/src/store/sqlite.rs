//! The store on SQLite.

use std::{io, sync::LazyLock};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sql_kit::{Connections, PoolOptions, Sqlite, migrator, sqlite_time as time};
use sqlx::{
    Row as _,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteRow},
};

use super::{Deletion, Origin, OutboxEntry, Store, StoreError};
use crate::{
    domain::{Profile, UserId},
    page_token::Cursor,
};

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    migrator(&[
        (1, "profiles", include_str!("../../migrations/sqlite/0001_profiles.sql")),
        (2, "traceparent", include_str!("../../migrations/sqlite/0002_traceparent.sql")),
    ])
});

#[derive(Debug)]
pub(super) struct SqliteStore {
    database: Sqlite,
}

impl SqliteStore {
    pub(super) fn open(connect: SqliteConnectOptions, options: PoolOptions) -> io::Result<Self> {
        Ok(Self { database: Sqlite::open(connect, options)? })
    }
}

fn profile(row: &SqliteRow) -> Result<Profile, sqlx::Error> {
    Ok(Profile {
        id: UserId(row.try_get("id")?),
        email: row.try_get("email")?,
        email_iat: row.try_get("email_iat")?,
        name: row.try_get("name")?,
        bio: row.try_get("bio")?,
        version: row.try_get("version")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

fn entry(row: &SqliteRow) -> Result<OutboxEntry, sqlx::Error> {
    Ok(OutboxEntry {
        account_id: UserId(row.try_get("account_id")?),
        origin: Origin {
            request_id: row.try_get("request_id")?,
            traceparent: row.try_get("traceparent")?,
        },
        created_at: time(row, "created_at")?,
        attempts: row.try_get("attempts")?,
    })
}

#[async_trait]
impl Store for SqliteStore {
    async fn migrate(&self) -> Result<(), StoreError> {
        self.database.migrate(&MIGRATIONS).await
    }

    async fn check_migrated(&self) -> Result<(), StoreError> {
        self.database.check_migrated(&MIGRATIONS).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.database.ping().await
    }

    async fn shared_secret(&self, name: &str, fresh: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.database
            .bounded(async {
                let mut transaction = self.database.write().await?;
                sqlx::query(
                    "INSERT INTO secrets (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING",
                )
                .bind(name)
                .bind(fresh)
                .execute(&mut *transaction)
                .await?;
                let secret = sqlx::query_scalar("SELECT value FROM secrets WHERE name = ?")
                    .bind(name)
                    .fetch_one(&mut *transaction)
                    .await?;
                transaction.commit().await?;
                Ok(secret)
            })
            .await
    }

    async fn profiles(&self, ids: &[UserId]) -> Result<Vec<Profile>, StoreError> {
        // SQLite has no arrays: the ids come as one value that is taken apart.
        let ids: Vec<u8> = ids.iter().flat_map(|id| *id.0.as_bytes()).collect();
        self.database
            .bounded(async {
                let mut connection = self.database.read().await?;
                let rows = sqlx::query(
                    "WITH RECURSIVE wanted (place) AS (
                         SELECT 1 UNION ALL SELECT place + 16 FROM wanted WHERE place + 16 < length(?1)
                     )
                     SELECT id, email, email_iat, name, bio, version, created_at, updated_at
                     FROM wanted JOIN profiles ON id = substr(?1, place, 16)",
                )
                .bind(ids)
                .fetch_all(&mut *connection)
                .await?;
                rows.iter().map(profile).collect()
            })
            .await
    }

    async fn create_profile(&self, profile: &Profile) -> Result<bool, StoreError> {
        // Callers with a tombstone must not keep the one writer busy.
        if self.is_deleted(profile.id).await? {
            return Ok(false);
        }
        self.database
            .bounded(async {
                let mut transaction = self.database.write().await?;
                let done = sqlx::query(
                    "INSERT INTO profiles
                     (id, email, email_iat, name, bio, version, created_at, updated_at)
                 SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8
                 WHERE NOT EXISTS (SELECT 1 FROM tombstones WHERE account_id = ?1)
                 ON CONFLICT (id) DO NOTHING",
                )
                .bind(profile.id.0)
                .bind(&profile.email)
                .bind(profile.email_iat)
                .bind(&profile.name)
                .bind(&profile.bio)
                .bind(profile.version)
                .bind(profile.created_at.timestamp_micros())
                .bind(profile.updated_at.timestamp_micros())
                .execute(&mut *transaction)
                .await?;
                transaction.commit().await?;
                Ok(done.rows_affected() == 1)
            })
            .await
    }

    async fn update_profile(&self, profile: &Profile) -> Result<bool, StoreError> {
        self.database
            .bounded(async {
                let mut transaction = self.database.write().await?;
                let done = sqlx::query(
                    "UPDATE profiles
                 SET email = ?3, email_iat = ?4, name = ?5, bio = ?6, version = ?2, updated_at = ?7
                 WHERE id = ?1 AND version = ?2 - 1",
                )
                .bind(profile.id.0)
                .bind(profile.version)
                .bind(&profile.email)
                .bind(profile.email_iat)
                .bind(&profile.name)
                .bind(&profile.bio)
                .bind(profile.updated_at.timestamp_micros())
                .execute(&mut *transaction)
                .await?;
                transaction.commit().await?;
                Ok(done.rows_affected() == 1)
            })
            .await
    }

    async fn confirm_email(&self, id: UserId, iat: i64) -> Result<(), StoreError> {
        self.database
            .bounded(async {
                let mut transaction = self.database.write().await?;
                sqlx::query(
                    "UPDATE profiles SET email_iat = ?2
                 WHERE id = ?1 AND (email_iat IS NULL OR email_iat < ?2)",
                )
                .bind(id.0)
                .bind(iat)
                .execute(&mut *transaction)
                .await?;
                transaction.commit().await
            })
            .await
    }

    async fn delete_profile(
        &self,
        deletion: Deletion<'_>,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        self.database
            .bounded(async {
                let mut transaction = self.database.write().await?;
                let deleted = sqlx::query("DELETE FROM profiles WHERE id = ? AND version = ?")
                    .bind(deletion.id.0)
                    .bind(deletion.version)
                    .execute(&mut *transaction)
                    .await?
                    .rows_affected();
                if deleted == 0 {
                    transaction.rollback().await?;
                    return Ok(false);
                }
                sqlx::query("INSERT INTO tombstones (account_id, deleted_at) VALUES (?, ?)")
                    .bind(deletion.id.0)
                    .bind(now.timestamp_micros())
                    .execute(&mut *transaction)
                    .await?;
                sqlx::query(
                    "INSERT INTO outbox (account_id, request_id, traceparent, created_at, attempts, due_at)
                 VALUES (?1, ?2, ?3, ?4, 0, ?4)",
                )
                .bind(deletion.id.0)
                .bind(&deletion.origin.request_id)
.bind(&deletion.origin.traceparent)
                .bind(now.timestamp_micros())
                .execute(&mut *transaction)
                .await?;
                transaction.commit().await?;
                Ok(true)
            })
            .await
    }

    async fn is_deleted(&self, id: UserId) -> Result<bool, StoreError> {
        self.database
            .bounded(async {
                let mut connection = self.database.read().await?;
                let row = sqlx::query("SELECT 1 FROM tombstones WHERE account_id = ?")
                    .bind(id.0)
                    .fetch_optional(&mut *connection)
                    .await?;
                Ok(row.is_some())
            })
            .await
    }

    async fn page(&self, after: Option<Cursor>, limit: u32) -> Result<Vec<Profile>, StoreError> {
        self.database
            .bounded(async {
                let mut connection = self.database.read().await?;
                let query = match after {
                    None => sqlx::query(
                        "SELECT id, email, email_iat, name, bio, version, created_at, updated_at
                     FROM profiles ORDER BY created_at, id LIMIT ?1",
                    ),
                    Some(_) => sqlx::query(
                        "SELECT id, email, email_iat, name, bio, version, created_at, updated_at
                     FROM profiles WHERE (created_at, id) > (?2, ?3)
                     ORDER BY created_at, id LIMIT ?1",
                    ),
                };
                let query = query.bind(i64::from(limit));
                let query = match after {
                    None => query,
                    Some(after) => query.bind(after.created_at.timestamp_micros()).bind(after.id.0),
                };
                let rows = query.fetch_all(&mut *connection).await?;
                rows.iter().map(profile).collect()
            })
            .await
    }

    async fn take_due(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<OutboxEntry>, StoreError> {
        self.database
            .bounded(async {
                // Most looks find nothing; they must not make the writers wait.
                let mut connection = self.database.read().await?;
                let due = sqlx::query("SELECT 1 FROM outbox WHERE due_at <= ? LIMIT 1")
                    .bind(now.timestamp_micros())
                    .fetch_optional(&mut *connection)
                    .await?;
                drop(connection);
                if due.is_none() {
                    return Ok(Vec::new());
                }
                let mut transaction = self.database.write().await?;
                let rows = sqlx::query(
                    "UPDATE outbox SET due_at = ?2, attempts = attempts + 1
                 WHERE account_id IN (
                     SELECT account_id FROM outbox WHERE due_at <= ?1 ORDER BY due_at LIMIT ?3
                 )
                 RETURNING account_id, request_id, traceparent, created_at, attempts",
                )
                .bind(now.timestamp_micros())
                .bind(lease_until.timestamp_micros())
                .bind(i64::from(limit))
                .fetch_all(&mut *transaction)
                .await?;
                transaction.commit().await?;
                rows.iter().map(entry).collect()
            })
            .await
    }

    async fn backlog(&self) -> Result<(i64, Option<DateTime<Utc>>), StoreError> {
        self.database
            .bounded(async {
                let mut connection = self.database.read().await?;
                let row =
                    sqlx::query("SELECT count(*) AS depth, min(created_at) AS oldest FROM outbox")
                        .fetch_one(&mut *connection)
                        .await?;
                Ok((
                    row.try_get("depth")?,
                    row.try_get::<Option<i64>, _>("oldest")?
                        .and_then(DateTime::from_timestamp_micros),
                ))
            })
            .await
    }

    async fn outbox(&self, limit: u32) -> Result<Vec<OutboxEntry>, StoreError> {
        self.database
            .bounded(async {
                let mut connection = self.database.read().await?;
                let rows = sqlx::query(
                    "SELECT account_id, request_id, traceparent, created_at, attempts
                 FROM outbox ORDER BY created_at, account_id LIMIT ?",
                )
                .bind(i64::from(limit))
                .fetch_all(&mut *connection)
                .await?;
                rows.iter().map(entry).collect()
            })
            .await
    }

    async fn retry_all(&self, now: DateTime<Utc>) -> Result<u64, StoreError> {
        self.database
            .bounded(async {
                let mut transaction = self.database.write().await?;
                let done = sqlx::query("UPDATE outbox SET due_at = ?1 WHERE due_at > ?1")
                    .bind(now.timestamp_micros())
                    .execute(&mut *transaction)
                    .await?;
                transaction.commit().await?;
                Ok(done.rows_affected())
            })
            .await
    }

    async fn remove_delivered(&self, account_id: UserId) -> Result<(), StoreError> {
        self.database
            .bounded(async {
                let mut transaction = self.database.write().await?;
                sqlx::query("DELETE FROM outbox WHERE account_id = ?")
                    .bind(account_id.0)
                    .execute(&mut *transaction)
                    .await?;
                transaction.commit().await?;
                Ok(())
            })
            .await
    }

    async fn postpone(&self, account_id: UserId, due_at: DateTime<Utc>) -> Result<(), StoreError> {
        self.database
            .bounded(async {
                let mut transaction = self.database.write().await?;
                sqlx::query("UPDATE outbox SET due_at = ? WHERE account_id = ?")
                    .bind(due_at.timestamp_micros())
                    .bind(account_id.0)
                    .execute(&mut *transaction)
                    .await?;
                transaction.commit().await?;
                Ok(())
            })
            .await
    }

    fn connections(&self) -> Connections {
        self.database.connections()
    }

    async fn close(&self) {
        self.database.close().await;
    }
}

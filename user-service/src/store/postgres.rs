//! The store on Postgres.

use std::sync::LazyLock;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sql_kit::{Connections, PoolOptions, Postgres, migrator};
use sqlx::{
    Row as _,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgRow},
};

use uuid::Uuid;

use super::{Deletion, Origin, OutboxEntry, Store, StoreError};
use crate::{
    domain::{Profile, UserId},
    page_token::Cursor,
};

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    migrator(&[
        (1, "profiles", include_str!("../../migrations/postgres/0001_profiles.sql")),
        (2, "traceparent", include_str!("../../migrations/postgres/0002_traceparent.sql")),
    ])
});

#[derive(Debug)]
pub(super) struct PostgresStore {
    database: Postgres,
}

impl PostgresStore {
    pub(super) fn open(hosts: Vec<PgConnectOptions>, options: PoolOptions) -> Self {
        Self { database: Postgres::open(hosts, options) }
    }
}

fn profile(row: &PgRow) -> Result<Profile, sqlx::Error> {
    Ok(Profile {
        id: UserId(row.try_get("id")?),
        email: row.try_get("email")?,
        email_iat: row.try_get("email_iat")?,
        name: row.try_get("name")?,
        bio: row.try_get("bio")?,
        version: row.try_get("version")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

fn entry(row: &PgRow) -> Result<OutboxEntry, sqlx::Error> {
    Ok(OutboxEntry {
        account_id: UserId(row.try_get("account_id")?),
        origin: Origin {
            request_id: row.try_get("request_id")?,
            traceparent: row.try_get("traceparent")?,
        },
        created_at: row.try_get("created_at")?,
        attempts: row.try_get("attempts")?,
    })
}

#[async_trait]
impl Store for PostgresStore {
    async fn migrate(&self) -> Result<(), StoreError> {
        self.database.migrate(&MIGRATIONS).await
    }

    async fn check_migrated(&self) -> Result<(), StoreError> {
        self.database.check_migrated(&MIGRATIONS).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.database.ping().await.map(drop)
    }

    async fn shared_secret(&self, name: &str, fresh: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.database
            .bounded(async {
                let mut lease = self.database.lease().await?;
                self.database.query(
                "INSERT INTO secrets (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
            )
            .bind(name)
            .bind(fresh)
            .execute(&mut *lease)
            .await?;
                let secret = self
                    .database
                    .query_scalar("SELECT value FROM secrets WHERE name = $1")
                    .bind(name)
                    .fetch_one(&mut *lease)
                    .await?;
                lease.commit().await?;
                Ok(secret)
            })
            .await
    }

    async fn profiles(&self, ids: &[UserId]) -> Result<Vec<Profile>, StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        self.database
            .bounded(async {
                let mut lease = self.database.lease().await?;
                let rows = self
                    .database
                    .query(
                        // Without SELECT the server would see that the ids are few, and plan each
                        // time for these few.
                        "SELECT id, email, email_iat, name, bio, version, created_at, updated_at
                         FROM profiles WHERE id = ANY((SELECT $1)::uuid[])",
                    )
                    .bind(&ids)
                    .fetch_all(&mut *lease)
                    .await?;
                lease.done();
                rows.iter().map(profile).collect()
            })
            .await
    }

    async fn create_profile(&self, profile: &Profile) -> Result<bool, StoreError> {
        self.database
            .bounded(async {
                let mut transaction = self.database.transaction().await?;
                let inserted = self
                    .database
                    .query(
                        "INSERT INTO profiles
                     (id, email, email_iat, name, bio, version, created_at, updated_at)
                 SELECT $1, $2, $3, $4, $5, $6, $7, $8
                 WHERE NOT EXISTS (SELECT FROM tombstones WHERE account_id = $1)
                 ON CONFLICT (id) DO NOTHING",
                    )
                    .bind(profile.id.0)
                    .bind(&profile.email)
                    .bind(profile.email_iat)
                    .bind(&profile.name)
                    .bind(&profile.bio)
                    .bind(profile.version)
                    .bind(profile.created_at)
                    .bind(profile.updated_at)
                    .execute(&mut *transaction)
                    .await?
                    .rows_affected();
                // A deletion that was committed while the insertion waited for it is not in the
                // snapshot of that statement, but it is in this one's.
                let tombstone = self
                    .database
                    .query("SELECT FROM tombstones WHERE account_id = $1")
                    .bind(profile.id.0)
                    .fetch_optional(&mut *transaction)
                    .await?;
                if inserted == 0 || tombstone.is_some() {
                    return Ok(false);
                }
                transaction.commit().await?;
                Ok(true)
            })
            .await
    }

    async fn update_profile(&self, profile: &Profile) -> Result<bool, StoreError> {
        self.database
            .bounded(async {
                let mut lease = self.database.lease().await?;
                let done = self
                    .database
                    .query(
                        "UPDATE profiles
                 SET email = $3, email_iat = $4, name = $5, bio = $6, version = $2, updated_at = $7
                 WHERE id = $1 AND version = $2 - 1",
                    )
                    .bind(profile.id.0)
                    .bind(profile.version)
                    .bind(&profile.email)
                    .bind(profile.email_iat)
                    .bind(&profile.name)
                    .bind(&profile.bio)
                    .bind(profile.updated_at)
                    .execute(&mut *lease)
                    .await?;
                lease.commit().await?;
                Ok(done.rows_affected() == 1)
            })
            .await
    }

    async fn confirm_email(&self, id: UserId, iat: i64) -> Result<(), StoreError> {
        self.database
            .bounded(async {
                let mut lease = self.database.lease().await?;
                self.database
                    .query(
                        "UPDATE profiles SET email_iat = $2
                 WHERE id = $1 AND (email_iat IS NULL OR email_iat < $2)",
                    )
                    .bind(id.0)
                    .bind(iat)
                    .execute(&mut *lease)
                    .await?;
                lease.commit().await
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
                let mut transaction = self.database.transaction().await?;
                let deleted = self
                    .database
                    .query("DELETE FROM profiles WHERE id = $1 AND version = $2")
                    .bind(deletion.id.0)
                    .bind(deletion.version)
                    .execute(&mut *transaction)
                    .await?
                    .rows_affected();
                if deleted == 0 {
                    return Ok(false);
                }
                self.database
                    .query("INSERT INTO tombstones (account_id, deleted_at) VALUES ($1, $2)")
                    .bind(deletion.id.0)
                    .bind(now)
                    .execute(&mut *transaction)
                    .await?;
                self.database
                    .query(
                        "INSERT INTO outbox (account_id, request_id, traceparent, created_at, attempts, due_at)
                 VALUES ($1, $2, $3, $4, 0, $4)",
                    )
                    .bind(deletion.id.0)
                    .bind(&deletion.origin.request_id)
.bind(&deletion.origin.traceparent)
                    .bind(now)
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
                let mut lease = self.database.lease().await?;
                let row = self
                    .database
                    .query("SELECT FROM tombstones WHERE account_id = $1")
                    .bind(id.0)
                    .fetch_optional(&mut *lease)
                    .await?;
                lease.done();
                Ok(row.is_some())
            })
            .await
    }

    async fn page(&self, after: Option<Cursor>, limit: u32) -> Result<Vec<Profile>, StoreError> {
        self.database
            .bounded(async {
                let mut lease = self.database.lease().await?;
                let query = match after {
                    None => self.database.query(
                        "SELECT id, email, email_iat, name, bio, version, created_at, updated_at
                     FROM profiles ORDER BY created_at, id LIMIT $1",
                    ),
                    Some(_) => self.database.query(
                        "SELECT id, email, email_iat, name, bio, version, created_at, updated_at
                     FROM profiles WHERE (created_at, id) > ($2, $3)
                     ORDER BY created_at, id LIMIT $1",
                    ),
                };
                let query = query.bind(i64::from(limit));
                let query = match after {
                    None => query,
                    Some(after) => query.bind(after.created_at).bind(after.id.0),
                };
                let rows = query.fetch_all(&mut *lease).await?;
                lease.done();
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
                let mut lease = self.database.lease().await?;
                // Rows that another replica is just taking are skipped, not waited for.
                let rows = self
                    .database
                    .query(
                        "UPDATE outbox SET due_at = $2, attempts = attempts + 1
                 WHERE account_id IN (
                     SELECT account_id FROM outbox WHERE due_at <= $1
                     ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED
                 )
                 RETURNING account_id, request_id, traceparent, created_at, attempts",
                    )
                    .bind(now)
                    .bind(lease_until)
                    .bind(i64::from(limit))
                    .fetch_all(&mut *lease)
                    .await?;
                lease.commit().await?;
                rows.iter().map(entry).collect()
            })
            .await
    }

    async fn backlog(&self) -> Result<(i64, Option<DateTime<Utc>>), StoreError> {
        self.database
            .bounded(async {
                let mut lease = self.database.lease().await?;
                let row = self
                    .database
                    .query("SELECT count(*) AS depth, min(created_at) AS oldest FROM outbox")
                    .fetch_one(&mut *lease)
                    .await?;
                Ok((row.try_get("depth")?, row.try_get("oldest")?))
            })
            .await
    }

    async fn outbox(&self, limit: u32) -> Result<Vec<OutboxEntry>, StoreError> {
        self.database
            .bounded(async {
                let mut lease = self.database.lease().await?;
                let rows = self
                    .database
                    .query(
                        "SELECT account_id, request_id, traceparent, created_at, attempts
                 FROM outbox ORDER BY created_at, account_id LIMIT $1",
                    )
                    .bind(i64::from(limit))
                    .fetch_all(&mut *lease)
                    .await?;
                rows.iter().map(entry).collect()
            })
            .await
    }

    async fn retry_all(&self, now: DateTime<Utc>) -> Result<u64, StoreError> {
        self.database
            .bounded(async {
                let mut lease = self.database.lease().await?;
                let done = self
                    .database
                    .query("UPDATE outbox SET due_at = $1 WHERE due_at > $1")
                    .bind(now)
                    .execute(&mut *lease)
                    .await?;
                lease.commit().await?;
                Ok(done.rows_affected())
            })
            .await
    }

    async fn remove_delivered(&self, account_id: UserId) -> Result<(), StoreError> {
        self.database
            .bounded(async {
                let mut lease = self.database.lease().await?;
                self.database
                    .query("DELETE FROM outbox WHERE account_id = $1")
                    .bind(account_id.0)
                    .execute(&mut *lease)
                    .await?;
                lease.commit().await
            })
            .await
    }

    async fn postpone(&self, account_id: UserId, due_at: DateTime<Utc>) -> Result<(), StoreError> {
        self.database
            .bounded(async {
                let mut lease = self.database.lease().await?;
                self.database
                    .query("UPDATE outbox SET due_at = $2 WHERE account_id = $1")
                    .bind(account_id.0)
                    .bind(due_at)
                    .execute(&mut *lease)
                    .await?;
                lease.commit().await
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

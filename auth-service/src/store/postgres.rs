//! The store on Postgres.

use std::sync::LazyLock;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use service_kit::client_address::Network;
use sql_kit::{Connections, PoolOptions, Postgres, migrator};
use sqlx::{Row as _, migrate::Migrator, postgres::PgConnectOptions, postgres::PgRow};

use super::{
    ALL_NETWORKS, AccountRecord, Attempt, KeyRecord, NETWORK_MEMORY, NETWORK_REFRESH, Outcome,
    PENDING_FOR, PRUNE_BATCH, Reserved, Store, StoreError, stored_email, window_end,
};
use crate::{
    domain::{AccountId, Email},
    throttle::{FailureLimits, Subject},
};

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    migrator(&[
        (1, "accounts", include_str!("../../migrations/postgres/0001_accounts.sql")),
        (2, "throttle", include_str!("../../migrations/postgres/0002_throttle.sql")),
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

fn account(row: &PgRow) -> Result<AccountRecord, sqlx::Error> {
    Ok(AccountRecord {
        id: AccountId(row.try_get("id")?),
        email: stored_email(row.try_get("email")?)?,
        password_hash: row.try_get("password_hash")?,
        hash_scheme: row.try_get("hash_scheme")?,
        created_at: row.try_get("created_at")?,
    })
}

fn key(row: &PgRow) -> Result<KeyRecord, sqlx::Error> {
    Ok(KeyRecord {
        kid: row.try_get("kid")?,
        algorithm: row.try_get("algorithm")?,
        sealed_key: row.try_get("sealed_key")?,
        created_at: row.try_get("created_at")?,
        activates_at: row.try_get("activates_at")?,
    })
}

/// Reserves one attempt in a row, in a new window where the old one has ended.
async fn reserve(
    database: &Postgres,
    connection: &mut sqlx::PgConnection,
    subject: Subject,
    network: &str,
    limits: FailureLimits,
    now: DateTime<Utc>,
) -> Result<Reserved, sqlx::Error> {
    let row = database
        .query(
            "INSERT INTO login_failures AS f
             (subject, network, failures, expires_at, pending, pending_until)
         VALUES ($1, $2, 0, $3, 1, $4)
         ON CONFLICT (subject, network) DO UPDATE SET
             failures = CASE WHEN f.expires_at <= $5 THEN 0 ELSE f.failures END,
             pending = CASE WHEN f.pending_until <= $5 THEN 1 ELSE f.pending + 1 END,
             pending_until = excluded.pending_until
         RETURNING failures, pending, expires_at",
        )
        .bind(subject.0.as_slice())
        .bind(network)
        .bind(window_end(limits, now))
        .bind(now + PENDING_FOR)
        .bind(now)
        .fetch_one(connection)
        .await?;
    Ok(Reserved {
        failures: row.try_get("failures")?,
        pending: row.try_get("pending")?,
        until: row.try_get("expires_at")?,
    })
}

/// Settles one attempt in a row.
async fn settle(
    database: &Postgres,
    connection: &mut sqlx::PgConnection,
    subject: Subject,
    network: &str,
    outcome: Outcome,
    limits: FailureLimits,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let reset = outcome == Outcome::Succeeded && network != ALL_NETWORKS;
    database
        .query(
            "UPDATE login_failures SET
             pending = CASE WHEN pending > 0 THEN pending - 1 ELSE 0 END,
             failures = CASE WHEN $3 THEN 0
                             WHEN NOT $4 THEN failures
                             WHEN failures = 0 OR expires_at <= $5 THEN 1
                             ELSE failures + 1 END,
             expires_at = CASE WHEN $4 AND (failures = 0 OR expires_at <= $5) THEN $6
                               ELSE expires_at END
         WHERE subject = $1 AND network = $2",
        )
        .bind(subject.0.as_slice())
        .bind(network)
        .bind(reset)
        .bind(outcome == Outcome::Failed)
        .bind(now)
        .bind(window_end(limits, now))
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether a login to the account has succeeded from this network lately.
async fn is_known_network(
    database: &Postgres,
    connection: &mut sqlx::PgConnection,
    subject: Subject,
    network: &str,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let row = database
        .query("SELECT 1 FROM login_networks WHERE subject = $1 AND network = $2 AND seen_at > $3")
        .bind(subject.0.as_slice())
        .bind(network)
        .bind(now - NETWORK_MEMORY)
        .fetch_optional(connection)
        .await?;
    Ok(row.is_some())
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

    async fn create_account(&self, account: &AccountRecord) -> Result<bool, StoreError> {
        self.database
            .bounded(async {
                let mut lease = self.database.lease().await?;
                let done = self
                    .database
                    .query(
                        "INSERT INTO accounts (id, email, password_hash, hash_scheme, created_at)
                 VALUES ($1, $2, $3, $4, $5) ON CONFLICT (email) DO NOTHING",
                    )
                    .bind(account.id.0)
                    .bind(account.email.as_str())
                    .bind(&account.password_hash)
                    .bind(&account.hash_scheme)
                    .bind(account.created_at)
                    .execute(&mut *lease)
                    .await?;
                lease.commit().await?;
                Ok(done.rows_affected() == 1)
            })
            .await
    }

    async fn account_by_email(&self, email: &Email) -> Result<Option<AccountRecord>, StoreError> {
        self.database
            .bounded(async {
                let mut lease = self.database.lease().await?;
                let row = self
                    .database
                    .query(
                        "SELECT id, email, password_hash, hash_scheme, created_at
                 FROM accounts WHERE email = $1",
                    )
                    .bind(email.as_str())
                    .fetch_optional(&mut *lease)
                    .await?;
                lease.done();
                row.as_ref().map(account).transpose()
            })
            .await
    }

    async fn account_exists(&self, id: AccountId) -> Result<bool, StoreError> {
        self.database
            .bounded(async {
                let mut lease = self.database.lease().await?;
                let row = self
                    .database
                    .query("SELECT 1 FROM accounts WHERE id = $1")
                    .bind(id.0)
                    .fetch_optional(&mut *lease)
                    .await?;
                lease.done();
                Ok(row.is_some())
            })
            .await
    }

    async fn replace_password_hash(
        &self,
        id: AccountId,
        before: &str,
        after: &str,
        scheme: &str,
    ) -> Result<bool, StoreError> {
        self.database
            .bounded(async {
                let mut lease = self.database.lease().await?;
                let done = self
                    .database
                    .query(
                        "UPDATE accounts SET password_hash = $3, hash_scheme = $4
                 WHERE id = $1 AND password_hash = $2",
                    )
                    .bind(id.0)
                    .bind(before)
                    .bind(after)
                    .bind(scheme)
                    .execute(&mut *lease)
                    .await?;
                lease.commit().await?;
                Ok(done.rows_affected() == 1)
            })
            .await
    }

    async fn delete_account(&self, id: AccountId) -> Result<Option<Email>, StoreError> {
        self.database
            .bounded(async {
                let mut lease = self.database.lease().await?;
                let email: Option<String> = self
                    .database
                    .query_scalar("DELETE FROM accounts WHERE id = $1 RETURNING email")
                    .bind(id.0)
                    .fetch_optional(&mut *lease)
                    .await?;
                lease.commit().await?;
                email.as_deref().map(stored_email).transpose()
            })
            .await
    }

    async fn hash_schemes(&self) -> Result<Vec<String>, StoreError> {
        self.database
            .bounded(async {
                let mut lease = self.database.lease().await?;
                // A loose index scan: one step for each scheme, however many accounts there are.
                self.database
                    .query_scalar(
                        "WITH RECURSIVE schemes AS (
                     (SELECT hash_scheme FROM accounts ORDER BY hash_scheme LIMIT 1)
                     UNION ALL
                     SELECT (SELECT hash_scheme FROM accounts
                             WHERE hash_scheme > schemes.hash_scheme
                             ORDER BY hash_scheme LIMIT 1)
                     FROM schemes WHERE schemes.hash_scheme IS NOT NULL
                 )
                 SELECT hash_scheme FROM schemes WHERE hash_scheme IS NOT NULL",
                    )
                    .fetch_all(&mut *lease)
                    .await
            })
            .await
    }

    async fn signing_keys(&self) -> Result<Vec<KeyRecord>, StoreError> {
        self.database
            .bounded(async {
                let mut lease = self.database.lease().await?;
                let rows = self
                    .database
                    .query(
                        "SELECT kid, algorithm, sealed_key, created_at, activates_at
                 FROM signing_keys ORDER BY activates_at, created_at, kid",
                    )
                    .fetch_all(&mut *lease)
                    .await?;
                lease.done();
                rows.iter().map(key).collect()
            })
            .await
    }

    async fn add_signing_key(
        &self,
        key: &KeyRecord,
        expected: Option<&str>,
    ) -> Result<bool, StoreError> {
        self.database
            .bounded(async {
                let mut transaction = self.database.transaction().await?;
                // One replica at a time; readers go on.
                self.database
                    .query("LOCK TABLE signing_keys IN SHARE ROW EXCLUSIVE MODE")
                    .execute(&mut *transaction)
                    .await?;
                let newest: Option<String> = self.database.query_scalar(
                "SELECT kid FROM signing_keys ORDER BY activates_at DESC, created_at DESC, kid DESC
                 LIMIT 1",
            )
            .fetch_optional(&mut *transaction)
            .await?;
                if newest.as_deref() != expected {
                    return Ok(false);
                }
                self.database.query(
                "INSERT INTO signing_keys (kid, algorithm, sealed_key, created_at, activates_at)
                 VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(&key.kid)
            .bind(&key.algorithm)
            .bind(&key.sealed_key)
            .bind(key.created_at)
            .bind(key.activates_at)
            .execute(&mut *transaction)
            .await?;
                transaction.commit().await?;
                Ok(true)
            })
            .await
    }

    async fn reseal_signing_keys(
        &self,
        keys: &[(String, Vec<u8>, Vec<u8>)],
    ) -> Result<bool, StoreError> {
        self.database
            .bounded(async {
                let mut transaction = self.database.transaction().await?;
                self.database
                    .query("LOCK TABLE signing_keys IN SHARE ROW EXCLUSIVE MODE")
                    .execute(&mut *transaction)
                    .await?;
                let stored: i64 = self
                    .database
                    .query_scalar("SELECT count(*) FROM signing_keys")
                    .fetch_one(&mut *transaction)
                    .await?;
                let mut replaced = 0;
                for (kid, before, after) in keys {
                    replaced += self.database.query(
                    "UPDATE signing_keys SET sealed_key = $3 WHERE kid = $1 AND sealed_key = $2",
                )
                .bind(kid)
                .bind(before)
                .bind(after)
                .execute(&mut *transaction)
                .await?
                .rows_affected();
                }
                let all =
                    usize::try_from(stored) == Ok(keys.len()) && replaced == keys.len() as u64;
                if all {
                    transaction.commit().await?;
                }
                Ok(all)
            })
            .await
    }

    async fn remove_signing_key(&self, kid: &str) -> Result<(), StoreError> {
        self.database
            .bounded(async {
                let mut lease = self.database.lease().await?;
                self.database
                    .query("DELETE FROM signing_keys WHERE kid = $1")
                    .bind(kid)
                    .execute(&mut *lease)
                    .await?;
                lease.commit().await
            })
            .await
    }

    async fn count_attempt(
        &self,
        subject: Subject,
        network: Network,
        limits: FailureLimits,
        now: DateTime<Utc>,
    ) -> Result<Attempt, StoreError> {
        self.database
            .bounded(async {
                let mut transaction = self.database.transaction().await?;
                let network = network.to_string();
                // An attempt that is refused rolls back: it counts nowhere.
                if limits.per_pair > 0 {
                    let pair =
                        reserve(&self.database, &mut transaction, subject, &network, limits, now)
                            .await?;
                    if let Some(refused) = pair.refused(limits.per_pair, true) {
                        return Ok(refused);
                    }
                }
                if limits.per_account > 0 {
                    let all = reserve(
                        &self.database,
                        &mut transaction,
                        subject,
                        ALL_NETWORKS,
                        limits,
                        now,
                    )
                    .await?;
                    if let Some(refused) = all.refused(limits.per_account, false)
                        && !is_known_network(
                            &self.database,
                            &mut transaction,
                            subject,
                            &network,
                            now,
                        )
                        .await?
                    {
                        return Ok(refused);
                    }
                }
                transaction.commit().await?;
                Ok(Attempt::Counted)
            })
            .await
    }

    async fn settle_attempt(
        &self,
        subject: Subject,
        network: Network,
        outcome: Outcome,
        limits: FailureLimits,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.database
            .bounded(async {
                let mut transaction = self.database.transaction().await?;
                let network = network.to_string();
                // In the order in which they are reserved, so that no two wait for each other.
                for network in [network.as_str(), ALL_NETWORKS] {
                    settle(
                        &self.database,
                        &mut transaction,
                        subject,
                        network,
                        outcome,
                        limits,
                        now,
                    )
                    .await?;
                }
                if outcome == Outcome::Succeeded {
                    self.database
                        .query(
                            "INSERT INTO login_networks AS n (subject, network, seen_at)
                     VALUES ($1, $2, $3)
                     ON CONFLICT (subject, network) DO UPDATE SET seen_at = excluded.seen_at
                     WHERE n.seen_at < $4",
                        )
                        .bind(subject.0.as_slice())
                        .bind(&network)
                        .bind(now)
                        .bind(now - NETWORK_REFRESH)
                        .execute(&mut *transaction)
                        .await?;
                }
                transaction.commit().await
            })
            .await
    }

    async fn forget_attempts(&self, subject: Subject) -> Result<(), StoreError> {
        self.database
            .bounded(async {
                let mut transaction = self.database.transaction().await?;
                for statement in [
                    "DELETE FROM login_failures WHERE subject = $1",
                    "DELETE FROM login_networks WHERE subject = $1",
                ] {
                    self.database
                        .query(statement)
                        .bind(subject.0.as_slice())
                        .execute(&mut *transaction)
                        .await?;
                }
                transaction.commit().await
            })
            .await
    }

    async fn prune_attempts(&self, now: DateTime<Utc>) -> Result<(), StoreError> {
        self.database.bounded(async {
            let mut transaction = self.database.transaction().await?;
            for (statement, before) in [
                (
                    "DELETE FROM login_failures WHERE (subject, network) IN
                         (SELECT subject, network FROM login_failures
                          WHERE expires_at <= $1 AND pending_until <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
                    now,
                ),
                (
                    "DELETE FROM login_networks WHERE (subject, network) IN
                         (SELECT subject, network FROM login_networks
                          WHERE seen_at <= $1 ORDER BY seen_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
                    now - NETWORK_MEMORY,
                ),
            ] {
                self.database.query(statement)
                    .bind(before)
                    .bind(PRUNE_BATCH)
                    .execute(&mut *transaction)
                    .await?;
            }
            transaction.commit().await
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

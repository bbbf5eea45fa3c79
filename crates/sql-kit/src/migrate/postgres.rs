//! Migrations of Postgres.

use std::time::Duration;

use sqlx::{
    Executor as _, PgConnection,
    migrate::{Migrate as _, MigrateError, Migration, Migrator},
};

use super::{MIGRATIONS_TABLE, Migrated, apply, missing};
use crate::{StoreError, error};

/// The advisory lock that allows one process at a time to migrate: "latchkey" in ASCII.
const LOCK: i64 = 0x6C61_7463_686B_6579;
/// How long to wait before trying to take the lock again. The lock is polled, because a statement that
/// waits for it would hold a snapshot, and building an index concurrently waits for all older snapshots.
const LOCK_PAUSE: Duration = Duration::from_millis(200);
/// How long to wait before retrying a migration that could not lock a table.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Runs the missing migrations. The connection must not be used for anything else afterwards.
pub(crate) async fn run(
    connection: &mut PgConnection,
    migrator: &Migrator,
) -> Result<Vec<Migrated>, StoreError> {
    // If nothing is missing, nothing is written, because the role may lack the privilege or the server
    // may be read-only.
    if has_table(connection).await? && missing(connection, migrator).await?.is_empty() {
        return Ok(Vec::new());
    }
    lock(connection).await?;
    if !has_table(connection).await? {
        connection.ensure_migrations_table(MIGRATIONS_TABLE).await?;
    }
    connection
        .execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
        .await?;
    let mut migrated = Vec::new();
    for migration in missing(connection, migrator).await? {
        migrated.push(apply_patiently(connection, migration).await?);
    }
    connection.execute("SELECT pg_advisory_unlock_all()").await?;
    Ok(migrated)
}

async fn has_table(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(MIGRATIONS_TABLE)
        .fetch_one(connection)
        .await
}

async fn lock(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let mut is_told = false;
    loop {
        let locked: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
            .bind(LOCK)
            .fetch_one(&mut *connection)
            .await?;
        if locked {
            return Ok(());
        }
        if !is_told {
            tracing::info!("another process migrates the database: waiting for it");
            is_told = true;
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
}

/// Runs one migration. If it cannot lock a table soon, it gives up, so that the statements queued behind
/// it can continue, and is retried.
async fn apply_patiently(
    connection: &mut PgConnection,
    migration: &Migration,
) -> Result<Migrated, StoreError> {
    // A migration outside a transaction blocks nobody while it waits, so it may wait for as long as
    // necessary.
    let timeout = if migration.no_tx { "SET lock_timeout = 0" } else { "SET lock_timeout = '3s'" };
    connection.execute(timeout).await?;
    loop {
        if migration.no_tx {
            remove_unfinished_index(connection, migration.sql.as_str()).await?;
        }
        match apply(connection, migration).await {
            Err(MigrateError::ExecuteMigration(error, version)) if error::is_blocked(&error) => {
                tracing::warn!(
                    version,
                    "a migration waits for a lock that somebody else holds: trying again"
                );
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            result => return Ok(result?),
        }
    }
}

/// Drops the invalid index that a failed `CREATE INDEX CONCURRENTLY` leaves behind.
async fn remove_unfinished_index(
    connection: &mut PgConnection,
    statement: &str,
) -> Result<(), sqlx::Error> {
    let Some(name) = concurrent_index(statement) else { return Ok(()) };
    let is_unfinished: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass($1) AND NOT indisvalid)",
    )
    .bind(name)
    .fetch_one(&mut *connection)
    .await?;
    if is_unfinished {
        let drop = format!("DROP INDEX CONCURRENTLY IF EXISTS {name}");
        connection.execute(sqlx::AssertSqlSafe(drop)).await?;
    }
    Ok(())
}

/// The name of the index that a statement builds concurrently.
fn concurrent_index(statement: &str) -> Option<&str> {
    let mut words = statement
        .lines()
        .filter(|line| !line.trim_start().starts_with("--"))
        .flat_map(str::split_whitespace)
        .skip_while(|word| !word.eq_ignore_ascii_case("CONCURRENTLY"))
        .skip(1)
        .skip_while(|word| {
            ["IF", "NOT", "EXISTS"].iter().any(|skip| word.eq_ignore_ascii_case(skip))
        });
    words.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_is_built_concurrently_is_known_by_its_name() {
        for (statement, name) in [
            ("-- no-transaction\nCREATE INDEX CONCURRENTLY a_b ON a (b)", Some("a_b")),
            (
                "-- no\n-- x CONCURRENTLY y\ncreate unique index concurrently if not exists i\n ON a (b)",
                Some("i"),
            ),
            ("CREATE INDEX a_b ON a (b)", None),
        ] {
            assert_eq!(concurrent_index(statement), name, "{statement}");
        }
    }
}

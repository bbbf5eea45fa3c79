//! The list of deleted accounts, in commit order.

use aws_lc_rs::rand;
use chrono::{DateTime, Utc};
use sql_kit::{Row, Statement, Unit, values};

use crate::domain::AccountId;

/// The Postgres advisory lock for adding entries (`latchdel` in ASCII).
const LOCK: i64 = 0x6c61_7463_6864_656c;
const NONCE_BYTES: usize = 8;
/// How many rows one pruning statement removes.
const PRUNE_BATCH: u32 = 10_000;

/// A stored deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletionRecord {
    /// Its position in the list, from 1.
    pub position: i64,
    /// Distinguishes it from an entry that had the same position before a backup was restored.
    pub nonce: Vec<u8>,
    /// The account.
    pub account: AccountId,
}

fn record(row: &Row) -> Result<DeletionRecord, sqlx::Error> {
    Ok(DeletionRecord {
        position: row.get("position")?,
        nonce: row.get("nonce")?,
        account: AccountId(row.get("account_id")?),
    })
}

/// Adds a deletion. Other deletions wait until the transaction ends, so positions are in commit order:
/// a reader that has seen a position has seen all positions before it.
pub(super) async fn add(unit: &mut Unit, account: AccountId) -> Result<(), sqlx::Error> {
    const ADD: Statement = Statement::per_engine(
        "INSERT INTO deleted_accounts (position, nonce, account_id, deleted_at)
         SELECT coalesce(max(position), 0) + 1, $1, $2, clock_timestamp() FROM deleted_accounts",
        "INSERT INTO deleted_accounts (position, nonce, account_id, deleted_at)
         SELECT coalesce(max(position), 0) + 1, $1, $2,
                CAST(unixepoch('subsec') * 1000000 AS INTEGER)
         FROM deleted_accounts",
    );
    if unit.is_postgres() {
        unit.execute("SELECT pg_advisory_xact_lock($1)", values![LOCK]).await?;
    }
    let mut nonce = [0; NONCE_BYTES];
    rand::fill(&mut nonce).map_err(|_| sqlx::Error::Protocol("no random bytes".to_owned()))?;
    unit.execute(ADD, values![&nonce[..], account.0]).await?;
    Ok(())
}

/// Whether the entry at this position is the one with this nonce.
///
/// # Errors
///
/// The errors of the database, as of all functions here.
pub async fn is_known(unit: &mut Unit, position: i64, nonce: &[u8]) -> Result<bool, sqlx::Error> {
    let row = unit
        .fetch_optional(
            "SELECT 1 FROM deleted_accounts WHERE position = $1 AND nonce = $2",
            values![position, nonce],
        )
        .await?;
    Ok(row.is_some())
}

/// The first `limit` deletions after a position, in their order.
///
/// # Errors
///
/// The errors of the database.
pub async fn after(
    unit: &mut Unit,
    position: i64,
    limit: u32,
) -> Result<Vec<DeletionRecord>, sqlx::Error> {
    let rows = unit
        .fetch_all(
            "SELECT position, nonce, account_id FROM deleted_accounts
             WHERE position > $1 ORDER BY position LIMIT $2",
            values![position, limit],
        )
        .await?;
    rows.iter().map(record).collect()
}

/// Removes one batch of the deletions before `before`. The newest entry stays, whatever its age,
/// because the cursors of readers that are up to date point to it. Returns whether there may be more
/// to remove.
///
/// # Errors
///
/// The errors of the database.
pub async fn prune(unit: &mut Unit, before: DateTime<Utc>) -> Result<bool, sqlx::Error> {
    let removed = unit
        .execute(
            "DELETE FROM deleted_accounts WHERE position IN (
                 SELECT position FROM deleted_accounts
                 WHERE deleted_at < $1
                   AND position < (SELECT max(position) FROM deleted_accounts)
                 ORDER BY deleted_at LIMIT $2
             )",
            values![before, PRUNE_BATCH],
        )
        .await?;
    Ok(removed == u64::from(PRUNE_BATCH))
}

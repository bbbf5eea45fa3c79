//! The revocation feed, in commit order: everything that was revoked within the lifetime of a token plus
//! the longest leeway of a verifier.

use aws_lc_rs::rand;
use chrono::{DateTime, Utc};
use sql_kit::{Row, StoreError, Unit, read, values, write_one};
use token_verifier::RevocationDigest;
use uuid::Uuid;

use super::Store;
use crate::domain::AccountId;

/// The Postgres advisory lock for adding entries (`latchrev` in ASCII).
const LOCK: i64 = 0x6c61_7463_6872_6576;
const NONCE_BYTES: usize = 8;
/// How many rows one pruning statement removes.
const PRUNE_BATCH: i64 = 10_000;

/// What is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoked {
    /// Every token of a session.
    Session(Uuid),
    /// Every token of an account with a lower generation than this.
    Account(AccountId, i64),
}

/// A stored entry of the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationRecord {
    /// Its position in the feed, from 1.
    pub position: i64,
    /// Distinguishes it from an entry that had the same position before a backup was restored.
    pub nonce: Vec<u8>,
    /// The digest of a session.
    pub session: Option<Vec<u8>>,
    /// The digest of an account, and the first generation whose tokens are still valid.
    pub account: Option<(Vec<u8>, i64)>,
    /// When it stops counting.
    pub until: DateTime<Utc>,
}

fn record(row: &Row) -> Result<RevocationRecord, sqlx::Error> {
    let account: Option<Vec<u8>> = row.get("account")?;
    let generation: Option<i64> = row.get("generation")?;
    Ok(RevocationRecord {
        position: row.get("position")?,
        nonce: row.get("nonce")?,
        session: row.get("session")?,
        account: account.zip(generation),
        until: row.get("until")?,
    })
}

/// Adds entries to the feed. This must come last in a transaction: other transactions that revoke wait
/// until it ends, so positions are in commit order, and a reader that has seen a position has seen all
/// positions before it.
///
/// # Errors
///
/// The errors of the database, as of all functions here.
pub async fn add(
    unit: &mut Unit,
    revoked: &[Revoked],
    until: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    if revoked.is_empty() {
        return Ok(());
    }
    if unit.is_postgres() {
        unit.execute("SELECT pg_advisory_xact_lock($1)", values![LOCK]).await?;
    }
    for revoked in revoked {
        let (session, account, generation) = match revoked {
            Revoked::Session(id) => (Some(RevocationDigest::of(*id)), None, None),
            Revoked::Account(id, generation) => {
                (None, Some(RevocationDigest::of(id.0)), Some(*generation))
            }
        };
        let mut nonce = [0; NONCE_BYTES];
        rand::fill(&mut nonce).map_err(|_| sqlx::Error::Protocol("no random bytes".to_owned()))?;
        unit.execute(
            "INSERT INTO revocations (position, nonce, session, account, generation, until)
             SELECT coalesce(max(position), 0) + 1, $1, $2, $3, $4, $5 FROM revocations",
            values![
                &nonce[..],
                session.as_ref().map(|digest| &digest.as_bytes()[..]),
                account.as_ref().map(|digest| &digest.as_bytes()[..]),
                generation,
                until
            ],
        )
        .await?;
    }
    Ok(())
}

/// The id of this database.
///
/// # Errors
///
/// The errors of the database.
pub async fn installation(unit: &mut Unit) -> Result<Vec<u8>, sqlx::Error> {
    unit.fetch_one("SELECT id FROM installation", values![]).await?.get("id")
}

/// Whether the entry at this position is the one with this nonce.
///
/// # Errors
///
/// The errors of the database.
pub async fn is_known(unit: &mut Unit, position: i64, nonce: &[u8]) -> Result<bool, sqlx::Error> {
    let row = unit
        .fetch_optional(
            "SELECT position FROM revocations WHERE position = $1 AND nonce = $2",
            values![position, nonce],
        )
        .await?;
    Ok(row.is_some())
}

/// The entries after a position, in order, including those that no longer count.
///
/// # Errors
///
/// The errors of the database.
pub async fn after(
    unit: &mut Unit,
    position: i64,
    limit: i64,
) -> Result<Vec<RevocationRecord>, sqlx::Error> {
    let rows = unit
        .fetch_all(
            "SELECT position, nonce, session, account, generation, until
             FROM revocations WHERE position > $1 ORDER BY position LIMIT $2",
            values![position, limit],
        )
        .await?;
    rows.iter().map(record).collect()
}

/// The newest entry, if there is any.
///
/// # Errors
///
/// The errors of the database.
pub async fn newest(unit: &mut Unit) -> Result<Option<RevocationRecord>, sqlx::Error> {
    let row = unit
        .fetch_optional(
            "SELECT position, nonce, session, account, generation, until
             FROM revocations ORDER BY position DESC LIMIT 1",
            values![],
        )
        .await?;
    row.as_ref().map(record).transpose()
}

impl Store {
    /// How many entries there are.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn count_revocations(&self) -> Result<i64, StoreError> {
        read!(self, |unit| {
            unit.fetch_one("SELECT count(*) AS n FROM revocations", values![]).await?.get("n")
        })
        .await
    }

    /// Removes the entries that end before `end`, in one transaction with a limited number of rows. The
    /// newest entry stays, because the cursors of readers that are up to date point to it.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn prune_revocations(&self, end: DateTime<Utc>) -> Result<u64, StoreError> {
        let mut removed = 0;
        loop {
            let batch = write_one!(self, |unit| {
                unit.execute(
                    "DELETE FROM revocations WHERE position IN
                         (SELECT position FROM revocations
                          WHERE until <= $1 AND position < (SELECT max(position) FROM revocations)
                          ORDER BY until LIMIT $2)",
                    values![end, PRUNE_BATCH],
                )
                .await
            });
            let batch = batch.await?;
            removed += batch;
            if batch < PRUNE_BATCH.unsigned_abs() {
                return Ok(removed);
            }
        }
    }
}

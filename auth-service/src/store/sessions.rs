//! Sessions.

use chrono::{DateTime, TimeDelta, TimeZone as _, Utc};
use sql_kit::{Row, Statement, StoreError, Unit, values, write_one};
use uuid::Uuid;

use super::{Store, accounts::AccountRecord};
use crate::{
    domain::AccountId,
    sessions::{Consumption, Position},
};

/// How many rows one pruning statement removes.
const PRUNE_BATCH: i64 = 10_000;
/// The longest lifetime of an access token.
const MAX_TOKEN_TTL: TimeDelta = TimeDelta::hours(1);

/// A stored session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its id: the `sid` of its access tokens.
    pub id: Uuid,
    /// The account that it belongs to.
    pub account: AccountId,
    /// When it was started.
    pub created_at: DateTime<Utc>,
    /// When it was started or last refreshed.
    pub last_used_at: DateTime<Utc>,
    /// When it expires unless it is refreshed; never later than the end of its lifetime.
    pub expires_at: DateTime<Utc>,
    /// The state of its refresh tokens.
    pub position: Position,
    /// The network from which it was started, in the format of the log.
    pub network: String,
    /// The program that started it.
    pub user_agent: String,
}

fn session(row: &Row) -> Result<SessionRecord, sqlx::Error> {
    Ok(SessionRecord {
        id: row.get("session_id")?,
        account: AccountId(row.get("account_id")?),
        created_at: row.get("session_created_at")?,
        last_used_at: row.get("last_used_at")?,
        expires_at: row.get("expires_at")?,
        position: Position {
            current: row.get("current")?,
            consumed: row.get("consumed")?,
            consumptions: read_consumptions(&row.get::<String>("consumptions")?),
        },
        network: row.get("network")?,
        user_agent: row.get("user_agent")?,
    })
}

/// Encodes each consumption as `number:microseconds;`, the newest first.
fn write_consumptions(consumptions: &[Consumption]) -> String {
    let write = |consumption: &Consumption| {
        format!("{}:{};", consumption.number, consumption.at.timestamp_micros())
    };
    consumptions.iter().map(write).collect()
}

fn read_consumptions(text: &str) -> Vec<Consumption> {
    let read = |entry: &str| {
        let (number, micros) = entry.split_once(':')?;
        let at = Utc.timestamp_micros(micros.parse().ok()?).single()?;
        Some(Consumption { number: number.parse().ok()?, at })
    };
    text.split(';').filter_map(read).collect()
}

/// Adds a session.
///
/// # Errors
///
/// The errors of the database, as of all functions here.
pub async fn insert(unit: &mut Unit, session: &SessionRecord) -> Result<(), sqlx::Error> {
    unit.execute(
        "INSERT INTO sessions (id, account_id, created_at, last_used_at, expires_at, current,
                               consumed, consumptions, network, user_agent)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        values![
            session.id,
            session.account.0,
            session.created_at,
            session.last_used_at,
            session.expires_at,
            session.position.current,
            session.position.consumed,
            &write_consumptions(&session.position.consumptions),
            &session.network,
            &session.user_agent
        ],
    )
    .await?;
    Ok(())
}

/// Finds a session that has not expired, with its account, unless the account is disabled.
///
/// # Errors
///
/// The errors of the database.
pub async fn with_account(
    unit: &mut Unit,
    id: Uuid,
    now: DateTime<Utc>,
) -> Result<Option<(SessionRecord, AccountRecord)>, sqlx::Error> {
    let row = unit
        .fetch_optional(
            "SELECT s.id AS session_id, s.account_id, s.created_at AS session_created_at,
                    s.last_used_at, s.expires_at, s.current, s.consumed, s.consumptions, s.network,
                    s.user_agent, a.id, a.email, a.password_hash, a.hash_scheme, a.created_at,
                    a.generation, a.email_verified, a.disabled
             FROM sessions s JOIN accounts a ON a.id = s.account_id
             WHERE s.id = $1 AND s.expires_at > $2 AND NOT a.disabled",
            values![id, now],
        )
        .await?;
    row.map(|row| Ok((session(&row)?, super::accounts::account(&row)?))).transpose()
}

/// The unexpired sessions of an account, the most recently used one first.
///
/// # Errors
///
/// The errors of the database.
pub async fn of_account(
    unit: &mut Unit,
    account: AccountId,
    now: DateTime<Utc>,
) -> Result<Vec<SessionRecord>, sqlx::Error> {
    let rows = unit
        .fetch_all(
            "SELECT id AS session_id, account_id, created_at AS session_created_at, last_used_at,
                    expires_at, current, consumed, consumptions, network, user_agent
             FROM sessions WHERE account_id = $1 AND expires_at > $2
             ORDER BY last_used_at DESC, id",
            values![account.0, now],
        )
        .await?;
    rows.iter().map(session).collect()
}

/// Whether a session was not ended explicitly. A session that merely expired still exists until its
/// access tokens have expired, because the revocation feed does not list them.
///
/// # Errors
///
/// The errors of the database.
pub async fn exists(unit: &mut Unit, id: Uuid) -> Result<bool, sqlx::Error> {
    let row = unit.fetch_optional("SELECT id FROM sessions WHERE id = $1", values![id]).await?;
    Ok(row.is_some())
}

/// Moves a session from the position `before` to that of `after`, if it is still at `before`; of two
/// concurrent refreshes, only one succeeds. Returns whether it was moved.
///
/// # Errors
///
/// The errors of the database.
pub async fn advance(
    unit: &mut Unit,
    before: &Position,
    after: &SessionRecord,
) -> Result<bool, sqlx::Error> {
    let moved = unit
        .execute(
            "UPDATE sessions
             SET current = $4, consumed = $5, consumptions = $6, last_used_at = $7, expires_at = $8
             WHERE id = $1 AND current = $2 AND consumed = $3",
            values![
                after.id,
                before.current,
                before.consumed,
                after.position.current,
                after.position.consumed,
                &write_consumptions(&after.position.consumptions),
                after.last_used_at,
                after.expires_at
            ],
        )
        .await?;
    Ok(moved == 1)
}

/// Ends a session, optionally only if it belongs to this account. Returns the account that it belonged
/// to, if the session existed.
///
/// # Errors
///
/// The errors of the database.
pub async fn delete(
    unit: &mut Unit,
    id: Uuid,
    account: Option<AccountId>,
) -> Result<Option<AccountId>, sqlx::Error> {
    let ended = match account {
        Some(account) => {
            unit.fetch_optional(
                "DELETE FROM sessions WHERE id = $1 AND account_id = $2 RETURNING account_id",
                values![id, account.0],
            )
            .await?
        }
        None => {
            unit.fetch_optional(
                "DELETE FROM sessions WHERE id = $1 RETURNING account_id",
                values![id],
            )
            .await?
        }
    };
    ended.map(|row| Ok(AccountId(row.get("account_id")?))).transpose()
}

/// Ends a session if it is still at this position. Returns whether it was ended.
///
/// # Errors
///
/// The errors of the database.
pub async fn delete_at(
    unit: &mut Unit,
    id: Uuid,
    position: &Position,
) -> Result<bool, sqlx::Error> {
    let ended = unit
        .execute(
            "DELETE FROM sessions WHERE id = $1 AND current = $2 AND consumed = $3",
            values![id, position.current, position.consumed],
        )
        .await?;
    Ok(ended == 1)
}

/// Ends the sessions of an account, except for one if it is given. Returns the ended sessions.
///
/// # Errors
///
/// The errors of the database.
pub async fn delete_of(
    unit: &mut Unit,
    account: AccountId,
    but: Option<Uuid>,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let rows = unit
        .fetch_all(
            "DELETE FROM sessions WHERE account_id = $1 AND id <> $2 RETURNING id",
            values![account.0, but.unwrap_or_default()],
        )
        .await?;
    rows.iter().map(|row| row.get("id")).collect()
}

/// Ends the least recently used sessions of an account, so that `most` are left. Returns the ended
/// sessions.
///
/// # Errors
///
/// The errors of the database.
pub async fn delete_surplus(
    unit: &mut Unit,
    account: AccountId,
    most: u32,
) -> Result<Vec<Uuid>, sqlx::Error> {
    const SURPLUS: Statement = Statement::per_engine(
        "DELETE FROM sessions WHERE id IN (
             SELECT id FROM sessions WHERE account_id = $1
             ORDER BY last_used_at DESC, created_at DESC, id OFFSET $2)
         RETURNING id",
        "DELETE FROM sessions WHERE id IN (
             SELECT id FROM sessions WHERE account_id = $1
             ORDER BY last_used_at DESC, created_at DESC, id LIMIT -1 OFFSET $2)
         RETURNING id",
    );
    let rows = unit.fetch_all(SURPLUS, values![account.0, most]).await?;
    rows.iter().map(|row| row.get("id")).collect()
}

impl Store {
    /// The number of sessions, including expired ones that have not been removed yet. On Postgres this
    /// is an estimate if there are many.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn count_sessions(&self) -> Result<i64, StoreError> {
        const COUNT: Statement = Statement::per_engine(
            "SELECT CASE WHEN c.reltuples > 100000 THEN c.reltuples::bigint
                         ELSE (SELECT count(*) FROM sessions) END AS n
             FROM pg_class c WHERE c.oid = 'sessions'::regclass",
            "SELECT count(*) AS n FROM sessions",
        );
        sql_kit::read!(self, |unit| unit.fetch_one(COUNT, values![]).await?.get("n")).await
    }

    /// Removes the sessions that have expired together with their access tokens, in one transaction with
    /// a limited number of rows.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn prune_sessions(&self, now: DateTime<Utc>) -> Result<u64, StoreError> {
        const EXPIRED: Statement = Statement::per_engine(
            "DELETE FROM sessions WHERE ctid = ANY(ARRAY(
                 SELECT ctid FROM sessions WHERE expires_at <= $1
                 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
            "DELETE FROM sessions WHERE id IN
                 (SELECT id FROM sessions WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)",
        );
        let (now, mut removed) = (now - MAX_TOKEN_TTL, 0);
        loop {
            let batch =
                write_one!(self, |unit| unit.execute(EXPIRED, values![now, PRUNE_BATCH]).await);
            let batch = batch.await?;
            removed += batch;
            if batch < PRUNE_BATCH.unsigned_abs() {
                return Ok(removed);
            }
        }
    }
}

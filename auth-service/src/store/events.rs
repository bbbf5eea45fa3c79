//! The table of events: added in the transaction of what they tell, read in the order of positions, made
//! anonymous when their account is deleted, and removed by age and number.
//!
//! A reader must not pass over an event whose transaction commits after one with a higher position. On
//! SQLite one transaction writes at a time, and positions are in the order of commits. On Postgres nobody
//! waits: a transaction that writes an event first takes a shared advisory lock on the position that is
//! to be given out next, and only then a position, which is that one or a later one. A reader asks for the
//! newest position, then for the lowest of those locks, and stops before it: whoever took a lock later got
//! a position after the newest. The locks end with their transactions, however those end.

use chrono::{DateTime, Utc};
use outbox::NewEntry;
use serde_json::{Map, Value, json};
use sql_kit::{Row, Statement, StoreError, Unit, read, transaction, values, write_one};
use uuid::Uuid;

use super::Store;
use crate::{
    domain::{AccountId, timestamp},
    events::{Cause, Event},
    webhooks,
};

/// The highest 16 bits of the advisory locks that tell from which position on a transaction writes; the
/// others are the position.
const LOCK_CLASS: i64 = 0x6c65;
/// The advisory lock under which the sequence of positions is set (`latchevt` in ASCII).
const ALIGNMENT_LOCK: i64 = 0x6c61_7463_6865_7674;
/// How many rows one statement of the pruning removes.
const PRUNE_BATCH: u32 = 10_000;
/// How many events of an account one statement makes anonymous.
const ERASE_BATCH: u32 = 10_000;

/// An event as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRecord {
    /// Its place in the table, from 1.
    pub position: i64,
    /// Its id.
    pub id: Uuid,
    /// Its name. Another version of the service may know others than this one.
    pub name: String,
    /// When it happened, by the database's clock.
    pub occurred_at: DateTime<Utc>,
    /// Who did it.
    pub actor: String,
    /// To which account; nothing once that is deleted, and for what concerns no single one.
    pub account: Option<AccountId>,
    /// From which network.
    pub network: Option<String>,
    /// By which request.
    pub request_id: Option<String>,
    /// What else it tells.
    pub data: Map<String, Value>,
}

fn event(row: &Row) -> Result<EventRecord, sqlx::Error> {
    let data: String = row.get("data")?;
    Ok(EventRecord {
        position: row.get("position")?,
        id: row.get("id")?,
        name: row.get("type")?,
        occurred_at: row.get("occurred_at")?,
        actor: row.get("actor")?,
        account: row.get::<Option<Uuid>>("account_id")?.map(AccountId),
        network: row.get("network")?,
        request_id: row.get("request_id")?,
        data: serde_json::from_str(&data)
            .map_err(|_| sqlx::Error::Decode("the data of an event are malformed".into()))?,
    })
}

impl Store {
    /// Writes an event in the transaction of what it tells, and its webhook where there are webhooks. A
    /// transaction that writes an event of an account holds a lock on the account, or on something of it
    /// that its deletion removes: else the event could come after the deletion, which would not see it.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn record(
        &self,
        unit: &mut Unit,
        event: &Event,
        account: Option<AccountId>,
        cause: &Cause<'_>,
    ) -> Result<(), sqlx::Error> {
        const ADD: Statement = Statement::per_engine(
            "WITH begun AS MATERIALIZED (
                 SELECT pg_advisory_xact_lock_shared(
                     ($1::bigint << 48) | (last_value + is_called::integer))
                 FROM events_position
             )
             INSERT INTO events (position, id, type, occurred_at, actor, account_id, network,
                                 request_id, data)
             SELECT nextval('events_position'), $2, $3, $4, $5, $6, $7, $8, $9 FROM begun",
            // Of SQLite's placeholders none may be left out.
            "INSERT INTO events (id, type, occurred_at, actor, account_id, network, request_id, data)
             SELECT $2, $3, $4, $5, $6, $7, $8, $9 WHERE $1 <> 0",
        );
        let (id, now) = (Uuid::new_v4(), self.now());
        let network = cause.network.map(|network| network.to_string());
        let request_id = Some(&*cause.origin.request_id).filter(|id| !id.is_empty());
        let is_deletion = *event == Event::AccountDeleted;
        let data = event.data();
        unit.execute(
            ADD,
            values![
                LOCK_CLASS,
                id,
                event.name(),
                now,
                &cause.actor.to_string(),
                // An account that is gone is not named any more.
                account.filter(|_| !is_deletion).map(|account| account.0),
                network.as_deref().filter(|_| !is_deletion),
                request_id.filter(|_| !is_deletion),
                &Value::Object(data.clone()).to_string()
            ],
        )
        .await?;
        let Some(outbox) = &self.webhooks else { return Ok(()) };
        let mut told = json!({
            "account": account.map(|account| account.to_string()),
            "actor": cause.actor.to_string(),
            "network": network.as_deref().filter(|_| !is_deletion),
            "request_id": request_id.filter(|_| !is_deletion),
        });
        if let Value::Object(told) = &mut told {
            told.extend(data);
        }
        let body = json!({ "type": event.name(), "timestamp": timestamp(now), "data": told });
        let (body, order_key) = (body.to_string(), account.map(|account| account.to_string()));
        let entry = NewEntry {
            id,
            order_key: order_key.as_deref(),
            payload: body.as_bytes(),
            origin: cause.origin,
            expires_at: Some(now + webhooks::LIFETIME),
        };
        outbox.add(unit, &entry).await.map(drop)
    }

    /// Makes the events of an account anonymous, those that webhooks have not told yet included, and
    /// writes that it was deleted. Call it in the transaction of the deletion, after all else has gone.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn erase_events(
        &self,
        unit: &mut Unit,
        account: AccountId,
        cause: &Cause<'_>,
    ) -> Result<(), sqlx::Error> {
        const EVENTS: &str = "UPDATE events
             SET account_id = NULL, network = NULL, request_id = NULL, data = '{}'
             WHERE account_id = $1";
        // They are kept apart by the account until they are told: its deletion must come last.
        const WEBHOOKS: Statement = Statement::per_engine(
            "UPDATE webhooks SET request_id = '', traceparent = '',
                 payload = convert_to(jsonb_set(convert_from(payload, 'UTF8')::jsonb, '{data}',
                     jsonb_build_object('account', NULL, 'actor',
                         convert_from(payload, 'UTF8')::jsonb -> 'data' -> 'actor',
                         'network', NULL, 'request_id', NULL))::text, 'UTF8')
             WHERE order_key = $1",
            "UPDATE webhooks SET request_id = '', traceparent = '',
                 payload = CAST(json_set(CAST(payload AS TEXT), '$.data',
                     json_object('account', NULL, 'actor',
                         json_extract(CAST(payload AS TEXT), '$.data.actor'),
                         'network', NULL, 'request_id', NULL)) AS BLOB)
             WHERE order_key = $1",
        );
        unit.execute(EVENTS, values![account.0]).await?;
        unit.execute(WEBHOOKS, values![&account.to_string()]).await?;
        self.record(unit, &Event::AccountDeleted, Some(account), cause).await
    }

    /// Makes all but the newest events of an account anonymous, some in each transaction, so that
    /// [`Store::erase_events`] has few to deal with, however many there are.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn prepare_to_erase_events(&self, account: AccountId) -> Result<(), StoreError> {
        loop {
            let erased = write_one!(self, |unit| {
                unit.execute(
                    "UPDATE events
                     SET account_id = NULL, network = NULL, request_id = NULL, data = '{}'
                     WHERE position IN (
                         SELECT position FROM events WHERE account_id = $1
                         ORDER BY position DESC LIMIT $2 OFFSET $2)",
                    values![account.0, ERASE_BATCH],
                )
                .await
            });
            if erased.await? < u64::from(ERASE_BATCH) {
                return Ok(());
            }
        }
    }

    /// Sees to it that positions which are given out come after those that the table has: another program
    /// may have filled it.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn align_positions(&self) -> Result<(), StoreError> {
        const IS_BEHIND: Statement = Statement::per_engine(
            "SELECT 1 FROM events_position WHERE last_value < (SELECT max(position) FROM events)",
            // SQLite sees to it itself.
            "SELECT 1 WHERE 1 = 0",
        );
        let is_behind =
            read!(self, |unit| unit.fetch_optional(IS_BEHIND, values![]).await).await?.is_some();
        if !is_behind {
            return Ok(());
        }
        transaction!(self, |unit| {
            unit.execute("SELECT pg_advisory_xact_lock($1)", values![ALIGNMENT_LOCK]).await?;
            unit.execute(
                "SELECT setval('events_position', newest.position)
                 FROM events_position, (SELECT max(position) AS position FROM events) AS newest
                 WHERE newest.position > last_value",
                values![],
            )
            .await
        })
        .await
        .map(drop)
    }

    /// Removes the events from before `before` and those past the newest `most` (0: any number), a bounded
    /// number of rows in one transaction. The newest stays whatever its age: it is where those stand who
    /// have read all. Returns how many are gone.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn prune_events(&self, before: DateTime<Utc>, most: i64) -> Result<u64, StoreError> {
        // Positions are dense but for transactions that failed, and times grow with them but for moments: so
        // the oldest rows are the lowest ones, and no further index is needed. On Postgres by the physical
        // place of rows: by their keys the server would read the whole table.
        const PRUNE: Statement = Statement::per_engine(
            "DELETE FROM events WHERE ctid = ANY(ARRAY(
                 SELECT oldest.place FROM (
                     SELECT ctid AS place, position, occurred_at FROM events
                     WHERE position < (SELECT max(position) FROM events)
                     ORDER BY position LIMIT $1
                 ) AS oldest
                 WHERE oldest.occurred_at < $2
                    OR $3 > 0 AND oldest.position <= (SELECT max(position) FROM events) - $3))",
            "DELETE FROM events WHERE position IN (
                 SELECT position FROM events
                 WHERE position < (SELECT max(position) FROM events)
                 ORDER BY position LIMIT $1
             ) AND (occurred_at < $2
                    OR $3 > 0 AND position <= (SELECT max(position) FROM events) - $3)",
        );
        let mut removed = 0;
        loop {
            let batch = write_one!(self, |unit| {
                unit.execute(PRUNE, values![PRUNE_BATCH, before, most]).await
            });
            let batch = batch.await?;
            removed += batch;
            if batch < u64::from(PRUNE_BATCH) {
                return Ok(removed);
            }
        }
    }
}

impl Store {
    /// How many events there are. Positions that were given out in vain count until what is older has gone.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn count_events(&self) -> Result<i64, StoreError> {
        read!(self, |unit| {
            unit.fetch_one(
                "SELECT coalesce((SELECT max(position) FROM events)
                               - (SELECT min(position) FROM events) + 1, 0) AS n",
                values![],
            )
            .await?
            .get("n")
        })
        .await
    }

    /// Removes the webhooks that have expired, where nobody sends them any more.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn remove_expired_webhooks(&self, now: DateTime<Utc>) -> Result<u64, StoreError> {
        write_one!(self, |unit| {
            unit.execute("DELETE FROM webhooks WHERE expires_at <= $1", values![now]).await
        })
        .await
    }
}

/// Up to which position a reader may read now: all that is there up to it has been decided.
///
/// # Errors
///
/// Those of the database, as of all functions here.
pub async fn horizon(unit: &mut Unit) -> Result<i64, sqlx::Error> {
    if !unit.is_postgres() {
        return Ok(i64::MAX);
    }
    // The order matters: see above. A standby does not know the locks of its primary.
    let newest = unit
        .fetch_one(
            "SELECT CASE WHEN pg_is_in_recovery() THEN 0 ELSE last_value END AS newest
             FROM events_position",
            values![],
        )
        .await?
        .get::<i64>("newest")?;
    let oldest = unit
        .fetch_one(
            "SELECT min(((classid::bigint & 65535) << 32) | objid::bigint) AS oldest
             FROM pg_locks
             WHERE locktype = 'advisory' AND objsubid = 1 AND classid::bigint >> 16 = $1
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            values![LOCK_CLASS],
        )
        .await?
        .get::<Option<i64>>("oldest")?;
    Ok(oldest.map_or(newest, |oldest| newest.min(oldest - 1)))
}

/// The first `limit` events after a position and up to another, in their order; those of one account where
/// one is given.
///
/// # Errors
///
/// Those of the database.
pub async fn between(
    unit: &mut Unit,
    account: Option<AccountId>,
    after: i64,
    up_to: i64,
    limit: u32,
) -> Result<Vec<EventRecord>, sqlx::Error> {
    let rows = match account {
        Some(account) => {
            unit.fetch_all(
                "SELECT position, id, type, occurred_at, actor, account_id, network, request_id, data
                 FROM events
                 WHERE account_id = $1 AND position > $2 AND position <= $3
                 ORDER BY position LIMIT $4",
                values![account.0, after, up_to, limit],
            )
            .await?
        }
        None => {
            unit.fetch_all(
                "SELECT position, id, type, occurred_at, actor, account_id, network, request_id, data
                 FROM events WHERE position > $1 AND position <= $2
                 ORDER BY position LIMIT $3",
                values![after, up_to, limit],
            )
            .await?
        }
    };
    rows.iter().map(event).collect()
}

/// The id of the event at a position.
///
/// # Errors
///
/// Those of the database.
pub async fn id_at(unit: &mut Unit, position: i64) -> Result<Option<Uuid>, sqlx::Error> {
    let row =
        unit.fetch_optional("SELECT id FROM events WHERE position = $1", values![position]).await?;
    row.map(|row| row.get("id")).transpose()
}

/// The lowest position that is there.
///
/// # Errors
///
/// Those of the database.
pub async fn oldest(unit: &mut Unit) -> Result<Option<i64>, sqlx::Error> {
    unit.fetch_one("SELECT min(position) AS oldest FROM events", values![]).await?.get("oldest")
}

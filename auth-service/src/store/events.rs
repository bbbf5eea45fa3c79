//! The table of events. An event is added in the transaction of the change that it describes, read in the
//! order of positions, anonymised when its account is deleted, and removed by age and number.
//!
//! A reader must not skip an event whose transaction commits after one with a higher position. SQLite has
//! one writer at a time, so positions are in commit order. On Postgres this works without waiting. A
//! transaction that writes an event first takes a shared advisory lock on the next position that the
//! sequence would return, and only then takes a position, which is that one or a later one. A reader queries
//! the newest position, then the lowest of these locks, and stops before it: a writer that took its lock
//! later has a position after the newest. The locks end with their transactions, on commit and on rollback.

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

/// The highest 16 bits of the advisory locks of writers. The other bits are the position from which the
/// transaction writes.
const LOCK_CLASS: i64 = 0x6c65;
/// The advisory lock for setting the sequence of positions (`latchevt` in ASCII).
const ALIGNMENT_LOCK: i64 = 0x6c61_7463_6865_7674;
/// How many rows one pruning statement removes.
const PRUNE_BATCH: u32 = 10_000;
/// How many events of an account one statement anonymises.
const ERASE_BATCH: u32 = 10_000;

/// A stored event.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRecord {
    /// Its position in the table, from 1.
    pub position: i64,
    /// Its id.
    pub id: Uuid,
    /// Its name. Other versions of the service may write names that this one does not know.
    pub name: String,
    /// When it happened, by the database's clock.
    pub occurred_at: DateTime<Utc>,
    /// Who caused it.
    pub actor: String,
    /// The account that it is about; `None` if the account was deleted, or if it is not about a single
    /// account.
    pub account: Option<AccountId>,
    /// The network of the client.
    pub network: Option<String>,
    /// The request that caused it.
    pub request_id: Option<String>,
    /// Its other data.
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
    /// Records an event in the transaction of the change that it describes, and queues its webhook if
    /// webhooks are on. The transaction must hold a lock on the account, or on a row that the deletion of
    /// the account removes. Otherwise the event could be added after the deletion, which would not anonymise
    /// it.
    ///
    /// # Errors
    ///
    /// The errors of the database.
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
            // SQLite requires all numbered placeholders to be used.
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
                // The event of a deletion does not name the account.
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

    /// Anonymises the events of an account, including those that wait to be sent as webhooks, and records
    /// the deletion. Call it in the transaction of the deletion, after everything else has been removed.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn erase_events(
        &self,
        unit: &mut Unit,
        account: AccountId,
        cause: &Cause<'_>,
    ) -> Result<(), sqlx::Error> {
        const EVENTS: &str = "UPDATE events
             SET account_id = NULL, network = NULL, request_id = NULL, data = '{}'
             WHERE account_id = $1";
        // Pending webhooks keep the account in `order_key` until they are sent, because the webhook of its
        // deletion must come last.
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

    /// Anonymises all but the newest events of an account in several transactions, so that
    /// [`Store::erase_events`] has little left to do.
    ///
    /// # Errors
    ///
    /// The errors of the database.
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

    /// Sets the sequence of positions past the highest position in the table, because another program, such
    /// as a restore, may have filled it.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn align_positions(&self) -> Result<(), StoreError> {
        const IS_BEHIND: Statement = Statement::per_engine(
            "SELECT 1 FROM events_position WHERE last_value < (SELECT max(position) FROM events)",
            // SQLite needs no sequence.
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

    /// Removes the events before `before`, and all but the newest `most` (0 means no limit), in one
    /// transaction with a limited number of rows. The newest event stays, whatever its age, because the
    /// cursors of readers that are up to date point to it. Returns how many were removed.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn prune_events(&self, before: DateTime<Utc>, most: i64) -> Result<u64, StoreError> {
        // Positions have few gaps, and times grow with them, apart from small deviations. So the oldest rows
        // have the lowest positions, and no other index is needed. On Postgres, rows are selected by their
        // physical location (ctid); by key, the server would read the whole table.
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
    /// The number of events. It includes positions that rolled-back transactions took, until older events
    /// have been removed.
    ///
    /// # Errors
    ///
    /// The errors of the database.
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

    /// Removes expired webhooks. Needed if webhooks were turned off, so that no worker removes them.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn remove_expired_webhooks(&self, now: DateTime<Utc>) -> Result<u64, StoreError> {
        write_one!(self, |unit| {
            unit.execute("DELETE FROM webhooks WHERE expires_at <= $1", values![now]).await
        })
        .await
    }
}

/// The position up to which a reader may read now: all transactions up to it have committed or rolled back.
///
/// # Errors
///
/// The errors of the database, as of all functions here.
pub async fn horizon(unit: &mut Unit) -> Result<i64, sqlx::Error> {
    if !unit.is_postgres() {
        return Ok(i64::MAX);
    }
    // The order of the two queries matters; see the module documentation. A standby does not know the locks
    // of its primary.
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

/// The first `limit` events after one position and up to another, in order, optionally of one account.
///
/// # Errors
///
/// The errors of the database.
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
/// The errors of the database.
pub async fn id_at(unit: &mut Unit, position: i64) -> Result<Option<Uuid>, sqlx::Error> {
    let row =
        unit.fetch_optional("SELECT id FROM events WHERE position = $1", values![position]).await?;
    row.map(|row| row.get("id")).transpose()
}

/// The lowest existing position.
///
/// # Errors
///
/// The errors of the database.
pub async fn oldest(unit: &mut Unit) -> Result<Option<i64>, sqlx::Error> {
    unit.fetch_one("SELECT min(position) AS oldest FROM events", values![]).await?.get("oldest")
}

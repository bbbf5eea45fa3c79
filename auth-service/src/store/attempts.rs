//! Failed and pending login attempts, and the networks of successful logins. This module only stores
//! rows; the rules are in [`crate::throttle`].

use chrono::{DateTime, TimeDelta, Utc};
use service_kit::client_address::Network;
use sql_kit::{Row, Statement, StoreError, Unit, values, write_one};

use super::Store;
use crate::{
    domain::AccountId,
    throttle::{Counter, Counters, Subject},
};

/// How long a network stays a known network of an account after a successful login.
const NETWORK_MEMORY: TimeDelta = TimeDelta::days(30);
/// A login from a known network is recorded again only after this time, to save writes.
const NETWORK_REFRESH: TimeDelta = TimeDelta::days(1);
/// The value of the network column in the row that counts over all networks.
const ALL_NETWORKS: &str = "";
/// How many rows one pruning statement removes.
const PRUNE_BATCH: i64 = 10_000;
/// How many networks of an account operators see.
const MOST_SHOWN: i64 = 100;

/// Locks a subject, so that one transaction at a time counts its attempts. To avoid deadlocks, a
/// transaction that also locks an account must do this first.
///
/// # Errors
///
/// The errors of the database, as of all functions here.
pub async fn lock(unit: &mut Unit, subject: &Subject) -> Result<(), sqlx::Error> {
    if unit.is_postgres() {
        let key = subject.0.first_chunk().map_or(0, |first| i64::from_be_bytes(*first));
        unit.execute("SELECT pg_advisory_xact_lock($1)", values![key]).await?;
    }
    Ok(())
}

fn counter(row: &Row) -> Result<Counter, sqlx::Error> {
    let number = |column| -> Result<u32, sqlx::Error> {
        Ok(u32::try_from(row.get::<i64>(column)?).unwrap_or(0))
    };
    Ok(Counter {
        failures: number("failures")?,
        window_ends_at: row.get("expires_at")?,
        pending: number("pending")?,
        pending_until: row.get("pending_until")?,
    })
}

/// The counters of a subject and a network, and whether the network is a known network of the
/// account.
///
/// # Errors
///
/// The errors of the database.
pub async fn counters(
    unit: &mut Unit,
    subject: &Subject,
    network: Network,
    now: DateTime<Utc>,
) -> Result<Counters, sqlx::Error> {
    let network = network.to_string();
    let rows = unit
        .fetch_all(
            "SELECT network, failures, expires_at, pending, pending_until
             FROM login_failures WHERE subject = $1 AND network IN ($2, $3)
             UNION ALL
             SELECT NULL, 0, seen_at, 0, seen_at
             FROM login_networks WHERE subject = $1 AND network = $2 AND seen_at > $4",
            values![&subject.0[..], &network, ALL_NETWORKS, now - NETWORK_MEMORY],
        )
        .await?;
    let mut counters = Counters::default();
    for row in &rows {
        match row.get::<Option<String>>("network")?.as_deref() {
            None => counters.is_known_network = true,
            Some(ALL_NETWORKS) => counters.account = counter(row)?,
            Some(_) => counters.pair = counter(row)?,
        }
    }
    Ok(counters)
}

/// Stores the counters. Rows that equal the default are removed.
///
/// # Errors
///
/// The errors of the database.
pub async fn put_counters(
    unit: &mut Unit,
    subject: &Subject,
    network: Network,
    counters: &Counters,
) -> Result<(), sqlx::Error> {
    let network = network.to_string();
    for (network, counter) in [(network.as_str(), counters.pair), (ALL_NETWORKS, counters.account)]
    {
        if counter == Counter::default() {
            unit.execute(
                "DELETE FROM login_failures WHERE subject = $1 AND network = $2",
                values![&subject.0[..], network],
            )
            .await?;
            continue;
        }
        unit.execute(
            "INSERT INTO login_failures
                 (subject, network, failures, expires_at, pending, pending_until)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (subject, network) DO UPDATE SET
                 failures = excluded.failures, expires_at = excluded.expires_at,
                 pending = excluded.pending, pending_until = excluded.pending_until",
            values![
                &subject.0[..],
                network,
                counter.failures,
                counter.window_ends_at,
                counter.pending,
                counter.pending_until
            ],
        )
        .await?;
    }
    Ok(())
}

/// Records a successful login to an account from a network, unless the account was deleted in the
/// meantime. Returns whether a row was written; a recently recorded network is not written again.
///
/// # Errors
///
/// The errors of the database.
pub async fn note_network(
    unit: &mut Unit,
    subject: &Subject,
    account: AccountId,
    network: Network,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let noted = unit
        .execute(
            "INSERT INTO login_networks AS n (subject, network, seen_at)
         SELECT $1, $2, $3 FROM accounts WHERE id = $5
         ON CONFLICT (subject, network) DO UPDATE SET seen_at = excluded.seen_at
         WHERE n.seen_at < $4",
            values![&subject.0[..], &network.to_string(), now, now - NETWORK_REFRESH, account.0],
        )
        .await?;
    Ok(noted == 1)
}

/// Removes all attempts on a subject, and its known networks.
///
/// # Errors
///
/// The errors of the database.
pub async fn forget(unit: &mut Unit, subject: &Subject) -> Result<(), sqlx::Error> {
    forget_failures(unit, subject).await?;
    unit.execute("DELETE FROM login_networks WHERE subject = $1", values![&subject.0[..]]).await?;
    Ok(())
}

/// Gives the known networks of a subject to another one, whose own are removed: an account has another
/// address now, and whoever gets its old one must not inherit them.
///
/// # Errors
///
/// The errors of the database.
pub async fn move_networks(
    unit: &mut Unit,
    from: &Subject,
    to: &Subject,
) -> Result<(), sqlx::Error> {
    unit.execute("DELETE FROM login_networks WHERE subject = $1", values![&to.0[..]]).await?;
    unit.execute(
        "UPDATE login_networks SET subject = $2 WHERE subject = $1",
        values![&from.0[..], &to.0[..]],
    )
    .await?;
    Ok(())
}

/// Removes the failed attempts on a subject, from all networks. Pending attempts are settled as if
/// they had started now.
///
/// # Errors
///
/// The errors of the database.
pub async fn forget_failures(unit: &mut Unit, subject: &Subject) -> Result<(), sqlx::Error> {
    unit.execute("DELETE FROM login_failures WHERE subject = $1", values![&subject.0[..]]).await?;
    Ok(())
}

/// Failed logins that count at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailuresRecord {
    /// The network that they came from; `None` for the sum over all networks.
    pub network: Option<String>,
    /// Their number.
    pub failures: u32,
    /// When they stop counting.
    pub until: DateTime<Utc>,
}

/// The failed logins of a subject that count at `now`: the sum over all networks first, then each
/// network.
///
/// # Errors
///
/// The errors of the database.
pub async fn failures(
    unit: &mut Unit,
    subject: &Subject,
    now: DateTime<Utc>,
) -> Result<Vec<FailuresRecord>, sqlx::Error> {
    let rows = unit
        .fetch_all(
            "SELECT network, failures, expires_at, pending, pending_until FROM login_failures
             WHERE subject = $1 AND failures > 0 AND expires_at > $2 ORDER BY network LIMIT $3",
            values![&subject.0[..], now, MOST_SHOWN],
        )
        .await?;
    let failures = |row: &Row| {
        let (network, counted) = (row.get::<String>("network")?, counter(row)?);
        Ok(FailuresRecord {
            network: Some(network).filter(|network| network != ALL_NETWORKS),
            failures: counted.failures,
            until: counted.window_ends_at,
        })
    };
    rows.iter().map(failures).collect()
}

/// A network of successful logins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRecord {
    /// The network.
    pub network: String,
    /// When a login from it last succeeded, to within a day.
    pub seen_at: DateTime<Utc>,
}

/// The known networks of a subject at `now`, the latest first.
///
/// # Errors
///
/// The errors of the database.
pub async fn networks(
    unit: &mut Unit,
    subject: &Subject,
    now: DateTime<Utc>,
) -> Result<Vec<NetworkRecord>, sqlx::Error> {
    let rows = unit
        .fetch_all(
            "SELECT network, seen_at FROM login_networks WHERE subject = $1 AND seen_at > $2
             ORDER BY seen_at DESC, network LIMIT $3",
            values![&subject.0[..], now - NETWORK_MEMORY, MOST_SHOWN],
        )
        .await?;
    let network = |row: &Row| {
        Ok(NetworkRecord { network: row.get("network")?, seen_at: row.get("seen_at")? })
    };
    rows.iter().map(network).collect()
}

impl Store {
    /// Removes everything that no longer counts at `now`, in one transaction with a limited number of
    /// rows. Returns how many rows were removed.
    ///
    /// # Errors
    ///
    /// The errors of the database.
    pub async fn prune_attempts(&self, now: DateTime<Utc>) -> Result<u64, StoreError> {
        // On Postgres, rows are selected by their physical location (ctid); by key, the server would
        // read the whole table.
        const FAILURES: Statement = Statement::per_engine(
            "DELETE FROM login_failures WHERE ctid = ANY(ARRAY(
                 SELECT ctid FROM login_failures WHERE expires_at <= $1 AND pending_until <= $1
                 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
            "DELETE FROM login_failures WHERE (subject, network) IN
                 (SELECT subject, network FROM login_failures
                  WHERE expires_at <= $1 AND pending_until <= $1 ORDER BY expires_at LIMIT $2)",
        );
        const NETWORKS: Statement = Statement::per_engine(
            "DELETE FROM login_networks WHERE ctid = ANY(ARRAY(
                 SELECT ctid FROM login_networks WHERE seen_at <= $1
                 ORDER BY seen_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
            "DELETE FROM login_networks WHERE (subject, network) IN
                 (SELECT subject, network FROM login_networks
                  WHERE seen_at <= $1 ORDER BY seen_at LIMIT $2)",
        );
        let mut removed = 0;
        for (statement, before) in [(FAILURES, now), (NETWORKS, now - NETWORK_MEMORY)] {
            loop {
                let batch = write_one!(self, |unit| {
                    unit.execute(statement, values![before, PRUNE_BATCH]).await
                })
                .await?;
                removed += batch;
                if batch < PRUNE_BATCH.unsigned_abs() {
                    break;
                }
            }
        }
        Ok(removed)
    }
}

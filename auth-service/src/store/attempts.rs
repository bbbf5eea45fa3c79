//! Failed logins and logins under way, and the networks from which a login has succeeded. What is
//! counted and when it is refused is the rule of [`crate::throttle`]; here are only the rows.

use chrono::{DateTime, TimeDelta, Utc};
use service_kit::client_address::Network;
use sql_kit::{Row, Statement, StoreError, Unit, values, write_one};

use super::Store;
use crate::{
    domain::AccountId,
    throttle::{Counter, Counters, Subject},
};

/// How long a network counts as an account's own after a login from it has succeeded.
const NETWORK_MEMORY: TimeDelta = TimeDelta::days(30);
/// A login from a known network is noted again only after this time, to spare a write.
const NETWORK_REFRESH: TimeDelta = TimeDelta::days(1);
/// The network of the row that counts over all networks.
const ALL_NETWORKS: &str = "";
/// How many rows one statement of the pruning removes.
const PRUNE_BATCH: i64 = 10_000;
/// How many networks of one account an operator is shown.
const MOST_SHOWN: i64 = 100;

/// Lets one transaction at a time count attempts on a subject. A transaction that also locks an
/// account does this first, so that no two wait for each other.
///
/// # Errors
///
/// Those of the database, as of all functions here.
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

/// What has been counted for a subject and a network, and whether the network is one of the account's
/// own.
///
/// # Errors
///
/// Those of the database.
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

/// Writes what has been counted. A row that says nothing goes.
///
/// # Errors
///
/// Those of the database.
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

/// Notes that a login to an account has succeeded from a network. Of an account that was deleted
/// meanwhile nothing is noted. Returns whether anything was: a network that was noted lately is not.
///
/// # Errors
///
/// Those of the database.
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

/// Forgets all attempts on a subject and its networks.
///
/// # Errors
///
/// Those of the database.
pub async fn forget(unit: &mut Unit, subject: &Subject) -> Result<(), sqlx::Error> {
    forget_failures(unit, subject).await?;
    unit.execute("DELETE FROM login_networks WHERE subject = $1", values![&subject.0[..]]).await?;
    Ok(())
}

/// Forgets the failed attempts on a subject, from all networks. Those that are under way are settled
/// as if they had begun now.
///
/// # Errors
///
/// Those of the database.
pub async fn forget_failures(unit: &mut Unit, subject: &Subject) -> Result<(), sqlx::Error> {
    unit.execute("DELETE FROM login_failures WHERE subject = $1", values![&subject.0[..]]).await?;
    Ok(())
}

/// Failed logins that count at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailuresRecord {
    /// From which network; from all of them together where there is none.
    pub network: Option<String>,
    /// How many.
    pub failures: u32,
    /// Until when they count.
    pub until: DateTime<Utc>,
}

/// The failed logins of a subject that count at `now`: over all networks first, then from each.
///
/// # Errors
///
/// Those of the database.
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

/// A network from which a login has succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRecord {
    /// The network.
    pub network: String,
    /// When a login from it has succeeded, to within a day.
    pub seen_at: DateTime<Utc>,
}

/// The networks of a subject that count as its own at `now`, the latest first.
///
/// # Errors
///
/// Those of the database.
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
    /// Removes all that no longer counts at `now`, a bounded number of rows in one transaction.
    /// Returns how many rows that were.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn prune_attempts(&self, now: DateTime<Utc>) -> Result<u64, StoreError> {
        // By the physical place of rows: by their keys the server would read the whole table.
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

//! Finds the primary among several servers of one Postgres database.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use sqlx::{Connection as _, PgConnection, Row as _, postgres::PgConnectOptions};
use tokio::sync::Notify;

use super::{connect, pool::Pool};

/// The timeout for asking one server whether it is the primary.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// The shortest time between two searches.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest time between two searches. Regular searches are needed because the former primary may
/// continue to accept writes after another server was promoted.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Triggers searches for the primary.
#[derive(Debug, Clone, Default)]
pub(super) struct Primary {
    doubt: Arc<Notify>,
}

impl Primary {
    /// Triggers a search, because an operation failed or a connection was lost and another server may be
    /// the primary now.
    pub(super) fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// Searches at the start, on every trigger and at regular intervals, and moves the pool to the primary.
    pub(super) async fn follow(self, pool: Pool) {
        let connector = pool.connector().clone();
        loop {
            let present = connector.present();
            if let Some(found) =
                find(connector.servers(), connector.servers().must_write, present).await
                && found != present
                && let Some(server) = connector.servers().get(found)
            {
                connector.move_to(found);
                pool.retire();
                let (host, port) = (crate::url::host(server), server.get_port());
                tracing::warn!(event = "database.moved", host, port, "another server is used");
            }
            tokio::time::sleep(PAUSE).await;
            let _ = tokio::time::timeout(LOOK_INTERVAL, self.doubt.notified()).await;
        }
    }
}

/// Finds the primary or, unless only a primary is acceptable, a server that can be read. If two servers
/// accept writes, one of them is a former primary that came back. Each promotion starts a new timeline, so
/// the server with the latest timeline wins.
async fn find(servers: &[PgConnectOptions], must_write: bool, present: usize) -> Option<usize> {
    let probes = servers.iter().enumerate().map(|(place, server)| async move {
        let probe = tokio::time::timeout(PROBE_TIMEOUT, timeline(server)).await;
        let timeline = probe.ok()?.ok()?;
        if must_write && timeline.is_none() {
            return None;
        }
        // `None` sorts before any timeline.
        Some((timeline, place == present, Reverse(place)))
    });
    let answers = futures_util::future::join_all(probes).await;
    answers.into_iter().flatten().max().map(|(_, _, Reverse(place))| place)
}

/// The timeline of a server that accepts writes, which is the first part of the name of its current WAL
/// file. Databases that only imitate Postgres may not provide it; then it is empty.
async fn timeline(server: &PgConnectOptions) -> Result<Option<String>, sqlx::Error> {
    let mut connection = connect::open(server).await?;
    let timeline = if is_writable(&mut connection).await? {
        let row = sqlx::raw_sql("SELECT pg_walfile_name(pg_current_wal_lsn()) AS file")
            .fetch_one(&mut connection)
            .await;
        let file: String = row.and_then(|row| row.try_get("file")).unwrap_or_default();
        Some(file.get(..8).unwrap_or_default().to_owned())
    } else {
        None
    };
    let _ = connection.close().await;
    Ok(timeline)
}

/// Whether the server accepts writes, determined as libpq does.
async fn is_writable(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let row = sqlx::raw_sql("SHOW transaction_read_only").fetch_one(connection).await?;
    Ok(row.try_get::<String, _>(0)? == "off")
}

//! Several servers of one Postgres database, of which one at a time is the primary.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use sqlx::{Connection as _, PgConnection, Row as _, postgres::PgConnectOptions};
use tokio::sync::Notify;

use super::{connect, pool::Pool};

/// How long one server may take to say whether it is the primary.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// The least time between two looks for the primary.
const PAUSE: Duration = Duration::from_millis(250);
/// The most: a server may have been promoted while the former primary went on as if nothing were.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Has the primary looked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Primary {
    doubt: Arc<Notify>,
}

impl Primary {
    /// Notes that an operation has failed, or a connection was lost: the primary may be another one by now.
    pub(super) fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// Looks for the primary at first, whenever there is doubt, and now and then, and moves the pool there.
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

/// The primary; without one, and unless only that is of use, a server that can be read. Where two servers
/// take writes, one of them is a former primary that came back without being told: each promotion begins a
/// new timeline, so the latest one counts.
async fn find(servers: &[PgConnectOptions], must_write: bool, present: usize) -> Option<usize> {
    let probes = servers.iter().enumerate().map(|(place, server)| async move {
        let probe = tokio::time::timeout(PROBE_TIMEOUT, timeline(server)).await;
        let timeline = probe.ok()?.ok()?;
        if must_write && timeline.is_none() {
            return None;
        }
        // None is less than any timeline.
        Some((timeline, place == present, Reverse(place)))
    });
    let answers = futures_util::future::join_all(probes).await;
    answers.into_iter().flatten().max().map(|(_, _, Reverse(place))| place)
}

/// The timeline of a server that takes writes: the first part of the name of the file it writes now.
/// Servers that are only like Postgres may not tell; theirs is the empty text.
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

/// Whether the server at the other end takes writes, as libpq asks for it.
async fn is_writable(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let row = sqlx::raw_sql("SHOW transaction_read_only").fetch_one(connection).await?;
    Ok(row.try_get::<String, _>(0)? == "off")
}

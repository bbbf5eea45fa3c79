//! Several servers of one Postgres database, of which one at a time is the primary.

use std::{
    cmp::Reverse,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{Connection as _, PgConnection, PgPool, postgres::PgConnectOptions};
use tokio::sync::Notify;

/// How long one server may take to say whether it is the primary.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// The least time between two looks for the primary.
const PAUSE: Duration = Duration::from_millis(250);

/// How long making a connection usually takes at most.
const CONNECT_TIME: Duration = Duration::from_secs(1);

const PARAMETER: &str = "target_session_attrs";

/// Reads a URL of one or several hosts, as libpq does
/// (`postgres://user@one:5432,two:5432/database?target_session_attrs=read-write`). Only servers that
/// take writes are of use, so that is what several hosts mean, also without the parameter.
pub(crate) fn parse(url: &str) -> Result<Vec<PgConnectOptions>, String> {
    let invalid = || "is not a valid Postgres URL".to_owned();
    let (scheme, rest) = url.split_once("://").ok_or_else(invalid)?;
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let at = if authority.contains('@') { "@" } else { "" };
    let path = without_parameter(path)?;
    hosts
        .split(',')
        .map(|host| format!("{scheme}://{user}{at}{host}{path}").parse().map_err(|_| invalid()))
        .collect()
}

/// The path and query without the parameter that sqlx does not know.
fn without_parameter(path: &str) -> Result<String, String> {
    let Some((path, query)) = path.split_once('?') else {
        return Ok(path.to_owned());
    };
    let mut kept = Vec::new();
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some((PARAMETER, "read-write" | "primary")) => {}
            Some((PARAMETER, _)) => {
                return Err(format!("has a {PARAMETER} other than read-write or primary"));
            }
            _ => kept.push(pair),
        }
    }
    Ok(if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) })
}

/// Which of the servers is used.
#[derive(Debug, Clone)]
pub(crate) struct Primary {
    hosts: Arc<Vec<PgConnectOptions>>,
    /// When the pool was last told to use another server.
    moved: Arc<Mutex<Option<Instant>>>,
    doubt: Arc<Notify>,
}

impl Primary {
    pub(crate) fn new(hosts: Vec<PgConnectOptions>) -> Self {
        Self { hosts: Arc::new(hosts), moved: Arc::default(), doubt: Arc::default() }
    }

    /// The server to begin with.
    pub(crate) fn first(&self) -> PgConnectOptions {
        self.hosts.first().cloned().unwrap_or_default()
    }

    pub(crate) fn is_alone(&self) -> bool {
        self.hosts.len() < 2
    }

    /// Notes that an operation has failed: the primary may be another one by now.
    pub(crate) fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// Whether a connection of this age is to the server that is used now. One that was made just
    /// after the pool moved may have been under way to the other server before.
    pub(crate) fn is_present(&self, age: Duration) -> bool {
        let moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        moved.is_none_or(|moved| age + CONNECT_TIME <= moved.elapsed())
    }

    /// Looks for the primary at first and whenever there is doubt, and moves the pool there.
    pub(crate) async fn follow(self, pool: PgPool) {
        let mut present = 0;
        loop {
            if let Some(found) = self.find(present).await
                && found != present
            {
                present = found;
                pool.set_connect_options(self.hosts[found].clone());
                *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                let (host, port) = (self.hosts[found].get_host(), self.hosts[found].get_port());
                tracing::warn!(
                    event = "database.moved",
                    host,
                    port,
                    "another server is the primary"
                );
            }
            tokio::time::sleep(PAUSE).await;
            self.doubt.notified().await;
        }
    }

    /// The primary. Where two servers take writes, one of them is a former primary that came back
    /// without being told: each promotion begins a new timeline, so the latest one counts.
    async fn find(&self, present: usize) -> Option<usize> {
        let probes = self.hosts.iter().enumerate().map(|(place, host)| async move {
            let probe = tokio::time::timeout(PROBE_TIMEOUT, timeline(host)).await;
            let timeline = probe.ok()?.ok()??;
            Some((timeline, place == present, Reverse(place)))
        });
        let answers = futures_util::future::join_all(probes).await;
        answers.into_iter().flatten().max().map(|(_, _, Reverse(place))| place)
    }
}

/// The timeline of a server that takes writes: the first part of the name of the file it writes now.
/// Servers that are only like Postgres may not tell; theirs is the empty text.
async fn timeline(host: &PgConnectOptions) -> Result<Option<String>, sqlx::Error> {
    let mut connection = PgConnection::connect_with(host).await?;
    if !is_writable(&mut connection).await? {
        return Ok(None);
    }
    let file = sqlx::query_scalar("SELECT pg_walfile_name(pg_current_wal_lsn())")
        .persistent(false)
        .fetch_one(&mut connection)
        .await;
    let file: String = file.unwrap_or_default();
    let _ = connection.close().await;
    Ok(Some(file.get(..8).unwrap_or_default().to_owned()))
}

/// Whether the server at the other end takes writes, as libpq asks for it.
pub(crate) async fn is_writable(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let answer: String = sqlx::query_scalar("SHOW transaction_read_only")
        .persistent(false)
        .fetch_one(connection)
        .await?;
    Ok(answer == "off")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(url: &str) -> Vec<String> {
        let hosts = parse(url).unwrap();
        hosts.iter().map(|host| format!("{}:{}", host.get_host(), host.get_port())).collect()
    }

    #[test]
    fn a_url_may_name_several_hosts() {
        let url = "postgres://u:p@one:1,two:2,three/db?sslmode=prefer&target_session_attrs=primary";
        assert_eq!(addresses(url), ["one:1", "two:2", "three:5432"]);
        let hosts = parse(url).unwrap();
        assert!(hosts.iter().all(|host| host.get_username() == "u"));
        assert!(hosts.iter().all(|host| host.get_database() == Some("db")));
    }

    #[test]
    fn a_url_of_one_host_is_read_as_ever() {
        for url in
            ["postgresql://u:p@h:9/db", "postgres://u@h:9/db", "postgres://h:9/db?sslmode=disable"]
        {
            assert_eq!(addresses(url), ["h:9"], "{url}");
        }
        assert_eq!(parse("postgres:///db?host=/run/postgresql").unwrap().len(), 1);
    }

    #[test]
    fn servers_that_only_read_are_of_no_use() {
        assert!(parse("postgres://a,b/db?target_session_attrs=any").is_err());
        assert!(parse("postgres://a,b/db?target_session_attrs=standby").is_err());
    }
}

//! Opening one connection to Postgres: choosing the server, TLS, session settings, and errors.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use sqlx::{
    Connection as _, PgConnection, Row as _,
    postgres::{PgConnectOptions, PgRow, PgSslMode},
};

use super::connect_error::{ConnectError, Phase};
use crate::url::{Servers, VARIABLE, address, is_local};

/// The settings of each session, which override defaults of the database, the role or the server; and what
/// has to be queried about the server.
///
/// - `statement_timeout` and `idle_in_transaction_session_timeout`: the server stops statements that we no longer
///   wait for (see [`crate::OPERATION_TIMEOUT`]), and a session whose client is gone does not keep its locks.
/// - `default_transaction_isolation`: the statements are written for READ COMMITTED.
/// - `synchronous_commit`: a confirmed write is durable. Stricter values than `on` are kept.
/// - `search_path`: only the schema that contains our tables, or in which they will be created. So a table of the
///   same name in another schema, or a temporary one, is never used by mistake.
const SET_SESSION: &str = "SELECT
    current_setting('transaction_read_only') = 'on' AS is_read_only,
    current_setting('server_encoding') AS encoding,
    set_config('statement_timeout', '5000', false),
    set_config('lock_timeout', '0', false),
    set_config('idle_in_transaction_session_timeout', '10000', false),
    set_config('default_transaction_isolation', 'read committed', false),
    set_config('default_transaction_deferrable', 'off', false),
    set_config('standard_conforming_strings', 'on', false),
    set_config('transform_null_equals', 'off', false),
    set_config('row_security', 'on', false),
    set_config('synchronous_commit', CASE current_setting('synchronous_commit')
        WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false),
    set_config('search_path', coalesce(
        (SELECT quote_ident(n.nspname) FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE c.oid = to_regclass('_sqlx_migrations')),
        (SELECT quote_ident(name) FROM unnest(current_schemas(false)) WITH ORDINALITY AS s (name, place)
            WHERE name !~ '^pg_' ORDER BY place LIMIT 1),
        current_setting('search_path')) || ', pg_temp', false)";

/// Makes the server check whether its client is still connected: while a statement runs (PostgreSQL 14) and
/// on an idle connection, if the system and the version support the settings.
const WATCH_CLIENT: &str = "SELECT set_config(name, CASE name
        WHEN 'client_connection_check_interval' THEN '2000'
        WHEN 'tcp_keepalives_idle' THEN '30'
        WHEN 'tcp_keepalives_interval' THEN '10'
        WHEN 'tcp_keepalives_count' THEN '3' END, false)
    FROM pg_catalog.pg_settings
    WHERE name IN ('client_connection_check_interval', 'tcp_keepalives_idle',
        'tcp_keepalives_interval', 'tcp_keepalives_count')";

/// What has to be queried behind a proxy with transaction pooling. It is sent as one message, as all
/// statements outside a transaction must be there: a statement that is prepared in one message is unknown
/// to the server that gets the next.
const LOOK_AT_SERVER: &str =
    "SELECT current_setting('transaction_read_only') = 'on' AS is_read_only,
    current_setting('server_encoding') AS encoding";

/// The same connection error is logged again only after this time.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// A connection and its state.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) connection: PgConnection,
    /// The index of its server.
    pub(super) server: usize,
    /// When opening it began. Only what was learnt about the server before that still applies to it.
    pub(super) began: Instant,
    /// When it was last used.
    pub(super) used: Instant,
    /// Whether the server was read-only when it was opened.
    pub(super) is_read_only: bool,
}

impl Session {
    /// Closes it gracefully, in the background.
    pub(super) fn close(self) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(Duration::from_secs(1), self.connection.close()));
        }
    }
}

/// Opens connections. Clones share their state.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    servers: Arc<Servers>,
    /// The index of the server in use.
    present: Arc<AtomicUsize>,
    /// Whether there is a proxy with transaction pooling.
    pub(super) is_pooled: bool,
    reported: Arc<Mutex<BTreeMap<String, Instant>>>,
    /// Whether it was already checked that connections are encrypted.
    is_looked_at: Arc<AtomicBool>,
}

impl Connector {
    pub(super) fn new(mut servers: Servers, application: &str, is_pooled: bool) -> Self {
        servers.list = servers
            .list
            .into_iter()
            .map(|server| {
                let server = match server.get_application_name() {
                    Some(_) => server,
                    None => server.application_name(application),
                };
                if is_pooled { server.statement_cache_capacity(0) } else { server }
            })
            .collect();
        Self {
            servers: Arc::new(servers),
            present: Arc::default(),
            is_pooled,
            reported: Arc::default(),
            is_looked_at: Arc::default(),
        }
    }

    pub(super) fn servers(&self) -> &Servers {
        &self.servers
    }

    /// The index of the server in use.
    pub(super) fn present(&self) -> usize {
        self.present.load(Relaxed)
    }

    /// Switches to another server.
    pub(super) fn move_to(&self, place: usize) {
        self.present.store(place, Relaxed);
    }

    /// The error that the server in use is read-only.
    pub(super) fn read_only(&self) -> ConnectError {
        let server = self.servers.get(self.present());
        server.map_or_else(ConnectError::no_server, ConnectError::read_only)
    }

    /// Logs and returns the error that the database is being moved.
    pub(super) fn moving(&self) -> ConnectError {
        let server = self.servers.get(self.present());
        let error = server.map_or_else(ConnectError::no_server, ConnectError::moving);
        self.report(Some(&error));
        error
    }

    /// The error that there was no answer in time.
    pub(super) fn no_answer(&self) -> ConnectError {
        let error = io::Error::from(io::ErrorKind::TimedOut).into();
        let server = self.servers.get(self.present());
        server.map_or_else(ConnectError::no_server, |server| {
            ConnectError::new(server, Phase::Connect, &error)
        })
    }

    /// Connects to the server in use, and logs a failure.
    pub(super) async fn connect(&self) -> Result<Session, ConnectError> {
        // Boxed, because the future is large and rarely needed.
        let result = Box::pin(self.connect_quietly()).await;
        self.report(result.as_ref().err());
        result
    }

    /// Connects to the server in use, without logging.
    pub(super) async fn connect_quietly(&self) -> Result<Session, ConnectError> {
        let place = self.present();
        let Some(server) = self.servers.get(place) else {
            return Err(ConnectError::no_server());
        };
        let connected = async {
            let began = Instant::now();
            let mut connection = open(server).await.map_err(|error| (Phase::Connect, error))?;
            let (is_read_only, encoding) =
                self.prepare(&mut connection).await.map_err(|error| (Phase::Prepare, error))?;
            if !is_local(server) && !self.is_looked_at.swap(true, Relaxed) {
                warn_of_plaintext(server, &self.servers.variable, &mut connection).await;
            }
            Ok((Session { connection, server: place, began, used: began, is_read_only }, encoding))
        };
        let result = match self.servers.connect_timeout {
            Some(limit) => match tokio::time::timeout(limit, connected).await {
                Ok(result) => result,
                Err(_) => Err((Phase::Connect, io::Error::from(io::ErrorKind::TimedOut).into())),
            },
            None => connected.await,
        };
        match result {
            Ok((_, encoding)) if encoding != "UTF8" => {
                Err(ConnectError::encoding(server, &encoding))
            }
            // Another server may be the primary.
            Ok((session, _)) if session.is_read_only && self.servers.must_write => {
                session.close();
                Err(ConnectError::read_only(server))
            }
            Ok((session, _)) => Ok(session),
            Err((phase, error)) => Err(ConnectError::new(server, phase, &error)),
        }
    }

    /// Prepares the session. Returns whether the server is read-only, and its encoding.
    async fn prepare(&self, connection: &mut PgConnection) -> Result<(bool, String), sqlx::Error> {
        let statement = if self.is_pooled { LOOK_AT_SERVER } else { SET_SESSION };
        let row: PgRow = sqlx::raw_sql(statement).fetch_one(&mut *connection).await?;
        if !self.is_pooled {
            let watched = sqlx::raw_sql(WATCH_CLIENT).execute(connection).await;
            // Not every system supports this setting.
            if let Err(sqlx::Error::Database(error)) = &watched {
                let code = error.code();
                tracing::debug!(code = code.as_deref(), "the server does not watch its clients");
            } else {
                watched?;
            }
        }
        Ok((row.try_get("is_read_only")?, row.try_get("encoding")?))
    }

    /// Logs each error at most once per minute, and logs when connecting succeeds again.
    fn report(&self, error: Option<&ConnectError>) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        match error {
            Some(error) => {
                let text = error.to_string().replace(VARIABLE, &self.servers.variable);
                if reported.get(&text).is_none_or(|last| last.elapsed() >= REPORT_INTERVAL) {
                    tracing::warn!(event = "database.unreachable", "{text}");
                    reported.insert(text, Instant::now());
                }
            }
            None if !reported.is_empty() => {
                reported.clear();
                let server = self.servers.get(self.present()).map(describe).unwrap_or_default();
                tracing::info!(event = "database.reached", "connected to {server}");
            }
            None => {}
        }
    }
}

/// Connects with or without TLS, as `sslmode` says: `prefer` falls back to plaintext if TLS fails, and
/// `allow` uses TLS only if the server requires it.
pub(super) async fn open(server: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let first = PgConnection::connect_with(server).await;
    let (Err(error), Some(other)) = (&first, other_mode(server.get_ssl_mode())) else {
        return first;
    };
    let may_help = match error {
        sqlx::Error::Tls(_) => true,
        sqlx::Error::Io(error) => error.kind() == io::ErrorKind::InvalidData,
        // pg_hba.conf has no entry for connections with TLS, or none for those without.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code == "28000"),
        _ => false,
    };
    if !may_help {
        return first;
    }
    // If both attempts fail, the first error is more useful.
    PgConnection::connect_with(&server.clone().ssl_mode(other)).await.or(first)
}

const fn other_mode(mode: PgSslMode) -> Option<PgSslMode> {
    match mode {
        PgSslMode::Prefer => Some(PgSslMode::Disable),
        PgSslMode::Allow => Some(PgSslMode::Require),
        _ => None,
    }
}

/// Logs a warning if a connection over a network is not encrypted.
async fn warn_of_plaintext(
    server: &PgConnectOptions,
    variable: &str,
    connection: &mut PgConnection,
) {
    let row = sqlx::raw_sql("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        .fetch_optional(connection)
        .await;
    // Databases that only imitate Postgres may not have this view.
    if let Ok(Some(row)) = row
        && let Ok(false) = row.try_get("ssl")
    {
        tracing::warn!(
            event = "database.plaintext",
            "{} is reached without encryption: whoever is in between reads everything; add \
             sslmode=verify-full and sslrootcert to {variable}",
            describe(server)
        );
    }
}

/// The address, database and role of a server, for messages.
pub(super) fn describe(server: &PgConnectOptions) -> String {
    let (address, name) = (address(server), crate::url::database(server));
    format!("Postgres at {address}, database \"{name}\", as \"{}\"", server.get_username())
}

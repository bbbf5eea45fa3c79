//! Connection errors of Postgres, with the remedy in their text.

use std::{fmt, io};

use sqlx::postgres::PgConnectOptions;

use super::connect::describe;

/// When the connection failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Before the server accepted the login.
    Connect,
    /// During the setup of the session.
    Prepare,
}

/// Why there is no connection: the address, the message of the system or server, and the remedy.
/// Contains no credentials.
#[derive(Debug, Clone)]
pub(crate) struct ConnectError {
    text: String,
    /// Whether it may pass within a moment, as during a restart.
    is_momentary: bool,
    /// Whether it is permanent, so that a retry cannot help.
    is_final: bool,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl std::error::Error for ConnectError {}

/// Requests treat a connection error as an unavailable database, whatever its code.
impl From<ConnectError> for sqlx::Error {
    fn from(error: ConnectError) -> Self {
        if error.is_final {
            return Self::Configuration(Box::new(error));
        }
        Self::Io(io::Error::other(error))
    }
}

impl ConnectError {
    pub(super) fn new(server: &PgConnectOptions, phase: Phase, error: &sqlx::Error) -> Self {
        let (said, advice) = match error {
            sqlx::Error::Database(error) => {
                let code = error.code().unwrap_or_default();
                (format!("the server says: {} ({code})", error.message()), advice(&code))
            }
            sqlx::Error::Io(error) => (said(error), advice_for_io(error)),
            sqlx::Error::Tls(error) => (
                format!("TLS failed: {error}"),
                "see sslmode and sslrootcert in DATABASE_URL, and the server's certificate",
            ),
            other => (other.to_string(), "see the server's log"),
        };
        let doing = match phase {
            Phase::Connect => "cannot connect to",
            Phase::Prepare => "cannot prepare a session of",
        };
        Self {
            text: format!("{doing} {}: {said}; {advice}", describe(server)),
            is_momentary: is_momentary(error),
            is_final: false,
        }
    }

    pub(super) fn encoding(server: &PgConnectOptions, encoding: &str) -> Self {
        let text = format!(
            "{} has the encoding {encoding}; names of people need UTF8: create the database with \
             ENCODING 'UTF8' TEMPLATE template0",
            describe(server)
        );
        Self { text, is_momentary: false, is_final: true }
    }

    pub(super) fn read_only(server: &PgConnectOptions) -> Self {
        let text = format!(
            "{} takes no writes: it is a standby, or default_transaction_read_only is on; name the primary \
             in DATABASE_URL, or wait for the failover",
            describe(server)
        );
        Self { text, is_momentary: true, is_final: false }
    }

    pub(super) fn moving(server: &PgConnectOptions) -> Self {
        let text = format!(
            "{} is being moved by latchkey move: no service may use it until that is done",
            describe(server)
        );
        Self { text, is_momentary: false, is_final: false }
    }

    pub(super) fn no_server() -> Self {
        let text = "DATABASE_URL names no server".to_owned();
        Self { text, is_momentary: false, is_final: true }
    }

    /// Whether a retry within the same operation may succeed.
    pub(super) const fn is_momentary(&self) -> bool {
        self.is_momentary
    }
}

fn is_momentary(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
                | io::ErrorKind::NotFound
        ),
        // Too many connections, or the server is starting or stopping.
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| ["53300", "57P01", "57P02", "57P03"].contains(&&*code))
        }
        _ => false,
    }
}

fn said(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => "no answer in time".to_owned(),
        _ => error.to_string(),
    }
}

fn advice_for_io(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "nothing listens there: start the server, or correct host and port in DATABASE_URL"
        }
        io::ErrorKind::NotFound => {
            "there is no such socket: start the server, or correct host and port in DATABASE_URL"
        }
        io::ErrorKind::TimedOut => {
            "is the server up, and does a firewall let this machine through?"
        }
        io::ErrorKind::InvalidData => {
            "TLS failed: see sslmode and sslrootcert in DATABASE_URL, and the server's certificate"
        }
        // Name resolution errors have no error kind of their own.
        _ if error.to_string().contains("lookup") => "correct the host in DATABASE_URL",
        _ => "see the server's log",
    }
}

fn advice(code: &str) -> &'static str {
    match code {
        "28P01" => "correct user and password in DATABASE_URL",
        "28000" => "let the role in: pg_hba.conf, or ALTER ROLE … LOGIN",
        "3D000" => "create the database, or correct its name in DATABASE_URL",
        "42501" => "grant the role CONNECT on the database",
        "53300" => "raise max_connections there, or lower DATABASE_MAX_CONNECTIONS",
        "55000" => "the database has been closed to connections (ALLOW_CONNECTIONS)",
        "57P01" | "57P02" | "57P03" => "it stops or starts just now",
        _ => "see the server's log",
    }
}

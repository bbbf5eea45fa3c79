//! The settings that every service has, beside its addresses and its database.

use std::{process::ExitCode, time::Duration};

use crate::{
    client_address::TrustedProxies,
    edge,
    settings::{Group, Source, boolean, integer, parsed, seconds, text},
    telemetry::{self, LogFormat},
    tls::{ServerTls, TlsSettings},
};
use http::HeaderValue;

crate::settings! {
    "Listeners"
    /// How the edges behave.
    pub struct EdgeSettings {
        /// The proxies whose X-Forwarded-For or Forwarded counts: networks in CIDR notation, separated
        /// by commas. Empty: none.
        trusted_proxies: TrustedProxies = value TRUSTED_PROXIES("", str::parse);
        /// The origins whose pages may call the REST edge, such as `https://app.example.com`, separated
        /// by commas. Empty: none.
        allowed_origins: Vec<HeaderValue> = value CORS_ALLOWED_ORIGINS("", edge::origins);
        /// Whether gRPC server reflection is on: true or false.
        reflection: bool = value GRPC_REFLECTION("true", boolean);
        /// The most connections of one client network (IPv4 /32, IPv6 /64) to each edge, and never more
        /// than half of those that the edge holds; beyond it the network's longest idle one is closed.
        /// Trusted proxies are not limited. 0: no limit.
        connections_per_network: usize = value CONNECTIONS_PER_NETWORK("1024", connections);
        /// How long new connections are served after SIGTERM, while the service says that it is not
        /// ready, in seconds, 0 to 3600; less than SHUTDOWN_GRACE, of which it is a part.
        shutdown_delay: Duration = value SHUTDOWN_DELAY("0", seconds(0, 3600));
        /// How long after SIGTERM the process has ended, whatever hangs, in seconds, 0 to 3600.
        shutdown_grace: Duration = value SHUTDOWN_GRACE("25", seconds(0, 3600));
    }
}

crate::settings! {
    "Log"
    /// How the process logs.
    pub struct LogSettings {
        /// How log lines are written: json, or pretty for people. Unset: pretty on a terminal, else
        /// json.
        format: Option<LogFormat> = optional LOG_FORMAT(parsed("json or pretty"));
        /// What is logged: error, warn, info, debug or trace, or a filter such as info,access=off. Unset:
        /// info; for a subcommand on a terminal, where its result is printed, warn.
        level: Option<String> = optional LOG_LEVEL(|level| {
            telemetry::parse_level(level)?;
            text(level)
        });
    }
}

/// The groups of this module.
pub const GROUPS: &[Group] = &[EdgeSettings::GROUP, TlsSettings::GROUP, LogSettings::GROUP];

/// The values of [`GROUPS`].
#[derive(Debug)]
pub struct RuntimeSettings {
    /// How the edges behave.
    pub edge: EdgeSettings,
    /// TLS of the listeners; without it they speak plaintext.
    pub tls: Option<ServerTls>,
    /// How the process logs.
    pub log: LogSettings,
}

impl RuntimeSettings {
    /// Reads them.
    pub fn read(source: &mut Source) -> Self {
        let edge = EdgeSettings::read(source);
        if !edge.shutdown_delay.is_zero() && edge.shutdown_delay >= edge.shutdown_grace {
            source
                .fault(&SHUTDOWN_DELAY, "must be less than SHUTDOWN_GRACE, of which it is a part");
        }
        Self { edge, tls: TlsSettings::read(source).load(source), log: LogSettings::read(source) }
    }
}

fn connections(text: &str) -> Result<usize, String> {
    let number = integer(0, 1_000_000)(text)?;
    Ok(usize::try_from(number).unwrap_or(usize::MAX))
}

/// Ends a process. On failure, prints the reason to stderr and exits with status 1, or 3 for
/// [`Incomplete`], or 4 for [`Missing`]. Waits a moment until the log is written, but not for a reader
/// that has stopped reading.
pub fn exit(result: Result<(), Box<dyn std::error::Error>>) -> ExitCode {
    telemetry::flush();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Incomplete>() => {
            telemetry::print_to_stderr(&format!("{error}\n"));
            ExitCode::from(3)
        }
        Err(error) if error.is::<Missing>() => {
            telemetry::print_to_stderr(&format!("error: {error}\n"));
            ExitCode::from(4)
        }
        Err(error) => {
            telemetry::print_to_stderr(&format!("error: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

/// The object of a command does not exist.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Missing(pub String);

/// A command was carried out only partly, or everything was refused.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Incomplete(pub String);

/// Changes the text of a failure and keeps its exit status.
#[must_use]
pub fn reworded(
    error: &(dyn std::error::Error + 'static),
    text: String,
) -> Box<dyn std::error::Error> {
    if error.is::<Incomplete>() {
        Incomplete(text).into()
    } else if error.is::<Missing>() {
        Missing(text).into()
    } else {
        text.into()
    }
}

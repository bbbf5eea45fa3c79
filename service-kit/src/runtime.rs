//! Running a service: the settings that every one has, its two listeners, and their end.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use axum::Router;
use http::HeaderValue;
use tokio_util::sync::CancellationToken;

use crate::{
    edge::{self, CORS_ALLOWED_ORIGINS},
    listen::{Listener, Protocol},
    metrics::Metrics,
    settings::{Setting, Source, boolean, parsed, seconds, text},
    shutdown,
    telemetry::{self, LogFormat},
};

/// `GRPC_REFLECTION`.
pub const GRPC_REFLECTION: Setting =
    Setting::new("GRPC_REFLECTION", "true", "Whether gRPC server reflection is on: true or false");
/// `LOG_FORMAT`.
pub const LOG_FORMAT: Setting = Setting::optional(
    "LOG_FORMAT",
    "How log lines are written: json, or pretty for people [default: pretty on a terminal, else json]",
);
/// `LOG_LEVEL`.
pub const LOG_LEVEL: Setting = Setting::new(
    "LOG_LEVEL",
    telemetry::DEFAULT_LEVEL,
    "What is logged: error, warn, info, debug or trace, or a filter such as info,access=off",
);
/// `SHUTDOWN_GRACE`.
pub const SHUTDOWN_GRACE: Setting = Setting::new(
    "SHUTDOWN_GRACE",
    "25",
    "How long accepted requests may go on after SIGTERM, in seconds, 0 to 3600",
);
/// `MIGRATE_ON_START`.
pub const MIGRATE_ON_START: Setting = Setting::new(
    "MIGRATE_ON_START",
    "true",
    "Whether the database is migrated at start: true or false (then run the migrate subcommand)",
);
/// `DATABASE_MAX_CONNECTIONS`.
pub const DATABASE_MAX_CONNECTIONS: Setting = Setting::new(
    "DATABASE_MAX_CONNECTIONS",
    "8",
    "The most connections to the database at a time, 1 to 1000",
);
/// `DATABASE_ACQUIRE_TIMEOUT`.
pub const DATABASE_ACQUIRE_TIMEOUT: Setting = Setting::new(
    "DATABASE_ACQUIRE_TIMEOUT",
    "3",
    "How long a request waits for a connection to the database, in seconds, 1 to 60",
);

/// The settings that every service has, beside its addresses and its database.
pub const SETTINGS: &[Setting] = &[
    DATABASE_MAX_CONNECTIONS,
    DATABASE_ACQUIRE_TIMEOUT,
    MIGRATE_ON_START,
    CORS_ALLOWED_ORIGINS,
    GRPC_REFLECTION,
    SHUTDOWN_GRACE,
    LOG_FORMAT,
    LOG_LEVEL,
];

/// The values of [`SETTINGS`].
#[derive(Debug, Clone)]
pub struct RuntimeSettings {
    /// The most connections to the database.
    pub database_max_connections: u32,
    /// How long a request waits for one.
    pub database_acquire_timeout: Duration,
    /// Whether the database is migrated at start.
    pub migrate_on_start: bool,
    /// The origins whose pages may call the REST edge.
    pub allowed_origins: Vec<HeaderValue>,
    /// Whether server reflection is on.
    pub reflection: bool,
    /// How long accepted requests may go on after the stop signal.
    pub shutdown_grace: Duration,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// What is logged.
    pub log_level: String,
}

impl RuntimeSettings {
    /// Reads them.
    pub fn read(source: &mut Source) -> Self {
        let connections = crate::settings::integer(1, 1000);
        let max_connections = source.value(&DATABASE_MAX_CONNECTIONS, connections);
        Self {
            database_max_connections: u32::try_from(max_connections).unwrap_or(1),
            database_acquire_timeout: source.value(&DATABASE_ACQUIRE_TIMEOUT, seconds(1, 60)),
            migrate_on_start: source.value(&MIGRATE_ON_START, boolean),
            allowed_origins: source.value(&CORS_ALLOWED_ORIGINS, edge::origins),
            reflection: source.value(&GRPC_REFLECTION, boolean),
            shutdown_grace: source.value(&SHUTDOWN_GRACE, seconds(0, 3600)),
            log_format: source
                .optional(&LOG_FORMAT, parsed("json or pretty"))
                .unwrap_or_else(LogFormat::of_stdout),
            log_level: source.value(&LOG_LEVEL, |level| {
                telemetry::parse_level(level)?;
                text(level)
            }),
        }
    }
}

/// The addresses of a service's listeners.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Of the REST edge.
    pub http: SocketAddr,
    /// Of the gRPC edge.
    pub grpc: SocketAddr,
    /// Of the metrics, if they are on.
    pub metrics: Option<SocketAddr>,
}

/// The listeners of a service, bound but not accepting yet.
#[derive(Debug)]
pub struct Listeners {
    rest: Listener,
    grpc: Listener,
    metrics: Option<Listener>,
}

impl Listeners {
    /// Binds all and logs the addresses.
    ///
    /// # Errors
    ///
    /// A text with the address that cannot be bound.
    pub async fn bind(service: &'static str, addresses: Addresses) -> Result<Self, String> {
        let bind = async |name: &str, address, protocol| {
            Listener::bind(address, protocol)
                .await
                .map_err(|error| format!("{name}: cannot listen on {address}: {error}"))
        };
        let rest = bind("HTTP_ADDR", addresses.http, Protocol::Rest).await?;
        let grpc = bind("GRPC_ADDR", addresses.grpc, Protocol::Grpc).await?;
        let metrics = match addresses.metrics {
            Some(address) => Some(bind("METRICS_ADDR", address, Protocol::Rest).await?),
            None => None,
        };
        let metrics_address = metrics.as_ref().map(|listener| listener.address().to_string());
        tracing::info!(
            service,
            http = %rest.address(),
            grpc = %grpc.address(),
            metrics = metrics_address.as_deref().unwrap_or("off"),
            "listening"
        );
        for listener in [&rest, &grpc] {
            if !listener.address().ip().is_loopback() {
                tracing::warn!(
                    service,
                    address = %listener.address(),
                    "plaintext on an address that others can reach: put TLS in front of it"
                );
            }
        }
        Ok(Self { rest, grpc, metrics })
    }

    /// The bound address of the REST edge.
    #[must_use]
    pub const fn http_address(&self) -> SocketAddr {
        self.rest.address()
    }

    /// The bound address of the gRPC edge.
    #[must_use]
    pub const fn grpc_address(&self) -> SocketAddr {
        self.grpc.address()
    }

    /// The bound address of the metrics, if they are on.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(Listener::address)
    }

    /// Serves all until `shutdown`, then lets accepted requests finish within `grace`.
    pub async fn serve(
        self,
        rest: Router,
        grpc: Router,
        metrics: &Metrics,
        shutdown: CancellationToken,
        grace: Duration,
    ) {
        let scrapes = async {
            if let Some(listener) = self.metrics {
                listener.serve(metrics.router(), shutdown.clone()).await;
            }
        };
        let all = async {
            tokio::join!(
                self.rest.serve(rest, shutdown.clone()),
                self.grpc.serve(grpc, shutdown.clone()),
                scrapes,
            );
        };
        shutdown::within_grace(&shutdown, grace, all).await;
    }
}

/// Ends a process: on failure with the reason on stderr and status 1.
#[expect(clippy::print_stderr, reason = "the log may not have started, and people look here")]
pub fn exit<E: std::fmt::Display>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

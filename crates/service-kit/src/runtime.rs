//! The settings that every service has, beside its addresses and its keys.

use std::{process::ExitCode, time::Duration};

use http::HeaderValue;

use crate::{
    edge::{self, CORS_ALLOWED_ORIGINS},
    settings::{Setting, Source, boolean, parsed, seconds, text},
    telemetry::{self, LogFormat},
    tls::{self, ServerTls, TLS_CERT_FILE, TLS_CLIENT_CA_FILE, TLS_KEY_FILE},
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

/// What `--help` says after the settings.
pub const HELP: &str = "\
A secret can also be given in a file, as <NAME>_FILE. A .env file in the working directory is read.

OpenTelemetry: traces and metrics are sent by OTLP where OTEL_EXPORTER_OTLP_ENDPOINT (or its form for one \
signal, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_METRICS_ENDPOINT) is set. \
OTEL_EXPORTER_OTLP_PROTOCOL is http/protobuf (default) or grpc. OTEL_EXPORTER_OTLP_HEADERS, \
OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER, OTEL_BSP_*, OTEL_METRIC_EXPORT_INTERVAL \
and OTEL_SDK_DISABLED mean what the OpenTelemetry specification says. They have no flags, and are not \
read from .env.";

/// `DATABASE_POOL_MODE`.
pub const DATABASE_POOL_MODE: Setting = Setting::new(
    "DATABASE_POOL_MODE",
    "session",
    "How a proxy before Postgres, such as PgBouncer, gives out servers: session, also without a \
     proxy, or transaction (then MIGRATE_ON_START must be false)",
);

/// The settings that every service has, beside its addresses and its database.
pub const SETTINGS: &[Setting] = &[
    DATABASE_MAX_CONNECTIONS,
    DATABASE_ACQUIRE_TIMEOUT,
    DATABASE_POOL_MODE,
    MIGRATE_ON_START,
    TLS_CERT_FILE,
    TLS_KEY_FILE,
    TLS_CLIENT_CA_FILE,
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
    /// Whether a proxy gives us a server for one transaction at a time.
    pub transaction_pooling: bool,
    /// Whether the database is migrated at start.
    pub migrate_on_start: bool,
    /// TLS of the listeners; without it they speak plaintext.
    pub tls: Option<ServerTls>,
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
        let transaction_pooling = source.value(&DATABASE_POOL_MODE, |mode| match mode {
            "session" => Ok(false),
            "transaction" => Ok(true),
            _ => Err("is neither session nor transaction".to_owned()),
        });
        let migrate_on_start = source.value(&MIGRATE_ON_START, boolean);
        if transaction_pooling && migrate_on_start {
            // The lock under which migrations run belongs to a session.
            source.fault(
                &MIGRATE_ON_START,
                "must be false with DATABASE_POOL_MODE=transaction: run the migrate subcommand with \
                 a DATABASE_URL of Postgres itself",
            );
        }
        Self {
            database_max_connections: u32::try_from(max_connections).unwrap_or(1),
            database_acquire_timeout: source.value(&DATABASE_ACQUIRE_TIMEOUT, seconds(1, 60)),
            transaction_pooling,
            migrate_on_start,
            tls: tls::server(source),
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

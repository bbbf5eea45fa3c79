//! Logs: one JSON object a line on stdout, or lines for people on a terminal.

mod json_lines;

use std::{io::IsTerminal as _, panic};

use tracing_subscriber::{
    EnvFilter, filter::LevelFilter, fmt::writer::BoxMakeWriter, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::runtime::LogSettings;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Lines for people.
    Pretty,
}

impl std::str::FromStr for LogFormat {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "json" => Ok(Self::Json),
            "pretty" => Ok(Self::Pretty),
            _ => Err(()),
        }
    }
}

impl LogFormat {
    /// Lines for people on a terminal, JSON elsewhere.
    #[must_use]
    pub fn of_stdout() -> Self {
        if std::io::stdout().is_terminal() { Self::Pretty } else { Self::Json }
    }
}

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogOutput {
    /// For a service.
    Stdout,
    /// For a command, whose answer goes to stdout.
    Stderr,
}

impl LogOutput {
    fn writer(self) -> BoxMakeWriter {
        match self {
            Self::Stdout => BoxMakeWriter::new(std::io::stdout),
            Self::Stderr => BoxMakeWriter::new(std::io::stderr),
        }
    }
}

/// What is logged where `LOG_LEVEL` says nothing else.
pub const DEFAULT_LEVEL: &str = "info";

/// Starts logging for the whole process. A second call changes nothing.
///
/// # Errors
///
/// Where the level is not a filter.
pub fn init(settings: &LogSettings, output: LogOutput) -> Result<(), String> {
    let filter = parse_level(&settings.level)?;
    // The filter is for the whole registry. As the filter of one layer it would keep what sqlx only
    // asks about ("would this be logged?") in mind and drop the thread's next line.
    let started = match settings.format.unwrap_or_else(LogFormat::of_stdout) {
        LogFormat::Json => {
            let layer = json_lines::JsonLines(output.writer());
            tracing_subscriber::registry().with(filter).with(layer).try_init()
        }
        LogFormat::Pretty => {
            let layer = tracing_subscriber::fmt::layer()
                .with_writer(output.writer())
                .with_target(false)
                .compact();
            tracing_subscriber::registry().with(filter).with(layer).try_init()
        }
    };
    if started.is_ok() {
        log_panics();
    }
    Ok(())
}

/// Reads a level or filter.
///
/// # Errors
///
/// Where `level` is neither.
pub fn parse_level(level: &str) -> Result<EnvFilter, String> {
    let fault = || "is not a log level or filter such as info or debug,access=off".to_owned();
    // A word alone that is no level would be read as a target, and silence everything else.
    let known = level
        .split(',')
        .map(str::trim)
        .all(|part| part.contains(['=', '[']) || part.parse::<LevelFilter>().is_ok());
    if !known {
        return Err(fault());
    }
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse(level)
        .map_err(|_| fault())?;
    // Below these levels the HTTP and database crates write header fields and values as they are;
    // at info, sqlx repeats every notice of the server. Its pool tells at ERROR, many times a second,
    // what a failover brings about and what our own line says once.
    let quiet = [
        "h2=info",
        "hyper=info",
        "hyper_util=info",
        "rustls=info",
        "sqlx=warn",
        "sqlx_core::pool::inner=off",
        "tower=info",
    ];
    quiet.into_iter().try_fold(filter, |filter, directive| {
        Ok(filter.add_directive(directive.parse().map_err(|_| fault())?))
    })
}

/// Panics become log lines, with the place but without a backtrace for the client to see.
fn log_panics() {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let cause = info.payload_as_str().unwrap_or("unknown");
        tracing::error!(place, cause, "panic");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_a_level_or_a_filter() {
        for level in ["info", "WARN", "debug,access=off", "sqlx=trace", "off"] {
            assert!(parse_level(level).is_ok(), "{level}");
        }
        for level in ["loud", "info,loud", "access=loud"] {
            assert!(parse_level(level).is_err(), "{level}");
        }
    }
}

//! Logs: JSON objects, one per line, on stdout, or readable lines on a terminal.

mod json_lines;
mod pretty;
mod queue;

use std::{
    io::{self, IsTerminal as _},
    panic,
    sync::OnceLock,
    time::Duration,
};

use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use self::queue::Queue;
use crate::runtime::LogSettings;

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
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
    /// `Pretty` if stdout is a terminal, else `Json`.
    #[must_use]
    pub fn of_stdout() -> Self {
        if io::stdout().is_terminal() { Self::Pretty } else { Self::Json }
    }
}

/// The destination of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogOutput {
    /// For a service.
    Stdout,
    /// For a command, whose result is printed to stdout.
    Stderr,
}

impl LogOutput {
    fn queue(self) -> io::Result<Queue> {
        match self {
            Self::Stdout => Queue::start(io::stdout()),
            Self::Stderr => Queue::start(io::stderr()),
        }
    }

    fn has_colours(self) -> bool {
        #[expect(clippy::disallowed_methods, reason = "no setting of ours: see no-color.org")]
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        !refused && self.is_terminal()
    }

    fn is_terminal(self) -> bool {
        match self {
            Self::Stdout => io::stdout().is_terminal(),
            Self::Stderr => io::stderr().is_terminal(),
        }
    }

    /// The level without `LOG_LEVEL`. A command on a terminal prints its result there, which the lines
    /// at info would only repeat.
    fn default_level(self) -> &'static str {
        if self == Self::Stderr && self.is_terminal() { "warn" } else { "info" }
    }
}

/// The destination of formatted lines.
trait Lines: Send + Sync {
    /// Adds a line, including its line feed.
    fn add(&self, line: &[u8]);
}

impl Lines for Queue {
    fn add(&self, line: &[u8]) {
        Self::add(self, line);
    }
}

/// The log of the process, once it has been started.
static LOG: OnceLock<Queue> = OnceLock::new();

/// How long the end of the process waits until the last lines are written.
const FLUSH_PATIENCE: Duration = Duration::from_millis(500);

/// Waits until the log has been written, for at most half a second. Call it before the process ends.
pub fn flush() {
    if let Some(queue) = LOG.get() {
        queue.flush(FLUSH_PATIENCE);
    }
}

/// How many log lines have been dropped since the start, because the reader was too slow.
#[must_use]
pub fn dropped_lines() -> u64 {
    LOG.get().map_or(0, Queue::dropped)
}

/// Prints a text to stderr, and waits for at most half a second until it is written.
pub fn print_to_stderr(text: &str) {
    if let Ok(queue) = LogOutput::Stderr.queue() {
        queue.add(text.as_bytes());
        queue.flush(FLUSH_PATIENCE);
    }
}

/// Prints a text for people between the lines of the log. Like these, it never blocks.
pub fn print(text: &str) {
    if let Some(queue) = LOG.get() {
        queue.add(text.as_bytes());
    }
}

/// Starts logging for the whole process. Further calls have no effect.
///
/// # Errors
///
/// If the level is not a valid filter, or if the log thread cannot be started.
pub fn init(settings: &LogSettings, output: LogOutput) -> Result<(), String> {
    let filter = parse_level(settings.level.as_deref().unwrap_or_else(|| output.default_level()))?;
    if LOG.get().is_some() {
        return Ok(());
    }
    let queue = output.queue().map_err(|error| format!("cannot start the log: {error}"))?;
    // The filter is for the whole registry. As a per-layer filter it would remember the result of a
    // check by sqlx ("would this be logged?") and wrongly drop the thread's next line.
    let registry = tracing_subscriber::registry().with(filter);
    let started = match settings.format.unwrap_or_else(LogFormat::of_stdout) {
        LogFormat::Json => registry.with(json_lines::JsonLines(queue.clone())).try_init(),
        LogFormat::Pretty => {
            let colours = output.has_colours();
            registry.with(pretty::Pretty { output: queue.clone(), colours }).try_init()
        }
    };
    if started.is_ok() {
        let _ = LOG.set(queue);
        log_panics();
    }
    Ok(())
}

/// Parses a level or filter.
///
/// # Errors
///
/// If `level` is neither.
pub fn parse_level(level: &str) -> Result<Targets, String> {
    let fault = || "is not a log level or filter such as info or debug,access=off".to_owned();
    // A single word that is not a level would be parsed as a target, and would silence everything
    // else.
    let parts = || level.split(',').map(str::trim);
    let is_level = |part: &str| !part.is_empty() && part.parse::<LevelFilter>().is_ok();
    let is_known = |part: &str| part.contains('=') || is_level(part);
    if !parts().all(is_known) {
        return Err(fault());
    }
    let has_default = parts().any(|part| !part.contains('='));
    let default = if has_default { None } else { Some(LevelFilter::INFO) };
    // Below these levels, the HTTP and database crates log headers and values unredacted; at info,
    // sqlx repeats every notice of the server. sqlx's pool logs the consequences of a failover at
    // ERROR many times per second, while our own log line reports them once. The DNS crates repeat
    // for each look-up which words of /etc/resolv.conf they do not know.
    let quiet = [
        ("h2", LevelFilter::INFO),
        ("hickory_net", LevelFilter::OFF),
        ("hickory_proto", LevelFilter::OFF),
        ("hickory_resolver", LevelFilter::OFF),
        ("hyper", LevelFilter::INFO),
        ("hyper_util", LevelFilter::INFO),
        ("rustls", LevelFilter::INFO),
        ("sqlx", LevelFilter::WARN),
        ("sqlx_core::pool::inner", LevelFilter::OFF),
        ("tower", LevelFilter::INFO),
    ];
    // A more specific target, such as hyper::proto=trace, would expose the same.
    let is_ours = |part: &&str| !quiet.iter().any(|(name, _)| part.starts_with(name));
    let given: Targets =
        parts().filter(is_ours).collect::<Vec<_>>().join(",").parse().map_err(|_| fault())?;
    let given = default.into_iter().fold(given, Targets::with_default);
    Ok(given.with_targets(quiet))
}

/// Logs panics, with their location. Clients never see a backtrace.
fn log_panics() {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let cause = info.payload_as_str().unwrap_or("unknown");
        tracing::error!(place, cause, "panic");
    }));
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Stores the lines.
    #[derive(Clone, Default)]
    pub(super) struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Memory {
        pub(super) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Lines for Memory {
        fn add(&self, line: &[u8]) {
            self.0.lock().unwrap().extend_from_slice(line);
        }
    }

    #[test]
    fn what_shows_header_fields_and_values_stays_quiet() {
        for level in ["trace", "trace,sqlx=trace", "hyper::proto=trace,h2=trace,sqlx::query=debug"]
        {
            let filter = parse_level(level).unwrap();
            for target in ["hyper::proto::h1", "h2::codec", "sqlx::query", "tower::buffer"] {
                assert!(!filter.would_enable(target, &tracing::Level::DEBUG), "{level} {target}");
            }
        }
        assert!(parse_level("access=off").unwrap().would_enable("x", &tracing::Level::INFO));
        assert!(!parse_level("access=off").unwrap().would_enable("access", &tracing::Level::ERROR));
    }

    #[test]
    fn a_level_is_a_level_or_a_filter() {
        for level in ["info", "WARN", "debug,access=off", "sqlx=trace", "off"] {
            assert!(parse_level(level).is_ok(), "{level}");
        }
        for level in ["loud", "info,loud", "access=loud", "", "info,"] {
            assert!(parse_level(level).is_err(), "{level}");
        }
    }
}

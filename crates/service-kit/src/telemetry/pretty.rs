//! Formats log lines for people: one row each. The row of a request fits into 120 columns.

use std::fmt::{self, Write as _};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use super::Lines;

use crate::{access, clock::machine_time};

/// Formats each event as a row.
pub(super) struct Pretty<W> {
    pub(super) output: W,
    /// Whether the level is coloured.
    pub(super) colours: bool,
}

/// The fields of a span.
struct SpanFields(Fields);

impl<S, W> Layer<S> for Pretty<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Lines + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(SpanFields(fields));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut more = Fields::default();
        values.record(&mut more);
        if let Some(span) = context.span(id)
            && let Some(SpanFields(fields)) = span.extensions_mut().get_mut()
        {
            fields.0.append(&mut more.0);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        access::for_fields_of_request(|name, text| fields.push(name, text.to_owned()));
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(SpanFields(around)) = span.extensions().get() {
                fields.0.extend(around.0.iter().cloned());
            }
        }
        let level = *event.metadata().level();
        let mut row = machine_time().format("%H:%M:%S%.3f ").to_string();
        row.push_str(&self.level(level));
        if event.metadata().target() == "access" {
            fields.request(&mut row);
        } else {
            fields.event(&mut row, level <= Level::WARN);
        }
        row.push('\n');
        self.output.add(row.as_bytes());
    }
}

impl<W> Pretty<W> {
    fn level(&self, level: Level) -> String {
        let colour = match level {
            Level::ERROR => 31,
            Level::WARN => 33,
            Level::INFO => 32,
            _ => 34,
        };
        match self.colours {
            true => format!("\u{1b}[{colour}m{level:<5}\u{1b}[0m"),
            false => format!("{level:<5}"),
        }
    }
}

/// Names and values. Control characters are removed from values, because a line break or a terminal
/// escape sequence could forge output.
#[derive(Default)]
struct Fields(Vec<(&'static str, String)>);

/// Fields that a row omits, because they are for machines or shown elsewhere in the row.
const HIDDEN: [&str; 5] = ["message", "service", "event", "request_id", "trace_id"];

impl Fields {
    fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(of, _)| *of == name);
        found.map_or("", |(_, value)| value.as_str())
    }

    /// The name of the service, without the part that all names have in common.
    fn service(&self) -> &str {
        let service = self.get("service");
        service.strip_suffix("-service").unwrap_or(service)
    }

    /// The result of a request: status, method, route and duration; then the reason, the network
    /// and the account.
    fn request(&self, row: &mut String) {
        let (status, method) = (self.get("status"), self.get("method"));
        let (endpoint, took) = (self.get("endpoint"), self.get("latency_ms"));
        // Writing to a string cannot fail.
        let _ = write!(row, " {} {status:>3} {method} {endpoint} {took} ms", self.service());
        for name in ["code", "network", "account"] {
            let value = self.get(name);
            if !value.is_empty() {
                let _ = write!(row, " {value}");
            }
        }
    }

    fn event(&self, row: &mut String, with_request: bool) {
        if !self.service().is_empty() {
            let _ = write!(row, " {}", self.service());
        }
        let _ = write!(row, " {}", self.get("message"));
        for (name, value) in self.0.iter().filter(|(name, _)| !HIDDEN.contains(name)) {
            let quote = if value.is_empty() || value.contains(' ') { "\"" } else { "" };
            let _ = write!(row, " {name}={quote}{value}{quote}");
        }
        let request = self.get("request_id");
        if with_request && !request.is_empty() {
            let _ = write!(row, " request_id={request}");
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field.name(), value.to_owned());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field.name(), value.to_string());
    }
}

impl Fields {
    fn push(&mut self, name: &'static str, value: String) {
        let value = if value.contains(char::is_control) {
            value.chars().fold(String::new(), |mut clean, c| {
                if c.is_control() {
                    clean.extend(c.escape_default());
                } else {
                    clean.push(c);
                }
                clean
            })
        } else {
            value
        };
        self.0.push((name, value));
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::telemetry::tests::Memory;

    fn rows(work: impl FnOnce()) -> Vec<String> {
        let memory = Memory::default();
        let layer = Pretty { output: memory.clone(), colours: false };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        // Removes the time of day.
        memory.text().lines().map(|row| row[13..].to_owned()).collect()
    }

    #[test]
    fn a_request_is_a_row_of_120_columns() {
        let rows = rows(|| {
            let span = tracing::error_span!(
                "request",
                service = "user-service",
                request_id = "r",
                trace_id = "t"
            );
            span.in_scope(|| {
                let (endpoint, account) =
                    ("/user.v1.UserService/UpdateUser", "0198c0de-0000-7000-8000-000000000000");
                let grpc_status = Some("PERMISSION_DENIED");
                tracing::info!(target: "access", endpoint, method = "GRPC", status = 7, grpc_status,
                    latency_ms = 1.234, account, network = "127.0.0.1", "request");
                tracing::warn!(target: "access", endpoint = "/users/{id}", method = "GET", status = 503,
                    grpc_status = None::<&str>, latency_ms = 3000.25, code = "database_unavailable",
                    network = "2001:db8:1:2::", "request");
            });
        });
        assert_eq!(
            rows,
            [
                "INFO  user   7 GRPC /user.v1.UserService/UpdateUser 1.234 ms 127.0.0.1 \
                 0198c0de-0000-7000-8000-000000000000",
                "WARN  user 503 GET /users/{id} 3000.25 ms database_unavailable 2001:db8:1:2::",
            ]
        );
        assert!(rows.iter().all(|row| row.len() + 13 <= 120));
    }

    #[test]
    fn an_event_is_a_row_without_control_characters() {
        let rows = rows(|| {
            tracing::info!(
                event = "login.ok",
                account = "a",
                text = "two words",
                "login\nok\u{1b}[2J"
            );
            tracing::error_span!("request", service = "auth-service", request_id = "r-1").in_scope(
                || {
                    tracing::warn!(cause = ?Some("x"), "failed");
                },
            );
        });
        assert_eq!(
            rows,
            [
                "INFO  login\\nok\\u{1b}[2J account=a text=\"two words\"",
                "WARN  auth failed cause=\"Some(\"x\")\" request_id=r-1",
            ]
            .map(|row| row.replace("\"Some(\"x\")\"", "Some(\"x\")"))
        );
    }
}

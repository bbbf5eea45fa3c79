//! Formats log lines as JSON objects in one pass, without building a tree of values, because the
//! access line of each request is on the hot path.

use std::{cell::RefCell, fmt};

use chrono::SecondsFormat;
use serde::{Serialize, Serializer};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use super::Lines;

use crate::{access, clock::machine_time};

/// Formats each event as a line: time, level, target, the fields of the present request, those of the
/// surrounding spans and its own fields. Their names must be distinct.
pub(super) struct JsonLines<W>(pub(super) W);

/// The fields of a span, as JSON members with a leading comma each.
struct SpanMembers(Vec<u8>);

thread_local! {
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The buffer of a longer line is not kept.
const KEPT_BUFFER: usize = 16 * 1024;

impl<S, W> Layer<S> for JsonLines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Lines + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut members = Vec::new();
        attributes.record(&mut Members(&mut members));
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(SpanMembers(members));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        // Formats the fields before the span is locked, because formatting a value may log.
        let mut more = Vec::new();
        values.record(&mut Members(&mut more));
        if let Some(span) = context.span(id)
            && let Some(SpanMembers(members)) = span.extensions_mut().get_mut()
        {
            members.append(&mut more);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        LINE.with(|line| match line.try_borrow_mut() {
            Ok(mut line) => self.write(&mut line, event, &context),
            // A value that is being logged logs something itself.
            Err(_) => self.write(&mut Vec::new(), event, &context),
        });
    }
}

impl<W: Lines> JsonLines<W> {
    fn write<S>(&self, line: &mut Vec<u8>, event: &Event<'_>, context: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let metadata = event.metadata();
        // A panic while formatting may have left an incomplete line.
        line.clear();
        line.extend_from_slice(b"{\"timestamp\":");
        value(line, &machine_time().to_rfc3339_opts(SecondsFormat::Micros, true));
        member(line, "level", metadata.level().as_str());
        member(line, "target", metadata.target());
        access::for_fields_of_request(|name, text| member(line, name, text));
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(SpanMembers(members)) = span.extensions().get() {
                line.extend_from_slice(members);
            }
        }
        event.record(&mut Members(line));
        line.extend_from_slice(b"}\n");
        self.0.add(line);
        line.clear();
        line.shrink_to(KEPT_BUFFER);
    }
}

/// Appends members to an object that already has one.
struct Members<'a>(&'a mut Vec<u8>);

impl Visit for Members<'_> {
    fn record_debug(&mut self, field: &Field, debug: &dyn fmt::Debug) {
        member(self.0, field.name(), &Debugged(debug));
    }

    fn record_str(&mut self, field: &Field, text: &str) {
        member(self.0, field.name(), text);
    }

    fn record_bool(&mut self, field: &Field, truth: bool) {
        member(self.0, field.name(), &truth);
    }

    fn record_i64(&mut self, field: &Field, number: i64) {
        member(self.0, field.name(), &number);
    }

    fn record_u64(&mut self, field: &Field, number: u64) {
        member(self.0, field.name(), &number);
    }

    fn record_f64(&mut self, field: &Field, number: f64) {
        member(self.0, field.name(), &number);
    }
}

/// Serialises what a value prints as, without a copy of it.
struct Debugged<'a>(&'a dyn fmt::Debug);

impl Serialize for Debugged<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:?}", self.0))
    }
}

fn member<T: Serialize + ?Sized>(line: &mut Vec<u8>, name: &str, of: &T) {
    line.push(b',');
    value(line, name);
    line.push(b':');
    value(line, of);
}

fn value<T: Serialize + ?Sized>(line: &mut Vec<u8>, of: &T) {
    // Strings, booleans and numbers can always be serialised, and writing to memory cannot fail.
    let _ = serde_json::to_writer(line, of);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt as _;
    use http::HeaderMap;
    use serde_json::{Value, json};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::{access::Notes, context::RequestContext, telemetry::tests::Memory};

    fn logged(work: impl FnOnce()) -> Vec<Value> {
        let memory = Memory::default();
        let subscriber = tracing_subscriber::registry().with(JsonLines(memory.clone()));
        tracing::subscriber::with_default(subscriber, work);
        let written = memory.text();
        written
            .lines()
            .map(|line| {
                let mut line: Value = serde_json::from_str(line).unwrap();
                let time = line.as_object_mut().unwrap().remove("timestamp").unwrap();
                assert!(chrono::DateTime::parse_from_rfc3339(time.as_str().unwrap()).is_ok());
                line
            })
            .collect()
    }

    #[test]
    fn a_line_has_what_the_event_and_the_spans_around_it_say() {
        let lines = logged(|| {
            let outer = tracing::info_span!(
                "outer",
                request_id = "r\"1\"\n",
                later = tracing::field::Empty
            );
            outer.in_scope(|| {
                outer.record("later", 7);
                tracing::info_span!("inner", inside = true).in_scope(|| {
                    tracing::warn!(target: "access", count = 3_u64, below = -1, took = 1.5, none = None::<u8>, "a {}", "request");
                });
            });
            tracing::info!(odd = f64::NAN, debug = ?Some("\u{1}é"), "alone");
        });
        assert_eq!(
            lines,
            [
                json!({"level": "WARN", "target": "access", "message": "a request", "count": 3,
                    "below": -1, "took": 1.5, "inside": true, "request_id": "r\"1\"\n", "later": 7}),
                json!({"level": "INFO", "target": "service_kit::telemetry::json_lines::tests",
                    "message": "alone", "odd": null, "debug": "Some(\"\\u{1}é\")"}),
            ]
        );
    }

    #[test]
    fn a_line_of_a_request_tells_which_one_it_is() {
        let context = Arc::new(RequestContext::from_headers(&HeaderMap::new()));
        let lines = logged(|| {
            let mut moved = None;
            let request = Notes::new("user-service", &context).during(async {
                tracing::info!("inside");
                let other = async { tracing::info!("in another task") };
                moved = Some(access::in_present_request(other));
            });
            request.now_or_never().unwrap();
            moved.unwrap().now_or_never().unwrap();
            tracing::info!("outside");
        });
        for line in &lines[..2] {
            assert_eq!(line["service"], "user-service");
            assert_eq!(line["request_id"], context.request_id);
            assert_eq!(line["trace_id"], context.trace_id);
        }
        assert_eq!(lines[2].get("request_id"), None);
    }

    #[test]
    fn what_is_logged_may_panic() {
        struct Broken;

        impl fmt::Debug for Broken {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                panic!("broken")
            }
        }

        let lines = logged(|| {
            let broken = std::panic::catch_unwind(|| tracing::info!(broken = ?Broken, "lost"));
            assert!(broken.is_err());
            tracing::info!("next");
        });
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["message"], "next");
    }

    #[test]
    fn what_is_logged_may_log() {
        struct Chatty;

        impl fmt::Debug for Chatty {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                tracing::info!("inside");
                formatter.write_str("chatty")
            }
        }

        let lines = logged(|| tracing::info!(said = ?Chatty, "outside"));
        let said: Vec<_> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
        assert!(said.contains(&"outside"), "{said:?}");
    }
}

//! Metrics with OpenTelemetry's semantic names, for Prometheus to scrape and, if the `OTEL_*`
//! variables are set, for a collector. Each service has its own registry, so that two services in
//! one process do not mix. Labels are routes, methods and statuses, and never text that a client
//! controls, so the number of series is bounded.
//!
//! A metric is named as in OpenTelemetry, such as `http.server.request.duration`. Prometheus sees
//! `http_server_request_duration_seconds`: with underscores, the unit and, for counters, `_total`.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, extract::State, response::IntoResponse, routing::get};
use http::header::CONTENT_TYPE;
use opentelemetry::{KeyValue, metrics::Meter};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _, text::encode},
    metrics::{
        MetricType,
        counter::Counter,
        family::Family,
        histogram::Histogram,
        info::Info,
        {counter::ConstCounter, gauge::ConstGauge},
    },
    registry::{Metric, Registry},
};

use crate::{clock::machine_time, otlp::Otlp};

/// The histogram boundaries that OpenTelemetry recommends for request durations, in seconds.
const DURATIONS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HttpLabels {
    http_request_method: &'static str,
    http_route: String,
    http_response_status_code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RpcLabels {
    rpc_method: String,
    rpc_response_status_code: &'static str,
}

/// A label with one of its fixed values.
type Label = [(&'static str, &'static str); 1];

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;
type OtelHistogram = opentelemetry::metrics::Histogram<f64>;

/// The metrics of one service. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    meter: Option<Meter>,
    http: (Histograms<HttpLabels>, Option<OtelHistogram>),
    rpc: (Histograms<RpcLabels>, Option<OtelHistogram>),
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// A histogram of durations, by the value of one label.
#[derive(Debug, Clone)]
pub struct Durations {
    label: &'static str,
    prometheus: Histograms<Label>,
    otlp: Option<OtelHistogram>,
}

impl Durations {
    /// Records one duration.
    pub fn observe(&self, value: &'static str, took: Duration) {
        let seconds = took.as_secs_f64();
        self.prometheus.get_or_create(&prometheus_label(self.label, value)).observe(seconds);
        if let Some(otlp) = &self.otlp {
            otlp.record(seconds, &[KeyValue::new(self.label, value)]);
        }
    }
}

/// A counter, by the value of one label.
#[derive(Debug, Clone)]
pub struct Counts {
    label: &'static str,
    prometheus: Family<Label, Counter>,
    otlp: Option<opentelemetry::metrics::Counter<u64>>,
}

impl Counts {
    /// Counts one.
    pub fn count(&self, value: &'static str) {
        self.prometheus.get_or_create(&prometheus_label(self.label, value)).inc();
        if let Some(otlp) = &self.otlp {
            otlp.add(1, &[KeyValue::new(self.label, value)]);
        }
    }
}

/// The unit of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    Count,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// The unit in UCUM notation, which OpenTelemetry uses.
    const fn ucum(self) -> &'static str {
        match self {
            Self::Count => "1",
            Self::Seconds => "s",
            Self::Bytes => "By",
        }
    }

    fn prometheus(self, name: &str) -> String {
        let suffix = match self {
            Self::Count => "",
            Self::Seconds => "_seconds",
            Self::Bytes => "_bytes",
        };
        format!("{}{suffix}", name.replace('.', "_"))
    }
}

/// Prometheus allows no dots in names. The leaked names are few and live as long as the process.
fn prometheus_label(label: &'static str, value: &'static str) -> Label {
    let name = match label {
        "db.system.name" => "db_system_name",
        "error.type" => "error_type",
        label => label,
    };
    [(name, value)]
}

fn durations() -> Histogram {
    Histogram::new(DURATIONS)
}

impl Metrics {
    /// The metrics that every service has: request durations on both edges, the version, and the
    /// start time.
    #[must_use]
    pub fn new(service: &'static str, version: &'static str, otlp: &Otlp) -> Self {
        let (registry, meter) = (Arc::new(Mutex::new(Registry::default())), otlp.meter());
        let http = Family::new_with_constructor(durations as fn() -> Histogram);
        let rpc = Family::new_with_constructor(durations as fn() -> Histogram);
        let names = [
            ("http.server.request.duration", "Duration of HTTP server requests"),
            ("rpc.server.call.duration", "Duration of inbound gRPC calls"),
        ];
        let [otlp_http, otlp_rpc] =
            names.map(|(name, help)| otlp_durations(meter.as_ref(), name, help));
        let metrics =
            Self { registry, meter, http: (http.clone(), otlp_http), rpc: (rpc.clone(), otlp_rpc) };
        metrics.register(names[0].0, names[0].1, Unit::Seconds, http);
        metrics.register(names[1].0, names[1].1, Unit::Seconds, rpc);
        let about = [("service_name", service), ("service_version", version)];
        metrics.register("target", "Which version runs", Unit::Count, Info::new(about));
        let started = machine_time().timestamp_millis() as f64 / 1000.0;
        metrics.gauge(
            "process.start_time",
            "When the process was started, since 1970",
            Unit::Seconds,
            move || Some(started),
        );
        metrics
    }

    fn register(&self, name: &str, help: &str, unit: Unit, metric: impl Metric) {
        self.with(|registry| registry.register(unit.prometheus(name), help, metric));
    }

    /// Adds durations with the label `label`. All `values` exist from the start, because a rate
    /// needs an initial zero.
    #[must_use]
    pub fn durations(
        &self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: &[&'static str],
    ) -> Durations {
        let prometheus = Family::new_with_constructor(durations as fn() -> Histogram);
        for value in values {
            drop(prometheus.get_or_create(&prometheus_label(label, value)));
        }
        self.register(name, help, Unit::Seconds, prometheus.clone());
        Durations { label, prometheus, otlp: otlp_durations(self.meter.as_ref(), name, help) }
    }

    /// Adds counters with the label `label`. All `values` exist from the start.
    #[must_use]
    pub fn counts(
        &self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: &[&'static str],
    ) -> Counts {
        let prometheus = Family::<Label, Counter>::default();
        for value in values {
            drop(prometheus.get_or_create(&prometheus_label(label, value)));
        }
        self.register(name, help, Unit::Count, prometheus.clone());
        let otlp =
            self.meter.as_ref().map(|meter| meter.u64_counter(name).with_description(help).build());
        Counts { label, prometheus, otlp }
    }

    /// Adds a gauge. Its value is queried when the metrics are read; `None` omits it.
    pub fn gauge(
        &self,
        name: &'static str,
        help: &'static str,
        unit: Unit,
        value: impl Fn() -> Option<f64> + Send + Sync + 'static,
    ) {
        self.gauge_by(name, help, unit, "", move || {
            value().map(|value| ("", value)).into_iter().collect()
        });
    }

    /// Adds a gauge with one value per value of `label`, queried when the metrics are read.
    pub fn gauge_by(
        &self,
        name: &'static str,
        help: &'static str,
        unit: Unit,
        label: &'static str,
        values: impl Fn() -> Vec<(&'static str, f64)> + Send + Sync + 'static,
    ) {
        let values: Arc<Values> = Arc::new(values);
        if let Some(meter) = &self.meter {
            let values = Arc::clone(&values);
            let gauge = meter.f64_observable_gauge(name).with_description(help);
            let gauge = gauge.with_unit(unit.ucum()).with_callback(move |observer| {
                for (of_label, value) in values() {
                    match label {
                        "" => observer.observe(value, &[]),
                        label => observer.observe(value, &[KeyValue::new(label, of_label)]),
                    }
                }
            });
            // The meter keeps the gauge; this is only a handle.
            let _ = gauge.build();
        }
        let gauge = AskedGauge {
            name: unit.prometheus(name),
            help,
            label: label.replace('.', "_"),
            values,
        };
        self.with(|registry| registry.register_collector(Box::new(gauge)));
    }

    /// Adds a counter that is stored elsewhere and queried when the metrics are read.
    pub fn counter(
        &self,
        name: &'static str,
        help: &'static str,
        value: impl Fn() -> u64 + Send + Sync + Clone + 'static,
    ) {
        if let Some(meter) = &self.meter {
            let value = value.clone();
            let counter = meter.u64_observable_counter(name).with_description(help);
            // The meter keeps the counter; this is only a handle.
            let _ = counter.with_callback(move |observer| observer.observe(value(), &[])).build();
        }
        let counter =
            AskedCounter { name: Unit::Count.prometheus(name), help, value: Box::new(value) };
        self.with(|registry| registry.register_collector(Box::new(counter)));
    }

    fn with<T>(&self, work: impl FnOnce(&mut Registry) -> T) -> T {
        work(&mut self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    pub(crate) fn http(&self, method: &'static str, route: &str, status: u16, took: Duration) {
        let (seconds, (prometheus, otlp)) = (took.as_secs_f64(), &self.http);
        let labels = HttpLabels {
            http_request_method: method,
            http_route: route.to_owned(),
            http_response_status_code: status,
        };
        prometheus.get_or_create(&labels).observe(seconds);
        if let Some(otlp) = otlp {
            let attributes = [
                KeyValue::new("http.request.method", method),
                KeyValue::new("http.route", labels.http_route),
                KeyValue::new("http.response.status_code", i64::from(status)),
            ];
            otlp.record(seconds, &attributes);
        }
    }

    pub(crate) fn rpc(&self, method: &str, status: &'static str, took: Duration) {
        let (seconds, (prometheus, otlp)) = (took.as_secs_f64(), &self.rpc);
        let labels = RpcLabels {
            rpc_method: method.trim_start_matches('/').to_owned(),
            rpc_response_status_code: status,
        };
        prometheus.get_or_create(&labels).observe(seconds);
        if let Some(otlp) = otlp {
            let attributes = [
                KeyValue::new("rpc.system.name", "grpc"),
                KeyValue::new("rpc.method", labels.rpc_method),
                KeyValue::new("rpc.response.status_code", status),
            ];
            otlp.record(seconds, &attributes);
        }
    }

    /// All metrics as text (OpenMetrics 1.0).
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.with(|registry| encode(&mut text, registry));
        text
    }

    /// The route of the metrics: `/metrics`.
    pub fn router(&self) -> Router {
        Router::new().route("/metrics", get(scrape)).with_state(self.clone())
    }
}

fn otlp_durations(
    meter: Option<&Meter>,
    name: &'static str,
    help: &'static str,
) -> Option<OtelHistogram> {
    let histogram = meter?.f64_histogram(name).with_description(help).with_unit("s");
    Some(histogram.with_boundaries(DURATIONS.to_vec()).build())
}

/// Metrics without an exporter, for commands and tests.
impl Default for Metrics {
    fn default() -> Self {
        Self::new("test", "1", &Otlp::default())
    }
}

async fn scrape(State(metrics): State<Metrics>) -> impl IntoResponse {
    ([(CONTENT_TYPE, OPENMETRICS)], metrics.render())
}

struct AskedCounter {
    name: String,
    help: &'static str,
    value: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl fmt::Debug for AskedCounter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AskedCounter").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Collector for AskedCounter {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let metric = encoder.encode_descriptor(&self.name, self.help, None, MetricType::Counter)?;
        ConstCounter::new((self.value)()).encode(metric)
    }
}

type Values = dyn Fn() -> Vec<(&'static str, f64)> + Send + Sync;

struct AskedGauge {
    name: String,
    help: &'static str,
    /// Empty for a gauge with a single value.
    label: String,
    values: Arc<Values>,
}

impl fmt::Debug for AskedGauge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AskedGauge").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Collector for AskedGauge {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let values = (self.values)();
        if values.is_empty() {
            return Ok(());
        }
        let mut metric =
            encoder.encode_descriptor(&self.name, self.help, None, MetricType::Gauge)?;
        match (self.label.as_str(), values.as_slice()) {
            ("", [(_, value), ..]) => ConstGauge::new(*value).encode(metric),
            (label, values) => values.iter().try_for_each(|(of_label, value)| {
                let labels = [(label, *of_label)];
                ConstGauge::new(*value).encode(metric.encode_family(&labels)?)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_carry_the_semantic_names() {
        let metrics = Metrics::default();
        metrics.http("GET", "/users/{id}", 200, Duration::from_millis(3));
        metrics.rpc("/user.v1.UserService/GetUser", "OK", Duration::from_millis(3));
        metrics.gauge("an.answer", "An answer", Unit::Count, || Some(42.0));
        metrics.gauge("silence", "None", Unit::Count, || None);
        metrics.gauge_by("pool", "By state", Unit::Count, "pool.state", || {
            vec![("idle", 1.0), ("used", 2.0)]
        });
        let waits = metrics.durations("a.wait", "A wait", "db.system.name", &["postgresql"]);
        waits.observe("sqlite", Duration::from_millis(3));
        metrics.counter("lost.lines", "Lost", || 7);
        metrics.counts("refused", "Refused", "policy", &["that"]).count("this");
        let text = metrics.render();
        for line in [
            "http_server_request_duration_seconds_bucket{le=\"0.005\",http_request_method=\"GET\",http_route=\"/users/{id}\",http_response_status_code=\"200\"} 1",
            "rpc_server_call_duration_seconds_count{rpc_method=\"user.v1.UserService/GetUser\",rpc_response_status_code=\"OK\"} 1",
            "an_answer 42.0",
            "pool{pool_state=\"used\"} 2.0",
            "a_wait_seconds_count{db_system_name=\"sqlite\"} 1",
            "a_wait_seconds_count{db_system_name=\"postgresql\"} 0",
            "lost_lines_total 7",
            "refused_total{policy=\"this\"} 1",
            "refused_total{policy=\"that\"} 0",
            "process_start_time_seconds",
            "target_info{service_name=\"test\",service_version=\"1\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("silence"));
        assert!(text.ends_with("# EOF\n"));
    }
}

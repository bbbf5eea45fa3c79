//! Metrics in Prometheus form, with OpenTelemetry's semantic names. Each service has a registry of
//! its own, so that two of them in one process do not mix. Labels are routes, methods and statuses,
//! never what a client made up: the number of series is bounded.

use std::{fmt, net::SocketAddr, sync::Mutex, time::Duration};

use axum::{Router, extract::State, response::IntoResponse, routing::get};
use http::header::CONTENT_TYPE;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _, text::encode},
    metrics::{MetricType, family::Family, gauge::ConstGauge, histogram::Histogram},
    registry::{Metric, Registry},
};
use std::sync::Arc;

/// The boundaries that OpenTelemetry advises for the duration of requests, in seconds.
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

/// The metrics of one service. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    http: Family<HttpLabels, Histogram, fn() -> Histogram>,
    rpc: Family<RpcLabels, Histogram, fn() -> Histogram>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// A histogram of durations, in seconds.
#[must_use]
pub fn durations() -> Histogram {
    Histogram::new(DURATIONS)
}

impl Metrics {
    /// The metrics that every service has: the duration of requests on both edges.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let http = Family::new_with_constructor(durations as fn() -> Histogram);
        registry.register(
            "http_server_request_duration_seconds",
            "Duration of HTTP server requests",
            http.clone(),
        );
        let rpc = Family::new_with_constructor(durations as fn() -> Histogram);
        registry.register(
            "rpc_server_call_duration_seconds",
            "Duration of inbound gRPC calls",
            rpc.clone(),
        );
        Self { registry: Arc::new(Mutex::new(registry)), http, rpc }
    }

    /// Adds a metric. The name of a counter goes without `_total`, which is added.
    pub fn register(&self, name: &str, help: &str, metric: impl Metric) {
        self.with(|registry| registry.register(name, help.trim_end_matches('.'), metric));
    }

    /// Adds a gauge whose value is asked for at each scrape; `None` leaves it out.
    pub fn gauge(
        &self,
        name: &'static str,
        help: &'static str,
        value: impl Fn() -> Option<f64> + Send + Sync + 'static,
    ) {
        self.ask(AskedGauge {
            name,
            help,
            label: None,
            values: Box::new(move || value().map(|value| ("", value)).into_iter().collect()),
        });
    }

    /// Adds a gauge with one value for each value of `label`, asked for at each scrape.
    pub fn gauge_by(
        &self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: impl Fn() -> Vec<(&'static str, f64)> + Send + Sync + 'static,
    ) {
        self.ask(AskedGauge { name, help, label: Some(label), values: Box::new(values) });
    }

    fn ask(&self, gauge: AskedGauge) {
        self.with(|registry| registry.register_collector(Box::new(gauge)));
    }

    fn with<T>(&self, work: impl FnOnce(&mut Registry) -> T) -> T {
        work(&mut self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    pub(crate) fn http(&self, method: &'static str, route: &str, status: u16, took: Duration) {
        let labels = HttpLabels {
            http_request_method: method,
            http_route: route.to_owned(),
            http_response_status_code: status,
        };
        self.http.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub(crate) fn rpc(&self, method: &str, status: &'static str, took: Duration) {
        let labels = RpcLabels {
            rpc_method: method.trim_start_matches('/').to_owned(),
            rpc_response_status_code: status,
        };
        self.rpc.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// All metrics as text (OpenMetrics 1.0).
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.with(|registry| encode(&mut text, registry));
        text
    }

    /// The router of the metrics listener: `/metrics`.
    pub fn router(&self) -> Router {
        Router::new().route("/metrics", get(scrape)).with_state(self.clone())
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

async fn scrape(State(metrics): State<Metrics>) -> impl IntoResponse {
    ([(CONTENT_TYPE, OPENMETRICS)], metrics.render())
}

struct AskedGauge {
    name: &'static str,
    help: &'static str,
    label: Option<&'static str>,
    values: Box<dyn Fn() -> Vec<(&'static str, f64)> + Send + Sync>,
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
            encoder.encode_descriptor(self.name, self.help, None, MetricType::Gauge)?;
        match (self.label, values.as_slice()) {
            (None, [(_, value), ..]) => ConstGauge::new(*value).encode(metric),
            (label, values) => values.iter().try_for_each(|(of_label, value)| {
                let labels = [(label.unwrap_or_default(), *of_label)];
                ConstGauge::new(*value).encode(metric.encode_family(&labels)?)
            }),
        }
    }
}

/// Reads `METRICS_ADDR`: an address, or nothing, or `off`, for no metrics.
///
/// # Errors
///
/// Where it is something else.
pub fn address(text: &str) -> Result<Option<SocketAddr>, String> {
    match text {
        "" | "off" => Ok(None),
        text => crate::settings::address(text).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_carry_the_semantic_names() {
        let metrics = Metrics::new();
        metrics.http("GET", "/users/{id}", 200, Duration::from_millis(3));
        metrics.rpc("/user.v1.UserService/GetUser", "OK", Duration::from_millis(3));
        metrics.gauge("answer", "An answer", || Some(42.0));
        metrics.gauge("silence", "None", || None);
        metrics.gauge_by("pool", "By state", "state", || vec![("idle", 1.0), ("used", 2.0)]);
        let text = metrics.render();
        for line in [
            "http_server_request_duration_seconds_bucket{le=\"0.005\",http_request_method=\"GET\",http_route=\"/users/{id}\",http_response_status_code=\"200\"} 1",
            "rpc_server_call_duration_seconds_count{rpc_method=\"user.v1.UserService/GetUser\",rpc_response_status_code=\"OK\"} 1",
            "answer 42.0",
            "pool{state=\"used\"} 2.0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("silence"));
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn metrics_can_be_off() {
        assert_eq!(address(""), Ok(None));
        assert_eq!(address("off"), Ok(None));
        assert_eq!(address("127.0.0.1:1"), Ok(Some("127.0.0.1:1".parse().unwrap())));
        assert!(address("x").is_err());
    }
}

//! The `OTEL_*` variables that the SDK does not read, or whose errors it ignores.

use super::OtlpError;

/// How telemetry is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http,
    Grpc,
}

/// The kind of telemetry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Traces,
    Metrics,
}

impl Signal {
    const fn name(self) -> &'static str {
        match self {
            Self::Traces => "TRACES",
            Self::Metrics => "METRICS",
        }
    }
}

/// The protocol of each signal that is exported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Variables {
    traces: Option<Protocol>,
    metrics: Option<Protocol>,
}

impl Variables {
    /// Reads and validates the variables.
    pub(super) fn read() -> Result<Self, OtlpError> {
        Self::from(variable)
    }

    fn from(variable: impl Fn(&str) -> Option<String>) -> Result<Self, OtlpError> {
        let disabled = variable("OTEL_SDK_DISABLED");
        if disabled.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(Self::default());
        }
        Ok(Self {
            traces: protocol(Signal::Traces, &variable)?,
            metrics: protocol(Signal::Metrics, &variable)?,
        })
    }

    /// The protocol of a signal, if it is exported.
    pub(super) const fn protocol(&self, signal: Signal) -> Option<Protocol> {
        match signal {
            Signal::Traces => self.traces,
            Signal::Metrics => self.metrics,
        }
    }
}

/// A signal is exported if an endpoint is set or its exporter is named.
fn protocol(
    signal: Signal,
    variable: &impl Fn(&str) -> Option<String>,
) -> Result<Option<Protocol>, OtlpError> {
    // The variable of the signal takes precedence over that for all signals.
    let given = |what: &str| {
        [
            format!("OTEL_EXPORTER_OTLP_{}_{what}", signal.name()),
            format!("OTEL_EXPORTER_OTLP_{what}"),
        ]
        .into_iter()
        .find_map(|name| variable(&name).map(|value| (name, value)))
    };
    let endpoint = given("ENDPOINT");
    let exporter = format!("OTEL_{}_EXPORTER", signal.name());
    match variable(&exporter).as_deref() {
        Some("none") => return Ok(None),
        Some("otlp") => {}
        Some(_) => return Err(OtlpError::Variable(exporter, "is neither otlp nor none")),
        None if endpoint.is_none() => return Ok(None),
        None => {}
    }
    if let Some((name, url)) = endpoint {
        let uri: Option<http::Uri> = url.parse().ok();
        let usable = uri.is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some()
        });
        if !usable {
            return Err(OtlpError::Variable(name, "is not a URL such as http://collector:4318"));
        }
    }
    if let Some((name, headers)) = given("HEADERS")
        && !headers
            .split(',')
            .all(|header| header.split_once('=').is_some_and(|(key, _)| !key.trim().is_empty()))
    {
        return Err(OtlpError::Variable(name, "is not a list of name=value, separated by commas"));
    }
    match given("PROTOCOL") {
        None => Ok(Some(Protocol::Http)),
        Some((name, protocol)) => match protocol.as_str() {
            "http/protobuf" => Ok(Some(Protocol::Http)),
            "grpc" => Ok(Some(Protocol::Grpc)),
            _ => Err(OtlpError::Variable(name, "is neither http/protobuf nor grpc")),
        },
    }
}

/// Whether the environment sets the name of the service.
pub(super) fn names_a_service() -> bool {
    variable("OTEL_SERVICE_NAME").is_some() || has_attribute("service.name")
}

/// Whether the environment sets the id of the instance.
pub(super) fn names_an_instance() -> bool {
    has_attribute("service.instance.id")
}

fn has_attribute(wanted: &str) -> bool {
    let attributes = variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    attributes
        .split(',')
        .any(|pair| pair.split('=').next().is_some_and(|name| name.trim() == wanted))
}

#[expect(clippy::disallowed_methods, reason = "the names and rules are OpenTelemetry's, not ours")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(given: &[(&str, &str)]) -> Result<(Option<Protocol>, Option<Protocol>), OtlpError> {
        let value = |name: &str| {
            given.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Variables::from(value).map(|variables| (variables.traces, variables.metrics))
    }

    #[test]
    fn an_endpoint_or_the_name_of_the_exporter_turns_a_signal_on() {
        let (http, grpc) = (Some(Protocol::Http), Some(Protocol::Grpc));
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        assert_eq!(read(&[]), Ok((None, None)));
        assert_eq!(read(&[endpoint]), Ok((http, http)));
        assert_eq!(read(&[endpoint, ("OTEL_SDK_DISABLED", "true")]), Ok((None, None)));
        assert_eq!(read(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]), Ok((None, http)));
        assert_eq!(read(&[("OTEL_METRICS_EXPORTER", "otlp")]), Ok((None, http)));
        assert_eq!(read(&[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]), Ok((grpc, grpc)));
        let one = ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc");
        assert_eq!(read(&[endpoint, one]), Ok((http, grpc)));
        let one = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://collector/v1/traces");
        assert_eq!(read(&[one]), Ok((http, None)));
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_name_and_not_repeated() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        for wrong in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "user:hunter2@host"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://hunter2"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "hunter2"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2"),
            ("OTEL_TRACES_EXPORTER", "hunter2"),
        ] {
            let told = read(&[wrong, endpoint]).unwrap_err().to_string();
            assert!(told.contains(wrong.0) && !told.contains("hunter2"), "{told}");
        }
    }
}

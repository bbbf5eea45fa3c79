//! What both edges of a service have in common.

use http::{HeaderName, HeaderValue, Method, header};
use tokio_util::sync::CancellationToken;
use tower_http::cors::CorsLayer;

use crate::{client_address::TrustedProxies, metrics::Metrics, trace::Traces};

const PREFLIGHT_MAX_AGE: std::time::Duration = std::time::Duration::from_secs(600);

/// The context of a service's edges.
#[derive(Debug, Clone)]
pub struct Edge {
    /// The service's name in logs.
    pub service: &'static str,
    /// Counts requests.
    pub metrics: Metrics,
    /// Records the spans of requests.
    pub traces: Traces,
    /// The proxies that are trusted to report the client's address.
    pub trusted_proxies: TrustedProxies,
    /// The origins whose pages may call the REST edge.
    pub allowed_origins: Vec<HeaderValue>,
    /// Whether the edges use TLS themselves.
    pub tls: bool,
    /// Cancelled when the service stops accepting connections and ends its streams.
    pub draining: CancellationToken,
}

impl Edge {
    /// Allows cross-origin requests from the allowed origins (Fetch standard, CORS protocol).
    /// Tokens are sent in the Authorization header, so browser credentials are not allowed.
    pub(crate) fn cors(&self) -> CorsLayer {
        let exposed = [
            header::ETAG,
            header::LINK,
            header::RETRY_AFTER,
            header::WWW_AUTHENTICATE,
            HeaderName::from_static("ratelimit"),
            HeaderName::from_static("ratelimit-policy"),
            HeaderName::from_static("x-request-id"),
        ];
        let allowed = [
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            HeaderName::from_static("traceparent"),
            HeaderName::from_static("tracestate"),
            HeaderName::from_static("x-request-id"),
        ];
        CorsLayer::new()
            .allow_origin(self.allowed_origins.clone())
            .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
            .allow_headers(allowed)
            .expose_headers(exposed)
            .max_age(PREFLIGHT_MAX_AGE)
    }
}

/// Parses `CORS_ALLOWED_ORIGINS`: origins as browsers send them (RFC 6454, section 6.2).
///
/// # Errors
///
/// If one of them is not an origin.
pub fn origins(text: &str) -> Result<Vec<HeaderValue>, String> {
    text.split(',')
        .map(str::trim)
        .filter(|origin| !origin.is_empty())
        .map(|origin| {
            let uri: Option<http::Uri> = origin.parse().ok();
            let is_origin = uri.is_some_and(|uri| {
                matches!(uri.scheme_str(), Some("http" | "https"))
                    && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
                    && origin.matches('/').count() == 2
                    && uri.query().is_none()
            });
            let value = HeaderValue::from_str(&origin.to_ascii_lowercase()).ok();
            value
                .filter(|_| is_origin)
                .ok_or_else(|| format!("{origin} is not an origin such as https://app.example.com"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_scheme_host_and_port() {
        let read = origins("https://app.example.com, http://localhost:8080").unwrap();
        assert_eq!(read, ["https://app.example.com", "http://localhost:8080"]);
        assert_eq!(origins("").unwrap().len(), 0);
        for text in ["*", "null", "app.example.com", "https://a.b/", "https://u@a.b", "ftp://a.b"] {
            assert!(origins(text).is_err(), "{text}");
        }
    }
}

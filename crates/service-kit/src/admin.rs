//! The listener for operators (`ADMIN_ADDR`), which serves metrics and probes. It has a separate
//! address and separate limits, so that public clients cannot use up its connections.

use std::net::SocketAddr;

use axum::Router;

use crate::{edge::Edge, health::Health, metrics::Metrics, rest};

/// Parses `ADMIN_ADDR`: an address, or an empty text or `off` to disable the listener.
///
/// # Errors
///
/// If it is something else.
pub fn address(text: &str) -> Result<Option<SocketAddr>, String> {
    match text {
        "" | "off" => Ok(None),
        text => crate::settings::address(text).map(Some),
    }
}

/// The routes `/metrics`, `/livez`, `/readyz` and `/health`. This listener uses plaintext and allows
/// no cross-origin requests.
pub(crate) fn router(shared: &Edge, metrics: &Metrics, health: &Health) -> Router {
    let edge = Edge { allowed_origins: Vec::new(), tls: false, ..shared.clone() };
    rest::with_answers(&edge, metrics.router().merge(health.routes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listener_can_be_off() {
        assert_eq!(address(""), Ok(None));
        assert_eq!(address("off"), Ok(None));
        assert_eq!(address("127.0.0.1:1"), Ok(Some("127.0.0.1:1".parse().unwrap())));
        assert!(address("x").is_err());
    }
}

//! The listener for operators, `ADMIN_ADDR`: metrics and probes, on an address of their own, so that
//! no public client can take their place.

use std::net::SocketAddr;

use axum::Router;

use crate::{edge::Edge, health::Health, metrics::Metrics, rest};

/// Reads `ADMIN_ADDR`: an address, or nothing, or `off`, for no such listener.
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

/// `/metrics`, `/livez`, `/readyz` and `/health`. This listener speaks plaintext, and no page of
/// another origin may read it.
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

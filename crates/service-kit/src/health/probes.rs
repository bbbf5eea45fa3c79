//! The probes over HTTP: `/livez`, `/readyz` and `/health`.

use axum::{Json, Router, extract::State, response::IntoResponse, routing::get};
use http::StatusCode;
use serde::Serialize;

use super::{Health, Report, Status};

impl Health {
    /// The probes: `/livez`, `/readyz` and `/health`.
    pub fn routes(&self) -> Router {
        let live = self.report();
        Router::new()
            .route("/readyz", get(ready))
            .route("/health", get(ready))
            .with_state(self.clone())
            .route(
                "/livez",
                get(move || async move {
                    let Report { service, version, .. } = live;
                    Json(Live { status: Status::Ok, service, version })
                }),
            )
    }
}

#[derive(Serialize)]
struct Live {
    status: Status,
    service: &'static str,
    version: &'static str,
}

async fn ready(State(health): State<Health>) -> impl IntoResponse {
    let report = health.current().await;
    let status = match report.status {
        Status::Ok => StatusCode::OK,
        Status::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Verbatim, [(http::header::CACHE_CONTROL, "no-store")], Json(report))
}

/// Marks a response whose body must be kept although its status is that of an error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Verbatim;

impl axum::response::IntoResponseParts for Verbatim {
    type Error = std::convert::Infallible;

    fn into_response_parts(
        self,
        mut parts: axum::response::ResponseParts,
    ) -> Result<axum::response::ResponseParts, Self::Error> {
        parts.extensions_mut().insert(self);
        Ok(parts)
    }
}

//! REST: JSON in, JSON or a problem out.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use chrono::{DateTime, SecondsFormat, Utc};
use http::{StatusCode, header};
use serde::Serialize;
use service_kit::{
    api_docs, client_address::network, edge::Edge, error::ApiError, health::Health, json, rest,
};

use crate::{domain::Registration, error::Error, keys::JWKS_MAX_AGE, service::Service};

type Api = State<Arc<Service>>;

/// The routes of the auth service.
pub fn router(shared: &Edge, service: Arc<Service>, health: &Health) -> Router {
    let routes = Router::new()
        .route("/auth/register", post(register))
        .route("/auth/login", post(login))
        .route("/.well-known/jwks.json", get(jwks))
        .with_state(service)
        .merge(health.routes())
        .merge(api_docs::routes(include_str!("../../openapi.json")));
    rest::finish(shared, rest::single_parameters(routes))
}

#[derive(Serialize)]
struct Account {
    id: String,
    email: String,
    created_at: String,
}

async fn register(State(service): Api, request: Request) -> Result<Response, ApiError> {
    let network = network(request.extensions());
    let mut fields = json::read(request, &["application/json"]).await?;
    let mut faults = Vec::new();
    let email = fields.required_string("email", &mut faults);
    let password = fields.required_string("password", &mut faults);
    fields.finish(&mut faults);
    let registration = Registration::parse(
        email.as_deref(),
        password.as_deref(),
        service.password_rules(),
        &mut faults,
    );
    let registration = registration.filter(|_| faults.is_empty()).ok_or(Error::Invalid(faults))?;
    let account = service.register(registration, network).await?;
    let body = Account {
        id: account.id.to_string(),
        email: account.email.as_str().to_owned(),
        created_at: timestamp(account.created_at),
    };
    Ok((StatusCode::CREATED, rest::no_store(), Json(body)).into_response())
}

#[derive(Serialize)]
struct Token {
    access_token: String,
    token_type: &'static str,
    expires_in: u64,
}

async fn login(State(service): Api, request: Request) -> Result<Response, ApiError> {
    let network = network(request.extensions());
    let mut fields = json::read(request, &["application/json"]).await?;
    let mut faults = Vec::new();
    let email = fields.required_string("email", &mut faults);
    let password = fields.required_string("password", &mut faults);
    fields.finish(&mut faults);
    let credentials = email.zip(password).filter(|_| faults.is_empty());
    let (email, password) = credentials.ok_or(Error::Invalid(faults))?;
    let issued = service.login(&email, &password, network).await?;
    let body = Token {
        access_token: issued.access_token,
        token_type: "Bearer",
        expires_in: issued.expires_in,
    };
    Ok((rest::no_store(), Json(body)).into_response())
}

async fn jwks(State(service): Api) -> Result<Response, ApiError> {
    let ring = service.keys().ok_or(Error::DatabaseUnavailable)?;
    let cache = format!("public, max-age={JWKS_MAX_AGE}");
    Ok(([(header::CACHE_CONTROL, cache)], Json(ring.verification().to_jwks())).into_response())
}

/// RFC 3339 in UTC, to the microsecond.
fn timestamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

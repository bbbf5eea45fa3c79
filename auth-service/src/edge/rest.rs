//! The REST edge: JSON requests, and JSON or problem responses (RFC 9457).

mod credentials;
mod sessions;
mod well_known;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use http::StatusCode;
use serde::Serialize;
use service_kit::{
    api_docs,
    edge::Edge,
    error::ApiError,
    health::Health,
    json::{self, Fields},
    rest,
};

use crate::{
    code::CATALOGUE,
    domain::{Registration, timestamp},
    edge,
    error::Error,
    pages,
    service::{Credentials, Issued, Service},
};

type Api = State<Arc<Service>>;

/// Reads the members of a body. No path under `/auth` has query parameters; handlers without a body
/// check that themselves. Either comes after authentication.
async fn members(request: Request) -> Result<Fields, ApiError> {
    rest::no_parameters(request.uri())?;
    json::read(request, &["application/json"]).await
}

/// The routes of the auth service.
pub fn router(shared: &Edge, service: Arc<Service>, health: &Health) -> Router {
    let routes = Router::new()
        .route("/auth/register", post(register))
        .route("/auth/login", post(login))
        .route("/auth/refresh", post(sessions::refresh))
        .route("/auth/logout", post(sessions::logout))
        .route("/auth/sessions", get(sessions::list).delete(sessions::end_all))
        .route("/auth/sessions/{id}", delete(sessions::end))
        .merge(credentials::routes())
        .with_state(Arc::clone(&service));
    let others = Router::new()
        .route("/.well-known/jwks.json", get(well_known::jwks))
        .route("/.well-known/revocations", get(well_known::revocations))
        .with_state(Arc::clone(&service))
        .merge(health.routes())
        .merge(api_docs::routes(include_str!("../../openapi.json"), api_docs::Page::default()));
    // Without mail no links are sent, so their pages are not served.
    let others = match service.mail() {
        Ok(_) => others.merge(pages::routes()),
        Err(_) => others,
    };
    rest::finish(shared, CATALOGUE, routes.merge(rest::single_parameters(others)))
}

#[derive(Serialize)]
struct Account {
    id: String,
    email: String,
    created_at: String,
}

async fn register(State(service): Api, request: Request) -> Result<Response, ApiError> {
    service.may_register()?;
    let by = edge::requester(request.extensions());
    let mut fields = members(request).await?;
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
    let account = service.register(registration, &by).await?;
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
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token_expires_in: Option<u64>,
}

impl From<Issued> for Token {
    fn from(issued: Issued) -> Self {
        let (token, expires_in) =
            issued.refresh.map(|refresh| (refresh.token, refresh.expires_in)).unzip();
        Self {
            access_token: issued.access_token,
            token_type: "Bearer",
            expires_in: issued.expires_in,
            refresh_token: token,
            refresh_token_expires_in: expires_in,
        }
    }
}

async fn login(State(service): Api, request: Request) -> Result<Response, ApiError> {
    let by = edge::requester(request.extensions());
    let agent = edge::user_agent(request.headers());
    let mut fields = members(request).await?;
    let mut faults = Vec::new();
    let email = fields.required_string("email", &mut faults);
    let password = fields.required_string("password", &mut faults);
    let offline_access = fields.optional_bool("offline_access", &mut faults).unwrap_or(false);
    fields.finish(&mut faults);
    faults.extend(edge::offline_access_fault(&service, offline_access));
    let credentials = email.zip(password).filter(|_| faults.is_empty());
    let (email, password) = credentials.ok_or(Error::Invalid(faults))?;
    let credentials = Credentials {
        email: &email,
        password: &password,
        offline_access: offline_access.then_some(&agent),
    };
    let issued = service.login(credentials, &by).await?;
    Ok((rest::no_store(), Json(Token::from(issued))).into_response())
}

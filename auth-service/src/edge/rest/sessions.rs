//! Sessions over REST.

use axum::{
    Json,
    extract::{Path, Request, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde::Serialize;
use service_kit::{error::ApiError, rest};

use super::{Api, Token, members};
use crate::{domain::timestamp, edge, error::Error};

/// Reads the body of a refresh or a logout.
async fn refresh_token(request: Request) -> Result<String, ApiError> {
    let mut fields = members(request).await?;
    let mut faults = Vec::new();
    let token = fields.required_string("refresh_token", &mut faults);
    fields.finish(&mut faults);
    Ok(token.filter(|_| faults.is_empty()).ok_or(Error::Invalid(faults))?)
}

pub(super) async fn refresh(State(service): Api, request: Request) -> Result<Response, ApiError> {
    let by = edge::requester(request.extensions());
    let token = refresh_token(request).await?;
    let issued = service.refresh(&token, &by).await?;
    Ok((rest::no_store(), Json(Token::from(issued))).into_response())
}

pub(super) async fn logout(State(service): Api, request: Request) -> Result<Response, ApiError> {
    let by = edge::requester(request.extensions());
    let token = refresh_token(request).await?;
    service.logout(&token, &by).await?;
    Ok((StatusCode::NO_CONTENT, rest::no_store()).into_response())
}

#[derive(Serialize)]
struct Sessions {
    sessions: Vec<Session>,
}

#[derive(Serialize)]
struct Session {
    id: String,
    created_at: String,
    last_used_at: String,
    expires_at: String,
    network: String,
    user_agent: String,
    current: bool,
}

pub(super) async fn list(State(service): Api, request: Request) -> Result<Response, ApiError> {
    let caller = service.authenticate(request.headers()).await?;
    rest::no_parameters(request.uri())?;
    let sessions = service.list_sessions(&caller).await?;
    let sessions = sessions.into_iter().map(|session| Session {
        current: caller.session == Some(session.id),
        id: session.id.to_string(),
        created_at: timestamp(session.created_at),
        last_used_at: timestamp(session.last_used_at),
        expires_at: timestamp(session.expires_at),
        network: session.network,
        user_agent: session.user_agent,
    });
    Ok((rest::no_store(), Json(Sessions { sessions: sessions.collect() })).into_response())
}

pub(super) async fn end(
    State(service): Api,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let caller = service.authenticate(request.headers()).await?;
    rest::no_parameters(request.uri())?;
    // A path segment that cannot be decoded is not a UUID, so it gets the same error.
    let id = edge::id(&id.map(|Path(id)| id).unwrap_or_default())?;
    service.end_session(&caller, id, &edge::requester(request.extensions())).await?;
    Ok((StatusCode::NO_CONTENT, rest::no_store()).into_response())
}

pub(super) async fn end_all(State(service): Api, request: Request) -> Result<Response, ApiError> {
    let caller = service.authenticate(request.headers()).await?;
    rest::no_parameters(request.uri())?;
    service.end_all_sessions(&caller, &edge::requester(request.extensions())).await?;
    Ok((StatusCode::NO_CONTENT, rest::no_store()).into_response())
}

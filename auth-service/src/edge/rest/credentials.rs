//! Passwords, email addresses and the deletion of accounts.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
    routing::{post, put},
};
use http::StatusCode;
use service_kit::{
    error::{ApiError, Fault},
    json::{Fields, fault},
    rest,
};

use super::{Api, Token, members};
use crate::{domain::Email, edge, error::Error, service::Service};

/// The routes.
pub(super) fn routes() -> Router<Arc<Service>> {
    Router::new()
        .route("/auth/password", put(change_password))
        .route("/auth/password/forgot", post(forgot_password))
        .route("/auth/password/reset", post(reset_password))
        .route("/auth/email", put(change_email))
        .route("/auth/email/verification", post(send_verification))
        .route("/auth/email/verify", post(verify_email))
        .route("/auth/account/delete", post(delete_account))
}

/// The members of a body, and the faults found so far.
struct Body {
    fields: Fields,
    faults: Vec<Fault>,
}

impl Body {
    async fn read(request: Request) -> Result<Self, ApiError> {
        let fields = members(request).await?;
        Ok(Self { fields, faults: Vec::new() })
    }

    fn string(&mut self, name: &'static str) -> Option<String> {
        self.fields.required_string(name, &mut self.faults)
    }

    fn email(&mut self) -> Option<Email> {
        let text = self.string("email")?;
        Email::parse(&text)
            .map_err(|(code, rule)| self.faults.push(fault("email", code, rule)))
            .ok()
    }

    /// Returns `members` if none is missing or invalid and the body has no unknown one.
    fn finish<T>(mut self, members: Option<T>) -> Result<T, Error> {
        self.fields.finish(&mut self.faults);
        members.filter(|_| self.faults.is_empty()).ok_or(Error::Invalid(self.faults))
    }
}

async fn change_password(State(service): Api, request: Request) -> Result<Response, ApiError> {
    let caller = service.authenticate(request.headers()).await?;
    let by = edge::requester(request.extensions());
    let mut body = Body::read(request).await?;
    let (current, new) = (body.string("current_password"), body.string("new_password"));
    let (current, new) = body.finish(current.zip(new))?;
    let issued = service.change_password(&caller, &current, &new, &by).await?;
    Ok((rest::no_store(), Json(Token::from(issued))).into_response())
}

async fn forgot_password(State(service): Api, request: Request) -> Result<Response, ApiError> {
    service.mail()?;
    let by = edge::requester(request.extensions());
    let mut body = Body::read(request).await?;
    let email = body.email();
    let email = body.finish(email)?;
    service.forgot_password(&email, &by).await?;
    Ok(accepted())
}

async fn reset_password(State(service): Api, request: Request) -> Result<Response, ApiError> {
    service.mail()?;
    let by = edge::requester(request.extensions());
    let mut body = Body::read(request).await?;
    let (token, new) = (body.string("token"), body.string("new_password"));
    let (token, new) = body.finish(token.zip(new))?;
    service.reset_password(&token, &new, &by).await?;
    Ok(done())
}

async fn change_email(State(service): Api, request: Request) -> Result<Response, ApiError> {
    let caller = service.authenticate(request.headers()).await?;
    service.mail()?;
    let by = edge::requester(request.extensions());
    let mut body = Body::read(request).await?;
    let (email, current) = (body.email(), body.string("current_password"));
    let (email, current) = body.finish(email.zip(current))?;
    service.change_email(&caller, &email, &current, &by).await?;
    Ok(accepted())
}

async fn send_verification(State(service): Api, request: Request) -> Result<Response, ApiError> {
    service.mail()?;
    let by = edge::requester(request.extensions());
    let mut body = Body::read(request).await?;
    let email = body.email();
    let email = body.finish(email)?;
    service.send_verification(&email, &by).await?;
    Ok(accepted())
}

async fn verify_email(State(service): Api, request: Request) -> Result<Response, ApiError> {
    service.mail()?;
    let by = edge::requester(request.extensions());
    let mut body = Body::read(request).await?;
    let token = body.string("token");
    let token = body.finish(token)?;
    service.verify_email(&token, &by).await?;
    Ok(done())
}

async fn delete_account(State(service): Api, request: Request) -> Result<Response, ApiError> {
    let caller = service.authenticate(request.headers()).await?;
    let by = edge::requester(request.extensions());
    let mut body = Body::read(request).await?;
    let current = body.string("current_password");
    let current = body.finish(current)?;
    service.delete_own_account(&caller, &current, &by).await?;
    Ok(done())
}

fn accepted() -> Response {
    (StatusCode::ACCEPTED, rest::no_store()).into_response()
}

fn done() -> Response {
    (StatusCode::NO_CONTENT, rest::no_store()).into_response()
}

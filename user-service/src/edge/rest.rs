//! REST: JSON in, JSON or a problem out.

pub mod body;

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    extract::{Path, RawQuery, Request, State, rejection::PathRejection},
    middleware::Next,
    response::{IntoResponse, Response},
    routing::{any, get},
};
use chrono::{DateTime, SecondsFormat, Utc};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use service_kit::{
    api_docs, code::Code, context::RequestContext, edge::Edge, error::ApiError, health::Health,
    json, rest,
};
use token_verifier::Verifier;

use self::body::Body;
use super::{authenticate, fault, origin, refuse};
use crate::{
    domain::{Caller, PageSize, Profile, UserId},
    error::Error,
    etag::Preconditions,
    service::{Found, Page, Service},
};

const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// The routes of the user service.
pub fn router(shared: &Edge, service: Arc<Service>, verifier: Verifier, health: &Health) -> Router {
    let profile = get(read).put(replace).patch(patch).delete(delete);
    let routes = Router::new()
        .route("/users", get(list))
        .route("/users/", any(nothing))
        .route("/users/{id}", profile)
        .method_not_allowed_fallback(wrong_method)
        .nest("/users", Router::new().fallback(nothing))
        .with_state(Arc::clone(&service))
        .layer(axum::middleware::from_fn_with_state(service, single_parameters))
        // What does not exist is told to callers with a token only.
        .layer(axum::middleware::from_fn_with_state(verifier, admit))
        .merge(rest::single_parameters(
            health.routes().merge(api_docs::routes(include_str!("../../openapi.json"))),
        ));
    rest::finish(shared, routes)
}

async fn admit(
    State(verifier): State<Verifier>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let caller = authenticate(&verifier, request.headers()).await?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// A refused request is a request too: it makes the caller's profile.
async fn single_parameters(
    State(service): Api,
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    match rest::repeated_parameter(request.uri()) {
        None => Ok(next.run(request).await),
        Some(error) => {
            service.admit(&caller).await?;
            Err(error)
        }
    }
}

type Api = State<Arc<Service>>;
type Id = Result<Path<String>, PathRejection>;

/// What is common to the requests for one profile.
async fn target(
    service: &Service,
    caller: &Caller,
    id: Id,
    headers: &HeaderMap,
) -> Result<(UserId, Preconditions), ApiError> {
    // What cannot be decoded is no UUID either.
    let id = id.map(|Path(id)| id).unwrap_or_default();
    let parsed = UserId::parse(&id)
        .map_err(|broken| Error::Invalid(vec![fault("/id", broken)]))
        .and_then(|id| Ok((id, preconditions(headers)?)));
    match parsed {
        Ok(parsed) => Ok(parsed),
        Err(error) => Err(refuse(service, caller, error).await),
    }
}

fn preconditions(headers: &HeaderMap) -> Result<Preconditions, Error> {
    let list = |name: HeaderName| {
        // Several lines are one list (RFC 9110, section 5.3). What is not ASCII is in no tag of ours.
        let lines: Vec<_> = headers
            .get_all(name)
            .iter()
            .map(|line| String::from_utf8_lossy(line.as_bytes()))
            .collect();
        (!lines.is_empty()).then(|| lines.join(","))
    };
    let (if_match, if_none_match) = (list(header::IF_MATCH), list(header::IF_NONE_MATCH));
    Preconditions::parse(if_match.as_deref(), if_none_match.as_deref())
        .map_err(|_| Error::Malformed("If-Match or If-None-Match is not a list of entity tags"))
}

async fn read(
    State(service): Api,
    Extension(caller): Extension<Caller>,
    id: Id,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (id, preconditions) = target(&service, &caller, id, &headers).await?;
    match service.get(&caller, id, &preconditions).await? {
        Found::Profile(profile) => Ok(answer(&profile)),
        Found::NotModified(etag) => {
            Ok((StatusCode::NOT_MODIFIED, rest::no_store(), etag_field(&etag)).into_response())
        }
    }
}

async fn replace(
    State(service): Api,
    Extension(caller): Extension<Caller>,
    id: Id,
    request: Request,
) -> Result<Response, ApiError> {
    change(&service, &caller, id, request, &[JSON], Body::put).await
}

async fn patch(
    State(service): Api,
    Extension(caller): Extension<Caller>,
    id: Id,
    request: Request,
) -> Result<Response, ApiError> {
    let changed = change(&service, &caller, id, request, &[MERGE_PATCH, JSON], Body::patch).await;
    changed.map_err(|error| match error.code() {
        // RFC 5789, section 2.2.
        Code::UnsupportedMediaType => error.header(
            ACCEPT_PATCH,
            HeaderValue::from_static("application/merge-patch+json, application/json"),
        ),
        _ => error,
    })
}

async fn change(
    service: &Service,
    caller: &Caller,
    id: Id,
    request: Request,
    media_types: &[&str],
    read: fn(json::Fields) -> Body,
) -> Result<Response, ApiError> {
    let (id, preconditions) = target(service, caller, id, request.headers()).await?;
    let present = service.authorize(caller, id, &preconditions).await?;
    let body = read(json::read(request, media_types).await?);
    let changed =
        service.update(caller, present, &preconditions, |present| body.against(present)).await?;
    Ok(answer(&changed))
}

async fn delete(
    State(service): Api,
    Extension(caller): Extension<Caller>,
    Extension(context): Extension<RequestContext>,
    id: Id,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let (id, preconditions) = target(&service, &caller, id, &headers).await?;
    service.delete(&caller, id, &preconditions, &origin(&context)).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Serialize)]
struct ListBody<'a> {
    users: Vec<ProfileBody<'a>>,
    next_page_token: &'a str,
}

async fn list(
    State(service): Api,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let (mut page_size, mut page_token) = ("0".to_owned(), String::new());
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match name.as_ref() {
            "page_size" => page_size = value.into_owned(),
            "page_token" => page_token = value.into_owned(),
            _ => {}
        }
    }
    let size = match PageSize::parse(&page_size) {
        Ok(size) => size,
        Err(broken) => {
            let error = Error::Invalid(vec![fault("/page_size", broken)]);
            return Err(refuse(&service, &caller, error).await);
        }
    };
    let Page { profiles, next_page_token } = service.list(&caller, size, &page_token).await?;
    let body = ListBody {
        users: profiles.iter().map(ProfileBody::from).collect(),
        next_page_token: &next_page_token,
    };
    let mut response = (rest::no_store(), Json(body)).into_response();
    if !next_page_token.is_empty() {
        // RFC 8288. The alphabet of a token needs no escapes in a URL.
        let size = size.get();
        let next = format!(r#"</users?page_size={size}&page_token={next_page_token}>; rel="next""#);
        if let Ok(next) = HeaderValue::try_from(next) {
            response.headers_mut().insert(header::LINK, next);
        }
    }
    Ok(response)
}

async fn nothing(State(service): Api, Extension(caller): Extension<Caller>) -> ApiError {
    let error = ApiError::new(Code::NotFound, "there is nothing at this path");
    refuse(&service, &caller, error).await
}

async fn wrong_method(State(service): Api, Extension(caller): Extension<Caller>) -> ApiError {
    let error = ApiError::new(Code::MethodNotAllowed, "this path does not have this method");
    refuse(&service, &caller, error).await
}

#[derive(Serialize)]
struct ProfileBody<'a> {
    id: String,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    bio: &'a str,
    created_at: String,
    updated_at: String,
}

impl<'a> From<&'a Profile> for ProfileBody<'a> {
    fn from(profile: &'a Profile) -> Self {
        Self {
            id: profile.id.to_string(),
            name: &profile.name,
            email: profile.email.as_deref(),
            bio: &profile.bio,
            created_at: timestamp(profile.created_at),
            updated_at: timestamp(profile.updated_at),
        }
    }
}

fn answer(profile: &Profile) -> Response {
    let body = Json(ProfileBody::from(profile));
    (rest::no_store(), etag_field(&profile.etag()), body).into_response()
}

fn etag_field(etag: &str) -> HeaderMap {
    let field = HeaderValue::from_str(etag).map(|value| (header::ETAG, value));
    field.into_iter().collect()
}

/// RFC 3339 in UTC, to the microsecond.
fn timestamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

//! The REST edge: JSON requests, and JSON or problem responses (RFC 9457).

pub mod body;

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    extract::{Path, Request, State, rejection::PathRejection},
    middleware::Next,
    response::{IntoResponse, Response},
    routing::{any, get},
};
use chrono::{DateTime, SecondsFormat, Utc};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use serde::Serialize;
use service_kit::{
    api_docs, context::RequestContext, edge::Edge, error::ApiError, health::Health, json,
    listen::AnswerMemory, rest,
};
use token_verifier::Verifier;

use self::body::Body;
use super::{authenticate, fault, origin, page_bytes};
use crate::{
    code::{self, CATALOGUE},
    domain::{PageSize, Profile, Target},
    error::Error,
    etag::Preconditions,
    service::{Page, Service, Visit},
};

const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// The routes of the user service.
pub fn router(
    shared: &Edge,
    service: Arc<Service>,
    verifier: Verifier,
    health: &Health,
    page: api_docs::Page,
) -> Router {
    let profile = get(read).put(replace).patch(patch).delete(delete);
    let users = Router::new()
        .route("/users", get(list))
        .route("/users/", any(nothing))
        .route("/users/{id}", profile)
        .method_not_allowed_fallback(wrong_method)
        .nest("/users", Router::new().fallback(nothing))
        .with_state(Arc::clone(&service));
    // Only authenticated callers learn that a path does not exist.
    let visited = users.layer(axum::middleware::from_fn_with_state(
        Arc::new(VisitState { service, verifier }),
        visit,
    ));
    let docs = api_docs::routes(include_str!("../../openapi.json"), page);
    let others = health.routes().merge(docs);
    rest::finish(shared, CATALOGUE, visited.merge(rest::single_parameters(others)))
}

/// What [`visit`] needs.
struct VisitState {
    service: Arc<Service>,
    verifier: Verifier,
}

/// Authenticates the caller before anything else is checked, and counts every request as a visit.
async fn visit(
    State(state): State<Arc<VisitState>>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let VisitState { service, verifier } = &*state;
    let caller = authenticate(service, verifier, request.headers()).await?;
    let visit = Arc::new(Visit::new(caller));
    let uri = request.uri();
    let response = match rest::refused_parameters(uri, known_parameters(uri.path())) {
        Some(error) => error.into_response(),
        None => {
            request.extensions_mut().insert(Arc::clone(&visit));
            next.run(request).await
        }
    };
    service.conclude(&visit).await?;
    Ok(response)
}

type Api = State<Arc<Service>>;
type By = Extension<Arc<Visit>>;
type Id = Result<Path<String>, PathRejection>;

/// Parses what all requests for one profile have in common.
fn target(id: Id, headers: &HeaderMap) -> Result<(Target, Preconditions), Error> {
    // A path segment that cannot be decoded is not a UUID, so it gets the same error.
    let id = id.map(|Path(id)| id).unwrap_or_default();
    let target = Target::parse(&id).map_err(|broken| Error::Invalid(vec![fault("/id", broken)]))?;
    Ok((target, preconditions(headers)?))
}

fn preconditions(headers: &HeaderMap) -> Result<Preconditions, Error> {
    let list = |name: HeaderName| {
        // Several header lines are one list (RFC 9110, section 5.3). A line that is not ASCII cannot
        // contain one of our tags.
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
    Extension(visit): By,
    id: Id,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (target, preconditions) = target(id, &headers)?;
    let profile = service.get(&visit, target).await?;
    let etag = profile.etag();
    if !preconditions.matches(&etag) {
        return Err(Error::PreconditionFailed.into());
    }
    if preconditions.excludes(&etag) {
        let etag: HeaderMap = etag_field(&etag).into_iter().collect();
        return Ok((StatusCode::NOT_MODIFIED, rest::no_store(), etag).into_response());
    }
    Ok(answer(&profile))
}

async fn replace(
    State(service): Api,
    Extension(visit): By,
    id: Id,
    request: Request,
) -> Result<Response, ApiError> {
    change(&service, &visit, id, request, &[JSON], Body::put).await
}

async fn patch(
    State(service): Api,
    Extension(visit): By,
    id: Id,
    request: Request,
) -> Result<Response, ApiError> {
    let changed = change(&service, &visit, id, request, &[MERGE_PATCH, JSON], Body::patch).await;
    changed.map_err(|error| {
        if error.code() != code::UNSUPPORTED_MEDIA_TYPE {
            return error;
        }
        // RFC 5789, section 2.2.
        let accepted = "application/merge-patch+json, application/json";
        error.header(ACCEPT_PATCH, HeaderValue::from_static(accepted))
    })
}

async fn change(
    service: &Service,
    visit: &Visit,
    id: Id,
    request: Request,
    media_types: &[&str],
    read: fn(json::Fields) -> Body,
) -> Result<Response, ApiError> {
    let (target, preconditions) = target(id, request.headers())?;
    let present = service.authorize(visit, target, &preconditions).await?;
    let body = read(json::read(request, media_types).await?);
    let changed =
        service.update(visit, present, &preconditions, |present| body.against(present)).await?;
    Ok(answer(&changed))
}

async fn delete(
    State(service): Api,
    Extension(visit): By,
    Extension(context): Extension<Arc<RequestContext>>,
    id: Id,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let (target, preconditions) = target(id, &headers)?;
    service.delete(&visit, target, &preconditions, &origin(&context)).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Serialize)]
struct ListBody<'a> {
    users: Vec<ProfileBody<'a>>,
    next_page_token: &'a str,
}

/// The query parameters that a path accepts.
const LIST_PARAMETERS: [&str; 2] = ["page_size", "page_token"];

/// The query parameters that a path accepts. Those of the list are checked together with their values.
fn known_parameters(path: &str) -> Option<&'static [&'static str]> {
    if path == "/users" { None } else { Some(&[]) }
}

async fn list(
    State(service): Api,
    Extension(visit): By,
    uri: Uri,
    extensions: Extensions,
) -> Result<Response, ApiError> {
    let (mut page_size, mut page_token) = ("0".to_owned(), String::new());
    for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        match name.as_ref() {
            "page_size" => page_size = value.into_owned(),
            "page_token" => page_token = value.into_owned(),
            _ => {}
        }
    }
    let mut faults = rest::unknown_parameters(&uri, &LIST_PARAMETERS);
    let size = PageSize::parse(&page_size);
    if let Err(broken) = size {
        faults.push(fault("/page_size", broken));
    }
    let (Ok(size), true) = (size, faults.is_empty()) else {
        return Err(Error::Invalid(faults).into());
    };
    let reservation = AnswerMemory::of(&extensions).reserve(page_bytes(size)).await?;
    let Page { profiles, next_page_token } = service.list(&visit, size, &page_token).await?;
    let body = ListBody {
        users: profiles.iter().map(ProfileBody::from).collect(),
        next_page_token: &next_page_token,
    };
    let mut response = (rest::no_store(), Json(body)).into_response();
    if let Some(reservation) = reservation {
        response.extensions_mut().insert(reservation);
    }
    if !next_page_token.is_empty() {
        // The `Link` header (RFC 8288). A page token is URL-safe, so it needs no escaping.
        let size = size.get();
        let next = format!(r#"</users?page_size={size}&page_token={next_page_token}>; rel="next""#);
        if let Ok(next) = HeaderValue::try_from(next) {
            response.headers_mut().insert(header::LINK, next);
        }
    }
    Ok(response)
}

async fn nothing() -> ApiError {
    ApiError::new(code::NOT_FOUND, "there is nothing at this path")
}

async fn wrong_method() -> ApiError {
    ApiError::new(code::METHOD_NOT_ALLOWED, "this path does not have this method")
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
    let mut response = Json(ProfileBody::from(profile)).into_response();
    let headers = response.headers_mut();
    headers.extend(rest::no_store());
    headers.extend(etag_field(&profile.etag()));
    response
}

fn etag_field(etag: &str) -> Option<(HeaderName, HeaderValue)> {
    HeaderValue::from_str(etag).ok().map(|value| (header::ETAG, value))
}

/// Formats a time by RFC 3339 in UTC, to the microsecond.
fn timestamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

//! The documents that token verifiers fetch: the keys and the revocations.

use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Extensions, HeaderMap, HeaderValue, StatusCode, Uri, header};
use service_kit::{access, error::ApiError, listen::AnswerMemory};

use super::Api;
use crate::{error::Error, keys::JWKS_MAX_AGE, service::REVOCATIONS_PAGE_BYTES};

/// How long caches may keep a page of the feed. It is short, because a revocation must reach
/// verifiers within five seconds.
const REVOCATIONS_CACHE: HeaderValue = HeaderValue::from_static("public, max-age=2");

pub(super) async fn jwks(State(service): Api) -> Result<Response, ApiError> {
    let ring = service.keys().ok_or_else(|| {
        // A verifier without keys tries again several times a second.
        access::note_poll();
        Error::DatabaseUnavailable
    })?;
    let cache = format!("public, max-age={JWKS_MAX_AGE}");
    Ok(([(header::CACHE_CONTROL, cache)], Json(ring.verification().to_jwks())).into_response())
}

pub(super) async fn revocations(
    State(service): Api,
    uri: Uri,
    headers: HeaderMap,
    extensions: Extensions,
) -> Result<Response, ApiError> {
    access::note_poll();
    let query = uri.query().unwrap_or_default().as_bytes();
    let after = form_urlencoded::parse(query).find(|(name, _)| name == "after");
    // Reserve memory for the page first: clients are not authenticated and may read the response
    // slowly or never.
    let reservation = AnswerMemory::of(&extensions).reserve(REVOCATIONS_PAGE_BYTES).await?;
    let page = service.revocations(after.as_ref().map(|(_, cursor)| cursor.as_ref())).await?;
    let body = serde_json::to_vec(&page).map_err(|_| Error::Internal)?;
    let tag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(&digest(&SHA256, &body).as_ref()[..18]));
    let fields = [
        (header::CACHE_CONTROL, REVOCATIONS_CACHE),
        (header::ETAG, HeaderValue::from_str(&tag).map_err(|_| Error::Internal)?),
    ];
    if names(&headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, fields).into_response());
    }
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    let mut response = (fields, json, body).into_response();
    if let Some(reservation) = reservation {
        response.extensions_mut().insert(reservation);
    }
    Ok(response)
}

/// Whether `If-None-Match` contains this tag (RFC 9110, section 13.1.2: weak comparison).
fn names(headers: &HeaderMap, tag: &str) -> bool {
    let lines = headers.get_all(header::IF_NONE_MATCH).iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .any(|named| named == "*" || named.strip_prefix("W/").unwrap_or(named) == tag)
}

//! The pages that a person sees who follows a link in a mail: `/account/reset-password` and
//! `/account/verify-email`. They are static. The link's secret is in the fragment of the address, which
//! browsers send to nobody; the script reads it there, waits for a click, and sends it to the API. So
//! fetching a page, or running its script, uses no link up: scanners of mail do both.

use axum::{Router, response::IntoResponse, routing::get};
use http::{HeaderName, HeaderValue, header};

/// What a page may do: load its own files and call its own service. Nothing inline, no frame around it,
/// and a form that works only through the script, so that a password is never part of an address.
const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// Headers of every answer here. Nothing is kept, so that an update of the service is one of the pages.
const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
];

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const CSS: HeaderValue = HeaderValue::from_static("text/css; charset=utf-8");
const JAVASCRIPT: HeaderValue = HeaderValue::from_static("text/javascript; charset=utf-8");

/// The routes. Without mail there is no link to follow, and a service adds none of them.
pub fn routes() -> Router {
    let file = |content_type: HeaderValue, text: &'static str| {
        get(async move || (HEADERS, [(header::CONTENT_TYPE, content_type)], text).into_response())
    };
    Router::new()
        .route("/account/reset-password", file(HTML, include_str!("pages/reset-password.html")))
        .route("/account/verify-email", file(HTML, include_str!("pages/verify-email.html")))
        .route("/account/pages/page.css", file(CSS, include_str!("pages/page.css")))
        .route("/account/pages/page.js", file(JAVASCRIPT, include_str!("pages/page.js")))
}

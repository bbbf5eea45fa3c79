//! The pages behind the links in mails: `/account/reset-password` and `/account/verify-email`. They are
//! static. The secret of the link is in the fragment of the URL, which browsers do not send to the
//! server. A script reads it, waits for a click, and sends it to the API. So loading a page or running
//! its script, as mail scanners do, does not use up the link.

use axum::{Router, response::IntoResponse, routing::get};
use http::{HeaderName, HeaderValue, header};

/// Pages may load their own files and call their own service. Inline code, frames and native form
/// submission are forbidden; without the last rule, a password could end up in a URL if the script
/// fails.
const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The headers of all responses here. Caching is off, so that an update of the service updates the
/// pages.
const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
];

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const CSS: HeaderValue = HeaderValue::from_static("text/css; charset=utf-8");
const JAVASCRIPT: HeaderValue = HeaderValue::from_static("text/javascript; charset=utf-8");

/// The routes. They are added only if mail is on, because without mail there are no links.
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

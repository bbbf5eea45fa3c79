//! The documentation of a service's REST edge: `GET /openapi.json`, and the page `GET /docs`, which shows
//! it and can send requests. `GET /` redirects to the page. All its files are in the binary.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse as _, Redirect, Response},
    routing::get,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::{code, error::ApiError};

/// The page may load its own files and send requests to its own service. Inline code, evaluated code and
/// frames are forbidden. The style sheet contains icons as `data:` URLs.
const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

const PAGE: Asset = Asset::plain(HTML, include_bytes!("../assets/docs.html"));
const START: Asset = Asset::plain(JAVASCRIPT, include_bytes!("../assets/start.js"));
const ACCESS: Asset = Asset::plain(JAVASCRIPT, include_bytes!("../assets/access.js"));
const ERRORS_STYLE: Asset = Asset::plain(CSS, include_bytes!("../assets/errors.css"));
const COLOURS: Asset = Asset::plain(CSS, include_bytes!("../assets/docs.css"));
const UI: Asset =
    Asset::gzip(JAVASCRIPT, include_bytes!("../assets/swagger-ui/swagger-ui-bundle.js.gz"));
const STYLE: Asset = Asset::gzip(CSS, include_bytes!("../assets/swagger-ui/swagger-ui.css.gz"));

/// The configuration of the page.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The page on which people can get an access token, if this service does not issue tokens itself.
    token_page: Option<String>,
}

impl Page {
    /// The configuration for tokens that are issued by `issuer`. By convention the issuer is the URL of
    /// its service (RFC 8414, section 2); otherwise there is no page to link to.
    ///
    /// The page only links there. It does not accept passwords itself, because this service must never see
    /// them.
    #[must_use]
    pub fn of_tokens_from(issuer: Option<&str>) -> Self {
        let is_address = |issuer: &&str| {
            let uri: Option<http::Uri> = issuer.parse().ok();
            uri.is_some_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")))
        };
        let token_page = issuer
            .filter(is_address)
            .map(|issuer| format!("{}/docs", issuer.trim_end_matches('/')));
        Self { token_page }
    }
}

/// The routes for `openapi`, an OpenAPI document in JSON. They need no token.
pub fn routes(openapi: &'static str, page_settings: Page) -> Router {
    let document = Asset::plain("application/json", openapi.as_bytes());
    Router::new()
        .route(
            "/openapi.json",
            get(move |headers: HeaderMap| async move { document.answer(&headers) }),
        )
        .route("/", get(async || Redirect::temporary("/docs")))
        .route("/docs/", get(async || Redirect::permanent("/docs")))
        .route("/docs", get(page))
        .route("/docs/{file}", get(file))
        .with_state(page_settings)
}

async fn page(headers: HeaderMap) -> Response {
    let mut response = PAGE.answer(&headers);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    response
}

async fn file(
    State(settings): State<Page>,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Response {
    // A path that cannot be decoded is not the name of a file.
    let asset = match name.as_deref().map(String::as_str) {
        Ok("start.js") => START,
        Ok("access.js") => ACCESS,
        Ok("docs.css") => COLOURS,
        Ok("swagger-ui-bundle.js") => UI,
        Ok("swagger-ui.css") => STYLE,
        Ok("errors.css") => ERRORS_STYLE,
        Ok("page.json") => {
            let settings = serde_json::json!({ "token_page": settings.token_page }).to_string();
            return answer(&headers, "application/json", settings.into());
        }
        _ => {
            return ApiError::new(code::NOT_FOUND, "there is nothing at this path").into_response();
        }
    };
    asset.answer(&headers)
}

/// An embedded file.
#[derive(Clone, Copy)]
struct Asset {
    content_type: &'static str,
    gzip: bool,
    bytes: &'static [u8],
}

impl Asset {
    const fn plain(content_type: &'static str, bytes: &'static [u8]) -> Self {
        Self { content_type, gzip: false, bytes }
    }

    /// A file that is stored and sent compressed, which every browser supports.
    const fn gzip(content_type: &'static str, bytes: &'static [u8]) -> Self {
        Self { content_type, gzip: true, bytes }
    }

    fn answer(self, request: &HeaderMap) -> Response {
        let mut response = answer(request, self.content_type, Bytes::from_static(self.bytes));
        if self.gzip && response.status() == StatusCode::OK {
            response
                .headers_mut()
                .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

/// The content, or 304 if the client already has it. Caches must revalidate each time, so that updates are
/// visible at once.
fn answer(request: &HeaderMap, content_type: &'static str, bytes: Bytes) -> Response {
    let etag = etag(&bytes);
    let known = request
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
        // Weak comparison (RFC 9110, section 13.1.2).
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag);
    let caching = [(header::ETAG, etag.as_str()), (header::CACHE_CONTROL, "no-cache")];
    if known {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    (caching, [(header::CONTENT_TYPE, content_type)], bytes).into_response()
}

/// A non-cryptographic hash is sufficient, because nobody can choose the bytes without choosing the whole
/// page. It may differ between compiler versions, which only costs another download.
fn etag(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_is_led_to() {
        let page = |issuer| Page::of_tokens_from(issuer).token_page;
        assert_eq!(page(Some("https://a.b")).as_deref(), Some("https://a.b/docs"));
        assert_eq!(page(Some("http://a.b:3000/x/")).as_deref(), Some("http://a.b:3000/x/docs"));
        for issuer in [None, Some("latchkey"), Some("javascript:alert(1)"), Some("")] {
            assert_eq!(page(issuer), None, "{issuer:?}");
        }
    }
}

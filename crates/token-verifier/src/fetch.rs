//! One bounded request for a document of the issuer.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AGE, CACHE_CONTROL, HeaderMap, HeaderName, USER_AGENT};
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use thiserror::Error;

use crate::connect::Connector;

/// Why a URL is refused. No message contains the URL, which may hold credentials.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Not an absolute URL with a host (RFC 3986 section 4.3).
    #[error("not an absolute URL")]
    NotAUrl,
    /// Another scheme than http or https.
    #[error("the URL's scheme must be http or https")]
    Scheme,
    /// A port that is no number up to 65535 (RFC 3986 section 3.2.3).
    #[error("the URL's port must be a number up to 65535")]
    Port,
    /// A user name or password in the URL (RFC 3986 section 3.2.1).
    #[error("the URL must not contain a user name or password")]
    Credentials,
    /// The system has no root certificates to check a server with.
    #[error("the system's root certificates cannot be read")]
    NoRoots,
    /// The authorities to trust cannot be read (RFC 7468).
    #[error("the certificates of the authorities are not in PEM")]
    Authorities,
}

/// What a request may cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// For everything: name resolution, connecting, TLS and the whole body.
    pub(crate) timeout: Duration,
    pub(crate) body_bytes: usize,
    /// How long a connection waits for another request. One that has waited for minutes may turn out
    /// dead, and would have saved nothing.
    pub(crate) idle: Option<Duration>,
}

/// Why a request failed; for the log.
#[derive(Debug, Error)]
pub(crate) enum FetchError {
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("the answer has status {}{}", .0.as_u16(), redirects(*.0))]
    Status(StatusCode),
    #[error("the body cannot be read")]
    Body,
    #[error("the body is over {0} bytes")]
    TooLarge(usize),
}

fn redirects(status: StatusCode) -> &'static str {
    if status.is_redirection() { ", and redirects are not followed" } else { "" }
}

/// An answer with status 200 or 304.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// For how long the source says that its answer holds.
    pub(crate) fn fresh_for(&self) -> Option<Duration> {
        fresh_for(&self.headers)
    }
}

pub(crate) struct Fetcher {
    client: Client<HttpsConnector<Connector>, Empty<Bytes>>,
    url: Uri,
    limits: Limits,
}

impl Fetcher {
    /// `authorities`, in PEM, take the place of the system's.
    pub(crate) fn new(
        url: &str,
        authorities: Option<&[u8]>,
        limits: Limits,
    ) -> Result<Self, UrlError> {
        let url = parse(url)?;
        let builder = HttpsConnectorBuilder::new();
        let connector = match (url.scheme_str(), authorities) {
            (Some("https"), None) => builder
                .with_provider_and_native_roots(aws_lc_rs::default_provider())
                .map_err(|_| UrlError::NoRoots)?
                .https_only()
                .enable_http1()
                .wrap_connector(Connector::default()),
            (Some("https"), Some(pem)) => builder
                .with_tls_config(trusting(roots(pem)?)?)
                .https_only()
                .enable_http1()
                .wrap_connector(Connector::default()),
            // A container without root certificates must be able to use plain HTTP.
            _ => builder
                .with_tls_config(trusting(RootCertStore::empty())?)
                .https_or_http()
                .enable_http1()
                .wrap_connector(Connector::default()),
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(usize::from(limits.idle.is_some()))
            .pool_idle_timeout(limits.idle)
            .build(connector);
        Ok(Self { client, url, limits })
    }

    /// The URL for the log: a query may hold a secret and is left out.
    pub(crate) fn name(&self) -> String {
        let part = |part: Option<&str>| part.unwrap_or_default().to_owned();
        let authority = self.url.authority().map(http::uri::Authority::as_str);
        format!("{}://{}{}", part(self.url.scheme_str()), part(authority), self.url.path())
    }

    /// Asks for the document, with this added to the query and with these header fields.
    pub(crate) async fn get(
        &self,
        query: &str,
        fields: &[(HeaderName, HeaderValue)],
    ) -> Result<Answer, FetchError> {
        tokio::time::timeout(self.limits.timeout, self.request(query, fields))
            .await
            .unwrap_or(Err(FetchError::Timeout(self.limits.timeout)))
    }

    async fn request(
        &self,
        query: &str,
        fields: &[(HeaderName, HeaderValue)],
    ) -> Result<Answer, FetchError> {
        let mut request = Request::get(with_query(&self.url, query))
            .header(ACCEPT, "application/json, application/jwk-set+json")
            .header(USER_AGENT, concat!("latchkey-token-verifier/", env!("CARGO_PKG_VERSION")));
        for (name, value) in fields {
            request = request.header(name, value);
        }
        let request =
            request.body(Empty::new()).map_err(|error| FetchError::Connect(error.to_string()))?;
        let answer = self.client.request(request).await.map_err(|error| {
            // The outer error only says that connecting failed; the cause says why.
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            FetchError::Connect(cause.unwrap_or_else(|| error.to_string()))
        })?;
        // A redirect is no document either: following one would move trust to another host.
        let (head, body) = answer.into_parts();
        if !matches!(head.status, StatusCode::OK | StatusCode::NOT_MODIFIED) {
            return Err(FetchError::Status(head.status));
        }
        let most = self.limits.body_bytes;
        let body = Limited::new(body, most).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                FetchError::TooLarge(most)
            } else {
                FetchError::Body
            }
        })?;
        Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
    }
}

/// An absolute URL with a host, and with a port that can be connected to if it has one.
fn parse(url: &str) -> Result<Uri, UrlError> {
    let url: Uri = url.parse().map_err(|_| UrlError::NotAUrl)?;
    let authority = url.authority().ok_or(UrlError::NotAUrl)?;
    if authority.as_str().contains('@') {
        return Err(UrlError::Credentials);
    }
    if authority.host().is_empty() {
        return Err(UrlError::NotAUrl);
    }
    if !matches!(url.scheme_str(), Some("http" | "https")) {
        return Err(UrlError::Scheme);
    }
    if has_valid_port(authority) { Ok(url) } else { Err(UrlError::Port) }
}

/// Whether an authority without user information (RFC 3986 section 3.2) names no port, or one up to
/// 65535. The parser of the `http` crate takes any digits.
#[must_use]
pub fn has_valid_port(authority: &http::uri::Authority) -> bool {
    let after_host = authority.as_str().get(authority.host().len()..).unwrap_or_default();
    match after_host.strip_prefix(':').map(str::parse::<u16>) {
        None => after_host.is_empty(),
        Some(port) => port.is_ok(),
    }
}

fn with_query(url: &Uri, query: &str) -> String {
    if query.is_empty() {
        url.to_string()
    } else {
        format!("{url}{}{query}", if url.query().is_some() { '&' } else { '?' })
    }
}

fn trusting(roots: RootCertStore) -> Result<ClientConfig, UrlError> {
    let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|_| UrlError::NoRoots)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn roots(pem: &[u8]) -> Result<RootCertStore, UrlError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| UrlError::Authorities)?;
        roots.add(certificate).map_err(|_| UrlError::Authorities)?;
    }
    if roots.is_empty() { Err(UrlError::Authorities) } else { Ok(roots) }
}

/// The freshness lifetime that is left (RFC 9111 sections 4.2 and 5.2.2). Of several directives the
/// shortest counts.
fn fresh_for(headers: &HeaderMap) -> Option<Duration> {
    let directives = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|field| field.to_str().ok())
        .flat_map(|field| field.split(','));
    let lifetime = directives.filter_map(|directive| {
        let (name, value) = directive.trim().split_once('=').unwrap_or((directive.trim(), ""));
        match name.to_ascii_lowercase().as_str() {
            "max-age" => value.trim_matches('"').parse::<u64>().ok(),
            "no-store" | "no-cache" => Some(0),
            _ => None,
        }
    });
    let age = headers.get(AGE).and_then(|age| age.to_str().ok()?.parse::<u64>().ok()).unwrap_or(0);
    lifetime.min().map(|seconds| Duration::from_secs(seconds.saturating_sub(age)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::{Fetcher, Limits, UrlError, fresh_for, with_query};

    const LIMITS: Limits = Limits { timeout: Duration::from_secs(1), body_bytes: 1, idle: None };

    fn lifetime(fields: &[(&'static str, &'static str)]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        fresh_for(&headers).map(|left| left.as_secs())
    }

    #[test]
    fn the_lifetime_is_the_shortest_that_is_promised() {
        assert_eq!(lifetime(&[]), None);
        assert_eq!(lifetime(&[("cache-control", "public")]), None);
        assert_eq!(lifetime(&[("cache-control", "public, Max-Age=300")]), Some(300));
        assert_eq!(lifetime(&[("cache-control", "max-age=300"), ("age", "100")]), Some(200));
        assert_eq!(lifetime(&[("cache-control", "max-age=300"), ("age", "900")]), Some(0));
        assert_eq!(lifetime(&[("cache-control", "max-age=60, no-store")]), Some(0));
        assert_eq!(
            lifetime(&[("cache-control", "max-age=60"), ("cache-control", "max-age=30")]),
            Some(30)
        );
        assert_eq!(lifetime(&[("cache-control", "max-age=-1")]), None);
    }

    #[test]
    fn only_plain_web_addresses_are_taken_and_messages_keep_secrets() {
        for (url, expected) in [
            ("", UrlError::NotAUrl),
            ("/jwks.json", UrlError::NotAUrl),
            ("not a url", UrlError::NotAUrl),
            ("http://:80/", UrlError::NotAUrl),
            ("ftp://example.com/", UrlError::Scheme),
            ("file:///etc/passwd", UrlError::NotAUrl),
            ("http://user:hunter2@example.com/", UrlError::Credentials),
            ("http://127.0.0.1:99999/x", UrlError::Port),
            ("http://example.com:65536/", UrlError::Port),
            ("http://[::1]:99999/", UrlError::Port),
        ] {
            let error = Fetcher::new(url, None, LIMITS).err();
            assert_eq!(error, Some(expected), "{url}");
            assert!(!format!("{error:?} {}", error.clone().unwrap()).contains("hunter2"));
        }
        let fetcher = Fetcher::new("http://example.com:80/jwks?key=hunter2", None, LIMITS).unwrap();
        assert_eq!(fetcher.name(), "http://example.com:80/jwks");
        assert_eq!(with_query(&fetcher.url, ""), "http://example.com:80/jwks?key=hunter2");
        assert_eq!(with_query(&fetcher.url, "a=b"), "http://example.com:80/jwks?key=hunter2&a=b");
        for url in ["http://[::1]/", "http://[::1]:65535/", "https://example.com/"] {
            assert!(Fetcher::new(url, None, LIMITS).is_ok(), "{url}");
        }
    }
}

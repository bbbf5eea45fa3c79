//! Requests for documents of the issuer, with limits on time and size.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use endpoints::{CallError, Endpoints, Failure, ResolveError, Resolver, ServiceUrl, ToAddress};
use http::header::{ACCEPT, AGE, CACHE_CONTROL, HeaderMap, HeaderName, USER_AGENT};
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier,
    client::WantsClientCert,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use thiserror::Error;

/// Why a URL is refused. No message contains the URL, because it may contain credentials.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UrlError {
    /// It is not the URL of a service.
    #[error(transparent)]
    Url(#[from] endpoints::UrlError),
    /// The system has no root certificates to verify servers with.
    #[error("the system's root certificates cannot be read")]
    NoRoots,
    /// The certificates of the authorities are not valid PEM (RFC 7468).
    #[error("the certificates of the authorities are not in PEM")]
    Authorities,
}

/// How to reach the issuer: the authorities that are trusted and the name servers that are asked. By
/// default, those of the system.
#[derive(Debug, Clone, Default)]
pub struct Access {
    authorities: Option<Arc<[u8]>>,
    resolver: Resolver,
}

impl Access {
    /// Trusts only the authorities in `pem`.
    #[must_use]
    pub fn trusting(self, pem: &[u8]) -> Self {
        Self { authorities: Some(pem.into()), ..self }
    }

    /// Uses these name servers instead of those in `/etc/resolv.conf`.
    #[must_use]
    pub fn resolved_by(self, resolver: Resolver) -> Self {
        Self { resolver, ..self }
    }
}

/// The limits of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The total timeout: name resolution, connecting, TLS and the whole body.
    pub(crate) timeout: Duration,
    pub(crate) body_bytes: usize,
    /// How long an idle connection is kept. After minutes it may be dead, so that keeping it would have
    /// saved nothing.
    pub(crate) idle: Option<Duration>,
}

/// Why a request failed. The text is meant for the log.
#[derive(Debug, Error)]
pub(crate) enum FetchError {
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    #[error(transparent)]
    Resolve(ResolveError),
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

/// A response with status 200 or 304.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// How long the response is fresh.
    pub(crate) fn fresh_for(&self) -> Option<Duration> {
        fresh_for(&self.headers)
    }
}

type HttpClient = Client<HttpsConnector<ToAddress>, Empty<Bytes>>;

/// Fetches one document from any replica of the issuer.
pub(crate) struct Fetcher {
    endpoints: Endpoints<HttpClient>,
    limits: Limits,
}

impl Fetcher {
    pub(crate) fn new(url: &str, access: &Access, limits: Limits) -> Result<Self, UrlError> {
        let url = ServiceUrl::parse(url)?;
        let is_https = url.is_https();
        let tls = match (is_https, access.authorities.as_deref()) {
            (true, None) => client_config(|builder| builder.with_native_roots().ok())?,
            (true, Some(pem)) => {
                let roots = roots(pem)?;
                client_config(|builder| Some(builder.with_root_certificates(roots)))?
            }
            // A container without root certificates must still be able to use plain HTTP.
            (false, _) => client_config(|builder| {
                Some(builder.with_root_certificates(RootCertStore::empty()))
            })?,
        };
        // One client per address, so that a reused connection always leads to the chosen address.
        let make = move |address| {
            let builder = HttpsConnectorBuilder::new().with_tls_config(tls.clone());
            let builder = if is_https { builder.https_only() } else { builder.https_or_http() };
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_max_idle_per_host(usize::from(limits.idle.is_some()))
                .pool_idle_timeout(limits.idle)
                .build(builder.enable_http1().wrap_connector(ToAddress(address)))
        };
        Ok(Self { endpoints: Endpoints::new(url, access.resolver.clone(), make), limits })
    }

    /// The URL for the log, without the query, which may contain a secret.
    pub(crate) fn name(&self) -> String {
        self.endpoints.url().to_string()
    }

    /// Fetches the document, with this addition to the query and with these headers.
    pub(crate) async fn get(
        &self,
        query: &str,
        fields: &[(HeaderName, HeaderValue)],
    ) -> Result<Answer, FetchError> {
        let timeout = self.limits.timeout;
        let answer = self.endpoints.call(timeout, |client| async move {
            // An error response of one replica may be its own problem, so the other replicas are tried.
            self.request(&client, query, fields).await.map_err(|error| match error {
                FetchError::Status(status) if !status.is_server_error() => Failure::Answered(error),
                FetchError::TooLarge(_) => Failure::Answered(error),
                error => Failure::Address(error),
            })
        });
        answer.await.map_err(|error| match error {
            CallError::Resolve(error) => FetchError::Resolve(error),
            CallError::Failed(error) => error,
            CallError::Timeout(_) => FetchError::Timeout(timeout),
        })
    }

    async fn request(
        &self,
        client: &HttpClient,
        query: &str,
        fields: &[(HeaderName, HeaderValue)],
    ) -> Result<Answer, FetchError> {
        let mut request = Request::get(with_query(self.endpoints.url().uri(), query))
            .header(ACCEPT, "application/json, application/jwk-set+json")
            .header(USER_AGENT, concat!("latchkey-token-verifier/", env!("CARGO_PKG_VERSION")));
        for (name, value) in fields {
            request = request.header(name, value);
        }
        let request =
            request.body(Empty::new()).map_err(|error| FetchError::Connect(error.to_string()))?;
        let answer = client.request(request).await.map_err(|error| {
            // The outer error only says that connecting failed; its source says why.
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            FetchError::Connect(cause.unwrap_or_else(|| error.to_string()))
        })?;
        // A redirect is not followed, because that would extend trust to another host.
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

fn with_query(url: &Uri, query: &str) -> String {
    if query.is_empty() {
        url.to_string()
    } else {
        format!("{url}{}{query}", if url.query().is_some() { '&' } else { '?' })
    }
}

/// The TLS configuration with the authorities that `trust` adds. If `trust` returns `None`, the system
/// has none.
fn client_config(
    trust: impl FnOnce(
        ConfigBuilder<ClientConfig, WantsVerifier>,
    ) -> Option<ConfigBuilder<ClientConfig, WantsClientCert>>,
) -> Result<ClientConfig, UrlError> {
    let builder = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|_| UrlError::NoRoots)?;
    Ok(trust(builder).ok_or(UrlError::NoRoots)?.with_no_client_auth())
}

fn roots(pem: &[u8]) -> Result<RootCertStore, UrlError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| UrlError::Authorities)?;
        roots.add(certificate).map_err(|_| UrlError::Authorities)?;
    }
    if roots.is_empty() { Err(UrlError::Authorities) } else { Ok(roots) }
}

/// The remaining freshness lifetime (RFC 9111 sections 4.2 and 5.2.2). If there are several directives,
/// the shortest counts.
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
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::{fresh_for, with_query};

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
    fn a_query_is_added_to_the_one_that_is_there() {
        let url = "http://example.com:80/jwks?key=hunter2".parse().unwrap();
        assert_eq!(with_query(&url, ""), "http://example.com:80/jwks?key=hunter2");
        assert_eq!(with_query(&url, "a=b"), "http://example.com:80/jwks?key=hunter2&a=b");
        let bare = "http://example.com/".parse().unwrap();
        assert_eq!(with_query(&bare, "a=b"), "http://example.com/?a=b");
    }
}

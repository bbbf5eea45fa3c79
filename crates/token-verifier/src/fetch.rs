//! One bounded request for a JWKS document.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AGE, CACHE_CONTROL, HeaderMap, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use thiserror::Error;

use crate::jwks::JwksError;
use crate::key::KeyError;
use crate::key_set::KeySet;

/// For everything: name resolution, connecting, TLS and the whole body.
pub(crate) const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

const MAX_BODY_BYTES: usize = 256 * 1024;

/// Why a fetch failed; for the log.
#[derive(Debug, Error)]
pub(crate) enum FetchError {
    #[error("no answer within {} s", FETCH_TIMEOUT.as_secs())]
    Timeout,
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("the answer has status {}", .0.as_u16())]
    Status(StatusCode),
    #[error("the body cannot be read or is over 256 KiB")]
    Body,
    #[error(transparent)]
    Keys(#[from] KeyError),
}

pub(crate) struct Fetched {
    pub(crate) keys: KeySet,
    /// For how long the source says that its answer holds.
    pub(crate) fresh_for: Option<Duration>,
}

pub(crate) struct Fetcher {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    url: Uri,
}

impl Fetcher {
    /// `authorities`, in PEM, take the place of the system's.
    pub(crate) fn new(url: &str, authorities: Option<&[u8]>) -> Result<Self, JwksError> {
        let url: Uri = url.parse().map_err(|_| JwksError::NotAUrl)?;
        let authority = url.authority().ok_or(JwksError::NotAUrl)?;
        if authority.as_str().contains('@') {
            return Err(JwksError::Credentials);
        }
        if authority.host().is_empty() {
            return Err(JwksError::NotAUrl);
        }
        let builder = HttpsConnectorBuilder::new();
        let connector = match (url.scheme_str(), authorities) {
            (Some("https"), None) => builder
                .with_provider_and_native_roots(aws_lc_rs::default_provider())
                .map_err(|_| JwksError::NoRoots)?
                .https_only()
                .enable_http1()
                .build(),
            (Some("https"), Some(pem)) => {
                builder.with_tls_config(trusting(roots(pem)?)?).https_only().enable_http1().build()
            }
            // A container without root certificates must be able to use plain HTTP.
            (Some("http"), _) => builder
                .with_tls_config(trusting(RootCertStore::empty())?)
                .https_or_http()
                .enable_http1()
                .build(),
            _ => return Err(JwksError::Scheme),
        };
        // A fetch every few minutes gains nothing from an idle connection, which may turn out dead.
        let client =
            Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self { client, url })
    }

    /// The URL for the log: a query may hold a secret and is left out.
    pub(crate) fn name(&self) -> String {
        let part = |part: Option<&str>| part.unwrap_or_default().to_owned();
        let authority = self.url.authority().map(http::uri::Authority::as_str);
        format!("{}://{}{}", part(self.url.scheme_str()), part(authority), self.url.path())
    }

    pub(crate) async fn fetch(&self) -> Result<Fetched, FetchError> {
        tokio::time::timeout(FETCH_TIMEOUT, self.request())
            .await
            .unwrap_or(Err(FetchError::Timeout))
    }

    async fn request(&self) -> Result<Fetched, FetchError> {
        let request = Request::get(&self.url)
            .header(ACCEPT, "application/jwk-set+json, application/json")
            .header(USER_AGENT, concat!("latchkey-token-verifier/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(|error| FetchError::Connect(error.to_string()))?;
        let answer = self.client.request(request).await.map_err(|error| {
            // The outer error only says that connecting failed; the cause says why.
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            FetchError::Connect(cause.unwrap_or_else(|| error.to_string()))
        })?;
        // A redirect is no key set either: following one would move trust to another host.
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status(answer.status()));
        }
        let fresh_for = fresh_for(answer.headers());
        let body = Limited::new(answer.into_body(), MAX_BODY_BYTES).collect().await;
        let body = body.map_err(|_| FetchError::Body)?.to_bytes();
        Ok(Fetched { keys: KeySet::from_jwks(&body)?, fresh_for })
    }
}

fn trusting(roots: RootCertStore) -> Result<ClientConfig, JwksError> {
    let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|_| JwksError::NoRoots)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn roots(pem: &[u8]) -> Result<RootCertStore, JwksError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| JwksError::Authorities)?;
        roots.add(certificate).map_err(|_| JwksError::Authorities)?;
    }
    if roots.is_empty() { Err(JwksError::Authorities) } else { Ok(roots) }
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

    use super::{Fetcher, fresh_for};
    use crate::jwks::JwksError;

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
            ("", JwksError::NotAUrl),
            ("/jwks.json", JwksError::NotAUrl),
            ("not a url", JwksError::NotAUrl),
            ("http://:80/", JwksError::NotAUrl),
            ("ftp://example.com/", JwksError::Scheme),
            ("file:///etc/passwd", JwksError::NotAUrl),
            ("http://user:hunter2@example.com/", JwksError::Credentials),
        ] {
            let error = Fetcher::new(url, None).err();
            assert_eq!(error, Some(expected), "{url}");
            assert!(!format!("{error:?} {}", error.clone().unwrap()).contains("hunter2"));
        }
        let fetcher = Fetcher::new("http://example.com:80/jwks?key=hunter2", None).unwrap();
        assert_eq!(fetcher.name(), "http://example.com:80/jwks");
        assert_eq!(super::FETCH_TIMEOUT, Duration::from_secs(5));
    }
}

//! An HTTP client with limits on time and size. Redirects are not followed, because that would extend the
//! trust in one host to another.

use std::{fmt, net::IpAddr, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Uri, response::Parts};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use thiserror::Error;

use crate::tls::system_roots;

/// How long an idle connection is kept. After minutes it may be dead.
const IDLE: Duration = Duration::from_secs(30);
/// The time limit for reading a body whose content is not used.
const REST: Duration = Duration::from_millis(500);

/// Why a call failed. The text is meant for the log and does not contain the URL, which may contain a
/// secret.
#[derive(Debug, Error)]
pub enum CallError {
    /// The timeout has passed.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// No connection could be opened, or it was lost.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The body ended early.
    #[error("the body of the answer cannot be read")]
    Body,
    /// The body exceeds the size limit.
    #[error("the body of the answer is over {0} bytes")]
    TooLarge(usize),
}

/// A client for HTTP/1.1, with or without TLS. Clones share its connections.
#[derive(Clone)]
pub struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    timeout: Duration,
    body_bytes: usize,
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("HttpClient").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl HttpClient {
    /// A client that trusts the authorities of the system. `timeout` is for the whole call: name
    /// resolution, the connection, TLS and the body, of which at most `body_bytes` are read.
    ///
    /// # Errors
    ///
    /// If TLS cannot be set up.
    pub fn new(timeout: Duration, body_bytes: usize) -> Result<Self, rustls::Error> {
        // A container without root certificates must still be able to use plain HTTP.
        Self::trusting(system_roots(), timeout, body_bytes)
    }

    /// A client that only trusts `roots`; see [`HttpClient::new`].
    ///
    /// # Errors
    ///
    /// If TLS cannot be set up.
    pub fn trusting(
        roots: RootCertStore,
        timeout: Duration,
        body_bytes: usize,
    ) -> Result<Self, rustls::Error> {
        let tls = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Ok(Self { client, timeout, body_bytes })
    }

    /// Sends a request and reads the whole response, whatever its status.
    ///
    /// # Errors
    ///
    /// If there is no complete response.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, CallError> {
        tokio::time::timeout(self.timeout, self.exchange(request))
            .await
            .unwrap_or(Err(CallError::Timeout(self.timeout)))
    }

    /// Sends a request of which only the head of the response matters. The body is ignored and cannot make
    /// the call fail.
    ///
    /// # Errors
    ///
    /// If there is no response.
    pub async fn send_for_head(&self, request: Request<Bytes>) -> Result<Parts, CallError> {
        let answer = tokio::time::timeout(self.timeout, self.begin(request));
        let (head, body) =
            answer.await.unwrap_or(Err(CallError::Timeout(self.timeout)))?.into_parts();
        // The connection can only be reused after the body has been read. A long or slow body is not worth
        // it.
        let rest = Limited::new(body, self.body_bytes).collect();
        let _ = tokio::time::timeout(REST, rest).await;
        Ok(head)
    }

    async fn begin(&self, request: Request<Bytes>) -> Result<Response<Incoming>, CallError> {
        self.client.request(request.map(Full::new)).await.map_err(|error| {
            // The outer error only says that connecting failed; its source says why.
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            CallError::Connect(cause.unwrap_or_else(|| error.to_string()))
        })
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, CallError> {
        let (head, body) = self.begin(request).await?.into_parts();
        let body = Limited::new(body, self.body_bytes).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                CallError::TooLarge(self.body_bytes)
            } else {
                CallError::Body
            }
        })?;
        Ok(Response::from_parts(head, body.to_bytes()))
    }
}

/// Parses the URL of a server: https, or http only to this machine, where nobody can intercept it.
///
/// # Errors
///
/// What is wrong with it. The URL is not quoted, because it may contain a secret.
pub fn https_or_loopback(text: &str) -> Result<Uri, String> {
    let url: Uri = text.parse().map_err(|_| "is not an absolute URL".to_owned())?;
    let Some(authority) = url.authority().filter(|authority| !authority.host().is_empty()) else {
        return Err("is not an absolute URL".to_owned());
    };
    if text.contains('#') {
        return Err("must not have a fragment".to_owned());
    }
    if authority.as_str().contains('@') {
        return Err("must not contain a user name or password".to_owned());
    }
    let after_host = authority.as_str().get(authority.host().len()..).unwrap_or_default();
    if !after_host
        .strip_prefix(':')
        .map_or(after_host.is_empty(), |port| port.parse::<u16>().is_ok())
    {
        return Err("has a port that is no number up to 65535".to_owned());
    }
    match url.scheme_str() {
        Some("https") => Ok(url),
        Some("http") if is_loopback(authority.host()) => Ok(url),
        Some("http") => Err("must be https, or http to this machine (localhost)".to_owned()),
        _ => Err("must be a URL of https, or of http to this machine".to_owned()),
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_called_over_a_network_is_encrypted() {
        for url in [
            "https://example.com/range/",
            "https://example.com:8443",
            "http://localhost:8080/",
            "http://LOCALHOST/",
            "http://127.0.0.1:8080/range/",
            "http://127.9.9.9/",
            "http://[::1]:8080/",
        ] {
            assert!(https_or_loopback(url).is_ok(), "{url}");
        }
        for url in [
            "http://example.com/",
            "http://localhost.example.com/",
            "http://10.0.0.1/",
            "http://127.0.0.1.nip.io/",
            "ftp://localhost/",
            "/range/",
            "example.com",
            "https://",
            "https://user:hunter2@example.com/",
            "http://127.0.0.1@example.com/",
            "https://example.com:99999/",
            "https://example.com/#a",
            "",
        ] {
            let told = https_or_loopback(url).unwrap_err();
            assert!(!told.contains("hunter2"), "{told}");
        }
    }
}

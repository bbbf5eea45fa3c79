//! Calls over HTTP that a service makes itself: bounded in time and in size. A redirect is an answer like
//! any other and is not followed, since it would move the trust in one host to another.

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

/// How long a connection waits for another request. One that has waited for minutes may turn out dead.
const IDLE: Duration = Duration::from_secs(30);
/// How long the body of an answer may take that nobody looks at.
const REST: Duration = Duration::from_millis(500);

/// Why a call has no answer; for the log. No text has the URL, which may hold a secret.
#[derive(Debug, Error)]
pub enum CallError {
    /// It took too long.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// No connection could be made, or it was lost.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The body ended early.
    #[error("the body of the answer cannot be read")]
    Body,
    /// The body has more bytes than are read.
    #[error("the body of the answer is over {0} bytes")]
    TooLarge(usize),
}

/// A client for HTTP/1.1, with or without TLS. Clones share their connections.
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
    /// A client that trusts the authorities of the system. `timeout` is for everything: the name, the
    /// connection, TLS and the whole body, of which `body_bytes` are read at most.
    ///
    /// # Errors
    ///
    /// Where TLS cannot be set up.
    pub fn new(timeout: Duration, body_bytes: usize) -> Result<Self, rustls::Error> {
        // A container without root certificates must be able to use plain HTTP.
        Self::trusting(system_roots(), timeout, body_bytes)
    }

    /// A client that trusts `roots` alone; see [`HttpClient::new`].
    ///
    /// # Errors
    ///
    /// Where TLS cannot be set up.
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

    /// Sends a request and reads the whole answer, whatever its status.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, CallError> {
        tokio::time::timeout(self.timeout, self.exchange(request))
            .await
            .unwrap_or(Err(CallError::Timeout(self.timeout)))
    }

    /// Sends a request whose answer is told by its head alone. The body, whatever it is, makes nothing of
    /// that a failure.
    ///
    /// # Errors
    ///
    /// Why there is no answer.
    pub async fn send_for_head(&self, request: Request<Bytes>) -> Result<Parts, CallError> {
        let answer = tokio::time::timeout(self.timeout, self.begin(request));
        let (head, body) =
            answer.await.unwrap_or(Err(CallError::Timeout(self.timeout)))?.into_parts();
        // A connection can be used again once the body has been read. One that is long or slow is not worth
        // that.
        let rest = Limited::new(body, self.body_bytes).collect();
        let _ = tokio::time::timeout(REST, rest).await;
        Ok(head)
    }

    async fn begin(&self, request: Request<Bytes>) -> Result<Response<Incoming>, CallError> {
        self.client.request(request.map(Full::new)).await.map_err(|error| {
            // The outer error only says that connecting failed; the cause says why.
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

/// Reads the URL of a server that is called over the network: https, or http to this machine alone, where
/// nobody is in between.
///
/// # Errors
///
/// What is wrong with it, without the URL, which may hold a secret.
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

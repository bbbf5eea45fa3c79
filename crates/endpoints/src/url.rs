//! URLs that name a service.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use http::{Uri, uri::Authority};
use thiserror::Error;

/// The prefix of the scheme if the host is an SRV name.
const SRV: &str = "srv+";

/// Why a URL is refused. No message contains the URL, because it may contain credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Not an absolute URL with a host (RFC 3986 section 4.3).
    #[error("not an absolute URL")]
    NotAUrl,
    /// The scheme is neither http nor https, with or without `srv+`.
    #[error("the URL's scheme must be http, https, srv+http or srv+https")]
    Scheme,
    /// The port is not a number up to 65535 (RFC 3986 section 3.2.3).
    #[error("the URL's port must be a number up to 65535")]
    Port,
    /// A user name or password in the URL (RFC 3986 section 3.2.1).
    #[error("the URL must not contain a user name or password")]
    Credentials,
    /// The URL has both an SRV name and a port, but the SRV records contain the ports.
    #[error("the URL of an SRV name must not have a port: the SRV records have it")]
    SrvPort,
    /// The host of an SRV URL is an address, or a name without a domain after `_service._proto`.
    #[error("the URL's host must be an SRV name such as _http._tcp.auth.example")]
    SrvName,
}

/// How to find the addresses of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name {
    /// This address, without DNS.
    Address(SocketAddr),
    /// Every address of the host.
    Host(String, u16),
    /// The targets in the SRV records of this name.
    Srv(String),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
            Self::Srv(name) => write!(f, "SRV {name}"),
        }
    }
}

/// The URL of a resource of a service: `http` or `https`, with the prefix `srv+` if the host is an SRV name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceUrl {
    uri: Uri,
    pub(crate) name: Name,
}

impl ServiceUrl {
    /// Parses a URL.
    ///
    /// # Errors
    ///
    /// [`UrlError`] if it cannot be used.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let below = text
            .get(..SRV.len())
            .filter(|start| start.eq_ignore_ascii_case(SRV))
            .and_then(|_| text.get(SRV.len()..));
        let uri: Uri = below.unwrap_or(text).parse().map_err(|_| UrlError::NotAUrl)?;
        let authority = uri.authority().ok_or(UrlError::NotAUrl)?;
        if authority.as_str().contains('@') {
            return Err(UrlError::Credentials);
        }
        if authority.host().is_empty() {
            return Err(UrlError::NotAUrl);
        }
        let default = match uri.scheme_str() {
            Some("http") => 80,
            Some("https") => 443,
            _ => return Err(UrlError::Scheme),
        };
        if !has_valid_port(authority) {
            return Err(UrlError::Port);
        }
        if below.is_some() {
            return Self::srv(uri);
        }
        let name = named(authority.host(), authority.port_u16().unwrap_or(default));
        Ok(Self { uri, name })
    }

    /// The host of the request is the domain after `_service._proto`. A certificate must be for that name and not
    /// for the targets that DNS returns (RFC 9525 section 6.1).
    fn srv(uri: Uri) -> Result<Self, UrlError> {
        let host = uri.host().unwrap_or_default();
        if uri.port().is_some() {
            return Err(UrlError::SrvPort);
        }
        let mut domain = host;
        while let Some((_, rest)) = domain.split_once('.').filter(|_| domain.starts_with('_')) {
            domain = rest;
        }
        let domain = domain.trim_end_matches('.');
        if domain.is_empty() || domain.starts_with('_') || !matches!(named(host, 0), Name::Host(..))
        {
            return Err(UrlError::SrvName);
        }
        let authority: Authority = domain.parse().map_err(|_| UrlError::SrvName)?;
        let name = Name::Srv(host.to_owned());
        let mut parts = uri.into_parts();
        parts.authority = Some(authority);
        let uri = Uri::from_parts(parts).map_err(|_| UrlError::SrvName)?;
        Ok(Self { uri, name })
    }

    /// The URI of a request, the same for all replicas: an `http` or `https` URL whose host is the name that a
    /// certificate must have.
    #[must_use]
    pub const fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Whether the service uses TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }
}

/// Omits the query, which may contain a secret.
impl fmt::Display for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.uri.scheme_str().unwrap_or_default();
        match &self.name {
            Name::Srv(name) => write!(f, "{SRV}{scheme}://{name}")?,
            _ => {
                let authority = self.uri.authority().map(Authority::as_str).unwrap_or_default();
                write!(f, "{scheme}://{authority}")?;
            }
        }
        f.write_str(self.uri.path())
    }
}

fn named(host: &str, port: u16) -> Name {
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let address = match bracketed {
        Some(host) => host.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse().ok(),
    };
    match address {
        Some(address) => Name::Address(SocketAddr::new(address, port)),
        None => Name::Host(host.to_owned(), port),
    }
}

/// Whether an authority without user information (RFC 3986 section 3.2) has no port, or one up to 65535. The parser
/// of the `http` crate accepts any digits.
#[must_use]
pub fn has_valid_port(authority: &Authority) -> bool {
    let after_host = authority.as_str().get(authority.host().len()..).unwrap_or_default();
    match after_host.strip_prefix(':').map(str::parse::<u16>) {
        None => after_host.is_empty(),
        Some(port) => port.is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Name, ServiceUrl, UrlError};

    #[test]
    fn a_url_says_how_its_service_is_found_and_what_it_is_called() {
        let host = |host: &str, port| Name::Host(host.to_owned(), port);
        let srv = |name: &str| Name::Srv(name.to_owned());
        let address = |address: &str| Name::Address(address.parse().unwrap());
        for (url, name, uri) in [
            ("http://auth/x?y=z", host("auth", 80), "http://auth/x?y=z"),
            ("https://auth.example:8443", host("auth.example", 8443), "https://auth.example:8443/"),
            ("https://auth.", host("auth.", 443), "https://auth./"),
            ("http://127.0.0.1:3000/x", address("127.0.0.1:3000"), "http://127.0.0.1:3000/x"),
            ("https://[::1]/", address("[::1]:443"), "https://[::1]/"),
            ("srv+http://_jwks._tcp.a.b/x?y=z", srv("_jwks._tcp.a.b"), "http://a.b/x?y=z"),
            ("SRV+https://_jwks._tcp.a.b.", srv("_jwks._tcp.a.b."), "https://a.b/"),
            (
                "srv+https://auth.service.consul/",
                srv("auth.service.consul"),
                "https://auth.service.consul/",
            ),
        ] {
            let parsed = ServiceUrl::parse(url).unwrap();
            assert_eq!(parsed.name, name, "{url}");
            assert_eq!(parsed.uri(), uri, "{url}");
            assert_eq!(parsed.is_https(), uri.starts_with("https"));
        }
    }

    #[test]
    fn what_cannot_be_called_is_refused_and_messages_keep_secrets() {
        for (url, expected) in [
            ("", UrlError::NotAUrl),
            ("/jwks.json", UrlError::NotAUrl),
            ("not a url", UrlError::NotAUrl),
            ("http://:80/", UrlError::NotAUrl),
            ("srv+", UrlError::NotAUrl),
            ("ftp://example.com/", UrlError::Scheme),
            ("srv+ftp://_x._tcp.example.com/", UrlError::Scheme),
            ("srv://_x._tcp.example.com/", UrlError::Scheme),
            ("srv+srv+http://_x._tcp.example.com/", UrlError::Scheme),
            ("file:///etc/passwd", UrlError::NotAUrl),
            ("http://user:hunter2@example.com/", UrlError::Credentials),
            ("srv+http://user:hunter2@_x._tcp.example.com/", UrlError::Credentials),
            ("http://127.0.0.1:99999/x", UrlError::Port),
            ("http://example.com:65536/", UrlError::Port),
            ("http://[::1]:99999/", UrlError::Port),
            ("srv+http://_x._tcp.example.com:99999/", UrlError::Port),
            ("srv+http://_x._tcp.example.com:80/", UrlError::SrvPort),
            ("srv+http://127.0.0.1/", UrlError::SrvName),
            ("srv+http://[::1]/", UrlError::SrvName),
            ("srv+http://_x._tcp/", UrlError::SrvName),
            ("srv+http://_x._tcp./", UrlError::SrvName),
        ] {
            let error = ServiceUrl::parse(url).unwrap_err();
            assert_eq!(error, expected, "{url}");
            assert!(!format!("{error:?} {error}").contains("hunter2"));
        }
    }

    #[test]
    fn the_log_sees_the_name_as_it_was_given_and_no_query() {
        for (url, shown) in [
            ("http://example.com:80/jwks?key=hunter2", "http://example.com:80/jwks"),
            ("srv+https://_a._tcp.example.com/jwks?k=v", "srv+https://_a._tcp.example.com/jwks"),
        ] {
            assert_eq!(ServiceUrl::parse(url).unwrap().to_string(), shown);
        }
    }
}

//! Rules of HTTP for the target and the framing of requests that hyper does not check (RFC 9110, RFC
//! 9112, RFC 9113).

use std::net::Ipv6Addr;

use axum::extract::Request;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header};

use crate::{code, error::ApiError, listen::MAX_HEADERS};

/// The methods that exist on any path of a service.
pub(crate) const METHODS: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// The error for a request that breaks a rule.
pub(crate) fn refusal(request: &Request) -> Option<ApiError> {
    let (uri, headers) = (request.uri(), request.headers());
    bad_framing(headers)
        .or_else(|| bad_host(request.version(), uri, headers))
        .or_else(|| bad_form(request.method(), uri))
        .or_else(|| bad_characters(uri))
}

/// Whether the header section of an HTTP/2 request is too large (RFC 9113, section 6.5.2). An HTTP/1 request
/// that is as large cannot be parsed.
pub(crate) fn has_too_large_headers(request: &Request) -> bool {
    /// What each field adds to its name and its value.
    const FIELD: usize = 32;
    if request.version() != Version::HTTP_2 {
        return false;
    }
    let (uri, method) = (request.uri(), request.method().as_str());
    let target = uri.path_and_query().map_or(0, |target| target.as_str().len());
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
    let scheme = uri.scheme_str().map_or(0, str::len);
    let pseudo = ":path:authority:scheme:method".len() + 4 * FIELD;
    let size =
        |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + FIELD;
    let fields: usize = request.headers().iter().map(size).sum();
    pseudo + target + authority + scheme + method.len() + fields > MAX_HEADERS
}

fn malformed(detail: &'static str) -> ApiError {
    ApiError::new(code::MALFORMED_REQUEST, detail)
}

/// Whether the request is `OPTIONS *` (RFC 9112, section 3.2.4).
pub(crate) fn asks_for_methods(request: &Request) -> bool {
    request.method() == Method::OPTIONS && request.uri().path() == "*"
}

/// Only the transfer coding chunked is supported (RFC 9112, section 6.1). A request with two lengths
/// may be a request smuggling attack (section 6.3).
fn bad_framing(headers: &HeaderMap) -> Option<ApiError> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter().peekable();
    codings.peek()?;
    if headers.contains_key(header::CONTENT_LENGTH) {
        return Some(malformed("a request has Transfer-Encoding or Content-Length, not both"));
    }
    let mut codings = codings.map(HeaderValue::as_bytes);
    let is_chunked = codings.next().is_some_and(|name| name.eq_ignore_ascii_case(b"chunked"));
    (!is_chunked || codings.next().is_some())
        .then(|| ApiError::new(code::UNIMPLEMENTED, "the only transfer coding is chunked"))
}

/// An HTTP/1.1 request has exactly one Host field, and its value is an authority (RFC 9112, section
/// 3.2); an HTTP/2 request may have one that agrees with `:authority` (RFC 9113, section 8.3.1).
fn bad_host(version: Version, uri: &Uri, headers: &HeaderMap) -> Option<ApiError> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() || (version == Version::HTTP_11 && host.is_none()) {
        return Some(malformed("the request must have exactly one Host field"));
    }
    let host = host.map(HeaderValue::as_bytes);
    if host.is_some_and(|host| !is_host(host)) {
        return Some(malformed("the Host field is not a host with or without a port"));
    }
    let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
    if authority.is_some_and(|authority| !is_host(authority)) {
        return Some(malformed("the target's authority is not a host with or without a port"));
    }
    if version == Version::HTTP_2 {
        let disagree = |(host, authority): (&[u8], &[u8])| !host.eq_ignore_ascii_case(authority);
        if host.zip(authority).is_some_and(disagree) {
            return Some(malformed("the Host field is not the :authority of the request"));
        }
        if host.or(authority).is_none() {
            return Some(malformed("the request names no host"));
        }
    }
    None
}

/// The forms of a target (RFC 9112, section 3.2).
fn bad_form(method: &Method, uri: &Uri) -> Option<ApiError> {
    if method == Method::CONNECT {
        let error = ApiError::new(code::METHOD_NOT_ALLOWED, "this service is no proxy");
        return Some(error.header(header::ALLOW, METHODS));
    }
    if uri.path() == "*" && method != Method::OPTIONS {
        return Some(malformed("the target * is for OPTIONS alone"));
    }
    let is_web = uri.scheme_str().is_none_or(|scheme| matches!(scheme, "http" | "https"));
    (!is_web || (uri.scheme().is_none() && !uri.path().starts_with('/') && uri.path() != "*"))
        .then(|| malformed("the target is not of http or https"))
}

/// The characters of a path and a query (RFC 3986, sections 3.3 and 3.4).
fn bad_characters(uri: &Uri) -> Option<ApiError> {
    let is_sound = |text: &str| {
        let bytes = text.as_bytes();
        bytes.iter().enumerate().all(|(at, byte)| match byte {
            b'%' => matches!(bytes.get(at + 1..at + 3), Some(hex) if hex.iter().all(u8::is_ascii_hexdigit)),
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => false,
            byte => byte.is_ascii_graphic(),
        })
    };
    (!is_sound(uri.path()) || !uri.query().is_none_or(is_sound))
        .then(|| malformed("the target has a character that must be percent-encoded"))
}

/// Whether this is `uri-host [ ":" port ]` (RFC 9110, section 7.2), with a non-empty host and without a
/// user name, which `http` URIs must not have (section 4.2.4).
fn is_host(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else {
        return false;
    };
    let (is_sound, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, "")) => (address.parse::<Ipv6Addr>().is_ok(), None),
            Some((address, rest)) => {
                (address.parse::<Ipv6Addr>().is_ok() && rest.starts_with(':'), rest.get(1..))
            }
            None => return false,
        },
        None => match text.split_once(':') {
            Some((name, port)) => (is_name(name), Some(port)),
            None => (is_name(text), None),
        },
    };
    is_sound && port.is_none_or(is_port)
}

/// An empty port means the default port.
fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
        && (text.is_empty() || text.parse::<u16>().is_ok())
}

/// A non-empty `reg-name` (RFC 3986, section 3.2.2).
fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    !bytes.is_empty() && bytes.iter().enumerate().all(|(at, byte)| match byte {
        b'%' => {
            matches!(bytes.get(at + 1..at + 3), Some(hex) if hex.iter().all(u8::is_ascii_hexdigit))
        }
        byte => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte),
    })
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;

    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        for host in [
            "a",
            "a.b",
            "A-b_c.d",
            "127.0.0.1",
            "127.0.0.1:80",
            "a:",
            "a:65535",
            "[::1]",
            "[::1]:80",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            ":80",
            "a b",
            "a/b",
            "[::1",
            "::1",
            "<script>",
            "user:pw@h",
            "user@h",
            "a:b",
            "a:65536",
            "[a]",
            "[::1]80",
            "[::1]:x",
            "a,b c",
            "a:1:2",
            "a\u{e9}",
            "%zz",
            "a?b",
            "a#b",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }

    fn code(version: Version, method: &str, target: &str, headers: &[(&str, &str)]) -> Option<u16> {
        let mut request = Request::builder().version(version).method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        refusal(&request).map(|error| error.code().http().as_u16())
    }

    #[test]
    fn targets_have_the_form_that_their_method_wants() {
        let host = [("host", "a")];
        for (method, target, expected) in [
            ("GET", "/livez", None),
            ("GET", "http://a/livez", None),
            ("GET", "http://u:p@a/livez", Some(400)),
            ("GET", "ftp://a/livez", Some(400)),
            ("GET", "*", Some(400)),
            ("OPTIONS", "*", None),
            ("CONNECT", "a:80", Some(405)),
            ("GET", "/%zz", Some(400)),
            ("GET", "/%", Some(400)),
            ("GET", "/a?b=%g1", Some(400)),
            ("GET", "/a?b=%C3%A9", None),
            ("GET", "/a|b", Some(400)),
            ("GET", "/a//b/../c;d=1,2", None),
        ] {
            assert_eq!(
                code(Version::HTTP_11, method, target, &host),
                expected,
                "{method} {target}"
            );
        }
    }

    #[test]
    fn hosts_are_as_many_as_the_version_wants() {
        let (one, two) = (Version::HTTP_11, Version::HTTP_2);
        for (version, target, headers, expected) in [
            (one, "/", &[][..], Some(400)),
            (one, "/", &[("host", "a"), ("host", "a")], Some(400)),
            (one, "/", &[("host", "a b")], Some(400)),
            (Version::HTTP_10, "/", &[], None),
            (Version::HTTP_10, "/", &[("host", "")], Some(400)),
            (two, "http://a/", &[], None),
            (two, "http://a/", &[("host", "A")], None),
            (two, "http://a/", &[("host", "b")], Some(400)),
            (two, "/", &[], Some(400)),
            (two, "/", &[("host", "a")], None),
        ] {
            assert_eq!(code(version, "GET", target, headers), expected, "{version:?} {headers:?}");
        }
    }

    #[test]
    fn a_body_has_one_length() {
        let with = |headers: &[(&str, &str)]| {
            code(Version::HTTP_11, "POST", "/", &[&[("host", "a")], headers].concat())
        };
        assert_eq!(with(&[("transfer-encoding", "chunked")]), None);
        assert_eq!(with(&[("transfer-encoding", "Chunked")]), None);
        assert_eq!(with(&[("content-length", "1")]), None);
        assert_eq!(with(&[("transfer-encoding", "chunked"), ("content-length", "1")]), Some(400));
        for coding in ["gzip, chunked", "identity", "chunked, chunked"] {
            assert_eq!(with(&[("transfer-encoding", coding)]), Some(501), "{coding}");
        }
    }
}

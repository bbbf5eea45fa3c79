//! The mail server, parsed from `SMTP_URL`.

use std::{net::Ipv6Addr, str::FromStr};

use percent_encoding::percent_decode_str;
use service_kit::settings::Secret;
use url::Url;

/// How a connection to the mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// TLS from the first byte (RFC 8314, section 3.3).
    Tls,
    /// STARTTLS (RFC 3207). If the server does not offer it, nothing is sent.
    StartTls,
    /// No protection. Only for a server on the same machine.
    None,
}

/// A mail submission server (RFC 6409).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmtpServer {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub security: Security,
    /// The user and the password.
    pub credentials: Option<(String, Secret)>,
}

/// Errors never quote the text, because it contains a password.
impl FromStr for SmtpServer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|_| {
            "is not a URL such as smtps://user:password@mail.example.com".to_owned()
        })?;
        let fault = |what: &str| Err(what.to_owned());
        let mut security = match url.scheme() {
            "smtps" => Security::Tls,
            "smtp" => Security::StartTls,
            _ => return fault("starts with neither smtps:// nor smtp://"),
        };
        for (name, value) in url.query_pairs() {
            match (&*name, &*value, security) {
                ("tls", "none", Security::StartTls) => security = Security::None,
                ("tls", "none", Security::Tls) => return fault("has tls=none, but smtps is TLS"),
                ("tls", ..) => {
                    return fault("has a parameter tls that is not none, or is given twice");
                }
                _ => return fault("has a parameter other than tls"),
            }
        }
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return fault("has something after the host");
        }
        let host = host(url.host_str().unwrap_or_default()).ok_or("has no valid host")?;
        let port = url.port().unwrap_or(match security {
            Security::Tls => 465,
            Security::StartTls => 587,
            Security::None => 25,
        });
        if port == 0 {
            return fault("has port 0");
        }
        let credentials = match (url.username(), url.password()) {
            ("", None) => None,
            (user, Some(password)) if !user.is_empty() && !password.is_empty() => {
                let (user, password) = (decoded(user)?, decoded(password)?);
                Some((user, Secret::new(password)))
            }
            _ => return fault("has a user without a password, or a password without a user"),
        };
        Ok(Self { host, port, security, credentials })
    }
}

/// Accepts a name of letters, digits, hyphens, underscores and dots, or an IP address.
fn host(text: &str) -> Option<String> {
    if let Some(inner) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().ok().map(|address| address.to_string());
    }
    let is_name = !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    is_name.then(|| text.to_ascii_lowercase())
}

/// Decodes a percent-encoded user or password (RFC 3986, section 2.1).
fn decoded(text: &str) -> Result<String, String> {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('%') {
        let is_escape =
            after.as_bytes().get(..2).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        if !is_escape {
            return Err("has a % in user or password that is not written as %25".to_owned());
        }
        rest = after;
    }
    let decoded = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| "has a user or password that is not UTF-8".to_owned())?;
    if decoded.chars().any(char::is_control) {
        return Err("has a control character in user or password".to_owned());
    }
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(host: &str, port: u16, security: Security) -> SmtpServer {
        SmtpServer { host: host.to_owned(), port, security, credentials: None }
    }

    #[test]
    fn the_scheme_says_how_the_connection_is_protected() {
        for (text, wanted) in [
            ("smtps://mail.example.com", server("mail.example.com", 465, Security::Tls)),
            ("smtp://Mail.Example.com/", server("mail.example.com", 587, Security::StartTls)),
            ("smtp://localhost:1025?tls=none", server("localhost", 1025, Security::None)),
            ("smtp://127.0.0.1?tls=none", server("127.0.0.1", 25, Security::None)),
            ("smtps://[::1]:4650", server("::1", 4650, Security::Tls)),
        ] {
            assert_eq!(text.parse(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn user_and_password_are_percent_encoded() {
        let server: SmtpServer =
            "smtps://me%40example.com:p%3A%2F%40%25%23%C3%A9@mail".parse().unwrap();
        let (user, password) = server.credentials.clone().unwrap();
        assert_eq!((user.as_str(), password.expose()), ("me@example.com", "p:/@%#é"));
        assert!(!format!("{server:?}").contains("p:/"));
    }

    #[test]
    fn anything_else_is_refused_without_being_quoted() {
        for text in [
            "",
            "mail.example.com:587",
            "http://u:hunter2@mail",
            "smtps://",
            "smtp://mail/path",
            "smtp://u:hunter2@mail#x",
            "smtps://u:hunter2@mail?tls=none",
            "smtp://u:hunter2@mail?tls=nome",
            "smtp://u:hunter2@mail?tls=none&tls=none",
            "smtp://u:hunter2@mail?tls=none&timeout=1",
            "smtp://u:hunter2@mail:99999",
            "smtp://u:hunter2@mail:0",
            "smtp://u@mail",
            "smtp://:hunter2@mail",
            "smtp://u:hunter2%@mail",
            "smtp://u:hunter2%zz@mail",
            "smtp://u:hunter2%ff@mail",
            "smtp://u:hunter2%0d%0a@mail",
            "smtp://u:hunter2@ma%20il",
            "smtp://u:hunter2@[::1",
        ] {
            let told = text.parse::<SmtpServer>().unwrap_err();
            assert!(!told.contains("hunter2") && !told.contains("mail:"), "{text}: {told}");
        }
    }
}

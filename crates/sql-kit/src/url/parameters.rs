//! The meaning of each parameter of a Postgres URL.

use std::{borrow::Cow, net::IpAddr, time::Duration};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::{Given, Servers, host, split, tls};

/// libpq's keywords, with the environment variables that are their defaults.
const KEYWORDS: &[(&str, &str)] = &[
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("dbname", "PGDATABASE"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("options", "PGOPTIONS"),
    ("application_name", "PGAPPNAME"),
    ("fallback_application_name", ""),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("client_encoding", "PGCLIENTENCODING"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("require_auth", "PGREQUIREAUTH"),
    ("gssencmode", "PGGSSENCMODE"),
    ("sslnegotiation", "PGSSLNEGOTIATION"),
    ("sslcompression", "PGSSLCOMPRESSION"),
    ("sslsni", "PGSSLSNI"),
    ("sslcertmode", "PGSSLCERTMODE"),
    ("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION"),
    ("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION"),
    ("load_balance_hosts", "PGLOADBALANCEHOSTS"),
    ("requirepeer", "PGREQUIREPEER"),
    ("sslcrl", "PGSSLCRL"),
    ("sslcrldir", "PGSSLCRLDIR"),
];

/// Parameters that are accepted only with values that describe what is done anyway; other values cannot
/// be supported. TLS is always 1.2 or 1.3.
const FIXED: &[(&str, &[&str])] = &[
    ("client_encoding", &["UTF8", "utf8", "UTF-8", "utf-8", "auto"]),
    ("channel_binding", &["disable", "prefer"]),
    ("require_auth", &[]),
    ("gssencmode", &["disable", "prefer"]),
    ("sslnegotiation", &["postgres"]),
    ("sslcompression", &["0"]),
    ("sslsni", &["1"]),
    ("sslcertmode", &["allow"]),
    ("ssl_min_protocol_version", &["TLSv1", "TLSv1.1", "TLSv1.2"]),
    ("ssl_max_protocol_version", &["TLSv1.3"]),
    ("load_balance_hosts", &["disable"]),
    ("requirepeer", &[]),
    ("sslcrl", &[]),
    ("sslcrldir", &[]),
];

/// Parses a URL. Missing parameters come from `environment`, and then from libpq's defaults. Checks the
/// files that it names. An error quotes no values.
pub(crate) fn read(
    url: &str,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Servers, String> {
    let mut given = split(url)?;
    if let Some(name) = given.keys().find(|name| !KEYWORDS.iter().any(|(known, _)| known == name)) {
        return Err(unknown(name));
    }
    for (keyword, variable) in KEYWORDS.iter().filter(|(_, variable)| !variable.is_empty()) {
        // If the URL has a host, an address in the environment does not override it.
        let is_other = *keyword == "hostaddr" && given.contains_key("host");
        if !given.contains_key(*keyword)
            && !is_other
            && let Some(value) = environment(variable).filter(|value| !value.is_empty())
        {
            given.insert((*keyword).to_owned(), value);
        }
    }
    if !given.contains_key("user") {
        given.insert("user".to_owned(), own_name()?);
    }
    for (name, accepted) in FIXED {
        if given.get(*name).is_some_and(|value| !accepted.contains(&&**value)) {
            return Err(not_honoured(name, accepted));
        }
    }
    servers(&given)
}

/// The name of the operating system's user that the process runs as, which is libpq's default.
fn own_name() -> Result<String, String> {
    whoami::username().map_err(|_| {
        "has no user, nor has PGUSER, and the operating system has no name for the one that this runs as"
            .to_owned()
    })
}

fn unknown(name: &str) -> String {
    let is_word =
        name.len() <= 40 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    // A name that is not a plain word may be part of a password, so it is not quoted.
    let name = if is_word { Cow::from(format!("\"{name}\"")) } else { "of another form".into() };
    format!(
        "has a parameter {name} that is not known here; names are in lower case, as libpq has them"
    )
}

fn not_honoured(name: &str, accepted: &[&str]) -> String {
    let instead = match (name, accepted) {
        ("channel_binding" | "require_auth", _) => {
            "; sslmode=verify-full keeps others from posing as the server"
        }
        _ => "",
    };
    match accepted {
        [] => format!("has {name}, which cannot be honoured here{instead}"),
        _ => {
            let values = accepted.join(" or ");
            format!(
                "has {name} with a value that cannot be honoured here, other than {values}{instead}"
            )
        }
    }
}

fn servers(given: &Given) -> Result<Servers, String> {
    let get = |name: &str| given.get(name).map(String::as_str);
    let list =
        |name| get(name).map(|value| value.split(',').collect::<Vec<_>>()).unwrap_or_default();
    let (hosts, addresses, ports) = (list("host"), list("hostaddr"), list("port"));
    if !addresses.is_empty() && !hosts.is_empty() && addresses.len() != hosts.len() {
        return Err("has another number of hostaddr than of hosts".to_owned());
    }
    let number = hosts.len().max(addresses.len()).max(1);
    if ports.len() > 1 && ports.len() != number {
        return Err("has another number of ports than of hosts".to_owned());
    }

    let tls = tls::Tls::read(given)?;
    let mut servers = Vec::with_capacity(number);
    for place in 0..number {
        let port = ports.get(place).or_else(|| ports.first().filter(|_| ports.len() == 1));
        let port = match port.copied() {
            None | Some("") => 5432,
            Some(port) => port.parse().ok().filter(|port: &u16| *port > 0).ok_or(
                "has a port that is not a number from 1 to 65535; a / or : in the user or the \
                     password is written as %2F or %3A",
            )?,
        };
        let address = addresses.get(place).copied().filter(|address| !address.is_empty());
        if address.is_some_and(|address| address.parse::<IpAddr>().is_err()) {
            return Err("has a hostaddr that is not an IP address".to_owned());
        }
        let name = hosts.get(place).copied().filter(|host| !host.is_empty());
        if address.is_some() && name.is_some() && matches!(tls.mode, PgSslMode::VerifyFull) {
            return Err(
                "has hostaddr beside a host whose name is to be verified, which cannot be \
                        honoured here"
                    .to_owned(),
            );
        }
        let server = options(given, address.or(name), port)?;
        // Connections over a Unix socket do not use TLS.
        let is_socket = host(&server).starts_with('/');
        servers.push(if is_socket {
            server.ssl_mode(PgSslMode::Disable)
        } else {
            tls.apply(server)
        });
    }
    Ok(Servers {
        list: servers,
        must_write: must_write(get("target_session_attrs"))?,
        connect_timeout: connect_timeout(get("connect_timeout"))?,
        variable: crate::url::VARIABLE.to_owned(),
    })
}

/// Builds sqlx's options of one server. They are built by parsing a URL, because only then does sqlx
/// look for a password in the password file.
fn options(given: &Given, host: Option<&str>, port: u16) -> Result<PgConnectOptions, String> {
    let mut url = format!("postgres:///?port={port}");
    let parameters = ["dbname", "user", "password", "options"];
    let parameters = parameters.map(|name| (name, given.get(name).map(String::as_str)));
    let application =
        given.get("application_name").or_else(|| given.get("fallback_application_name"));
    let others = [("host", host), ("application_name", application.map(String::as_str))];
    for (name, value) in parameters.into_iter().chain(others) {
        if let Some(value) = value {
            url.push_str(&format!("&{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
        }
    }
    url.parse().map_err(|_| "is not a valid Postgres URL".to_owned())
}

fn must_write(attribute: Option<&str>) -> Result<bool, String> {
    match attribute {
        None | Some("any") => Ok(false),
        Some("read-write" | "primary") => Ok(true),
        Some(_) => {
            Err("has a target_session_attrs other than any, read-write or primary: this service \
                        writes"
                .to_owned())
        }
    }
}

fn connect_timeout(seconds: Option<&str>) -> Result<Option<Duration>, String> {
    let Some(seconds) = seconds else { return Ok(None) };
    let seconds: i32 = seconds
        .trim()
        .parse()
        .map_err(|_| "has a connect_timeout that is not a whole number of seconds".to_owned())?;
    // Zero or less means no limit.
    Ok(u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs))
}

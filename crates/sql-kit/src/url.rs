//! Parses a Postgres URL as libpq does (PostgreSQL documentation, "Connection URIs" and "Parameter Key
//! Words"). A URL that works in `psql` means the same here, and a parameter that cannot be supported is
//! an error instead of being ignored.

mod parameters;
mod tls;

use std::{collections::BTreeMap, fmt, ops::Deref, time::Duration};

use sqlx::postgres::PgConnectOptions;

pub(crate) use self::parameters::read;

/// The variable that names the database, unless the program has another name for it.
pub(crate) const VARIABLE: &str = "DATABASE_URL";

/// The servers of one Postgres database, of which one at a time is the primary.
#[derive(Clone)]
pub struct Servers {
    pub(crate) list: Vec<PgConnectOptions>,
    /// Whether only a server that accepts writes is acceptable (`target_session_attrs`).
    pub(crate) must_write: bool,
    /// The timeout of opening one connection (`connect_timeout`).
    pub(crate) connect_timeout: Option<Duration>,
    /// The variable that names them, for messages.
    pub(crate) variable: String,
}

impl Deref for Servers {
    type Target = [PgConnectOptions];

    fn deref(&self) -> &[PgConnectOptions] {
        &self.list
    }
}

/// Prints only the addresses, because the options would print the password.
impl fmt::Debug for Servers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.list.iter().map(address)).finish()
    }
}

/// The address of a server: host and port, or the directory of its socket.
pub(crate) fn address(server: &PgConnectOptions) -> String {
    let (host, port) = (host(server), server.get_port());
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The host, or the directory of the socket.
pub(crate) fn host(server: &PgConnectOptions) -> String {
    match server.get_socket() {
        Some(folder) => folder.display().to_string(),
        None => server.get_host().to_owned(),
    }
}

/// The name of the database. By default it is the name of the role.
pub(crate) fn database(server: &PgConnectOptions) -> &str {
    server.get_database().unwrap_or_else(|| server.get_username())
}

/// Whether the server is on this machine.
pub(crate) fn is_local(server: &PgConnectOptions) -> bool {
    let host = host(server);
    host.starts_with('/')
        || host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The parameters of a URL, by libpq's keywords.
pub(super) type Given = BTreeMap<String, String>;

/// Splits a URL: `postgresql://[user[:password]@][host[:port]][,…][/dbname][?name=value[&…]]`.
pub(super) fn split(url: &str) -> Result<Given, String> {
    let rest = url
        .strip_prefix("postgresql://")
        .or_else(|| url.strip_prefix("postgres://"))
        .ok_or("must start with postgres:// or postgresql://")?;
    let mut given = Given::new();

    // Credentials end at the first @, which must come before any slash.
    let authority = rest.find('/').unwrap_or(rest.len());
    let rest = match rest[..authority].find('@') {
        Some(at) => {
            let credentials = &rest[..at];
            let (user, password) = match credentials.split_once(':') {
                Some((user, password)) => (user, password),
                None => (credentials, ""),
            };
            insert(&mut given, "user", &decode(user, "user")?);
            insert(&mut given, "password", &decode(password, "password")?);
            &rest[at + 1..]
        }
        None => rest,
    };

    let (hosts, ports, rest) = split_hosts(rest)?;
    insert(&mut given, "host", &decode(&hosts, "host")?);
    insert(&mut given, "port", &decode(&ports, "port")?);

    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    insert(&mut given, "dbname", &decode(path.strip_prefix('/').unwrap_or(path), "name")?);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or("has a parameter without a value")?;
        if value.contains('=') {
            return Err("has a parameter with two values".to_owned());
        }
        let (name, value) = (decode(name, "name of a parameter")?, decode(value, "parameter")?);
        match (&*name, &*value) {
            // libpq accepts this parameter too, for URLs that were written for JDBC.
            ("ssl", "true") => given.insert("sslmode".to_owned(), "require".to_owned()),
            _ => given.insert(name, value),
        };
    }
    Ok(given)
}

/// Inserts a parameter. An empty part of a URL counts as absent.
fn insert(given: &mut Given, name: &str, value: &str) {
    if !value.is_empty() {
        given.insert(name.to_owned(), value.to_owned());
    }
}

/// Splits off the comma-separated hosts and ports. Returns the rest as well.
fn split_hosts(mut rest: &str) -> Result<(String, String, &str), String> {
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    loop {
        if let Some(inner) = rest.strip_prefix('[') {
            let (host, after) = inner.split_once(']').ok_or("has a [ without its ]")?;
            if host.is_empty() || !(after.is_empty() || after.starts_with([':', '/', '?', ','])) {
                return Err("has a malformed IPv6 address".to_owned());
            }
            hosts.push(host);
            rest = after;
        } else {
            let (host, after) =
                rest.split_at(rest.find([':', '/', '?', ',']).unwrap_or(rest.len()));
            if host.contains('@') {
                return Err(
                    "has two @ before its host: write the one in the user or the password as \
                            %40"
                    .to_owned(),
                );
            }
            hosts.push(host);
            rest = after;
        }
        let port = rest.strip_prefix(':').unwrap_or("");
        let (port, _) = port.split_at(port.find(['/', '?', ',']).unwrap_or(port.len()));
        rest = rest.strip_prefix(':').map_or(rest, |after| &after[port.len()..]);
        ports.push(port);
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None => break,
        }
    }
    // If no host has a port, the parameter is absent.
    let ports =
        if ports.iter().all(|port| port.is_empty()) { String::new() } else { ports.join(",") };
    Ok((hosts.join(","), ports, rest))
}

/// Decodes percent-encoding (RFC 3986, section 2.1). A plus sign stands for itself.
fn decode(text: &str, part: &str) -> Result<String, String> {
    let malformed = || {
        format!(
            "has a malformed percent-encoding in its {part}: write a % that stands for itself as %25"
        )
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |digit: Option<u8>| char::from(digit?).to_digit(16);
        let (high, low) = (digit(rest.next()), digit(rest.next()));
        let (Some(high), Some(low)) = (high, low) else {
            return Err(malformed());
        };
        match u8::try_from(high * 16 + low) {
            Ok(byte) if byte != 0 => bytes.push(byte),
            _ => return Err(malformed()),
        }
    }
    String::from_utf8(bytes).map_err(|_| malformed())
}

#[cfg(test)]
mod tests;

//! The `healthcheck` subcommand: queries the health of a running service, for containers without a
//! shell.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use clap::{Arg, ArgAction, ArgMatches, Command};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::{
    admin,
    settings::{Setting, SettingsError, Source, address},
    tls::{ProbeTls, TLS_CERT_FILE},
};

const TIMEOUT: Duration = Duration::from_secs(3);
/// The largest response that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// The `healthcheck` subcommand.
#[must_use]
pub fn command() -> Command {
    Command::new("healthcheck")
        .about("Exit with status 0 if the running service is ready, else name the check that fails")
        .arg(
            Arg::new("live")
                .long("live")
                .action(ArgAction::SetTrue)
                .help("Ask only whether the process answers, whatever its database does"),
        )
}

/// The settings from which `healthcheck` determines the address of the service.
#[derive(Debug)]
pub struct AddressSettings {
    /// `ADMIN_ADDR`, which is used if it is on.
    pub admin: &'static Setting,
    /// `HTTP_ADDR`, which is used if `ADMIN_ADDR` is off or its port is chosen by the system.
    pub http: &'static Setting,
}

/// Runs [`command`] with its `flags`: requests `/readyz` or `/livez` of the service.
///
/// # Errors
///
/// If the service is not healthy, or if the settings are invalid. The text says why.
pub async fn healthcheck(
    addresses: &AddressSettings,
    source: &mut Source,
    flags: &ArgMatches,
) -> Result<(), String> {
    let admin = source.value(addresses.admin, admin::address);
    let http = source.value(addresses.http, address);
    source.finish().map_err(|error: SettingsError| error.to_string())?;
    let target = match admin.filter(|address| address.port() != 0) {
        // This listener uses plaintext.
        Some(admin) => {
            Target { address: reachable(admin), setting: addresses.admin.var, tls: false }
        }
        None => Target {
            address: reachable(http),
            setting: addresses.http.var,
            tls: source.is_set(&TLS_CERT_FILE),
        },
    };
    if target.address.port() == 0 {
        return Err(format!(
            "{} and {} do not tell the port: the service has taken any free one",
            addresses.admin.var, addresses.http.var
        ));
    }
    let path = if flags.get_flag("live") { "/livez" } else { "/readyz" };
    target.check(path).await
}

/// A service can listen on "any address", but clients cannot connect to it.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The part of a response that is read.
#[derive(Debug, Default, Deserialize)]
struct Answer {
    #[serde(default)]
    checks: BTreeMap<String, Checked>,
}

#[derive(Debug, Deserialize)]
struct Checked {
    status: String,
}

impl Answer {
    /// Explains an error response.
    fn reason(&self, status: StatusCode) -> String {
        let failing = self.checks.iter().filter(|(_, check)| check.status != "ok");
        let failing: Vec<&str> = failing.map(|(name, _)| name.as_str()).collect();
        match failing.as_slice() {
            [] if self.checks.is_empty() => format!("answers {status}"),
            [] => "is not ready although every check passes: it is stopping".to_owned(),
            [one] => format!("is not ready: the check {one} fails"),
            several => format!("is not ready: the checks {} fail", several.join(", ")),
        }
    }
}

/// A listener of the running service.
#[derive(Debug, Clone, Copy)]
struct Target {
    address: SocketAddr,
    /// The setting that names it.
    setting: &'static str,
    tls: bool,
}

impl Target {
    async fn check(self, path: &str) -> Result<(), String> {
        let address = self.address;
        let (status, answer) = tokio::time::timeout(TIMEOUT, self.ask(path))
            .await
            .map_err(|_| format!("{address} does not answer in {} s", TIMEOUT.as_secs()))?
            .map_err(|error| match error.downcast_ref::<io::Error>().map(io::Error::kind) {
                Some(io::ErrorKind::ConnectionRefused) => {
                    format!(
                        "{address}: nothing listens there: is the service running, with this {}?",
                        self.setting
                    )
                }
                _ => format!("{address}: {error}"),
            })?;
        if status.is_success() {
            return Ok(());
        }
        Err(format!("{address} {}", answer.reason(status)))
    }

    async fn ask(self, path: &str) -> Result<(StatusCode, Answer), Failure> {
        let stream = TcpStream::connect(self.address).await?;
        if self.tls {
            self.get(ProbeTls::connect(stream).await?, path).await
        } else {
            self.get(stream, path).await
        }
    }

    async fn get<S>(self, stream: S, path: &str) -> Result<(StatusCode, Answer), Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::get(path)
            .header(http::header::HOST, self.address.to_string())
            .body(Empty::<bytes::Bytes>::new())?;
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
        // Another program may listen there and return anything.
        Ok((parts.status, serde_json::from_slice(&body).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(body: &str) -> String {
        let answer: Answer = serde_json::from_str(body).unwrap_or_default();
        answer.reason(StatusCode::SERVICE_UNAVAILABLE)
    }

    #[test]
    fn the_check_that_fails_is_named() {
        let one = r#"{"checks":{"database":{"status":"unavailable"},"schema":{"status":"ok"}}}"#;
        assert_eq!(reason(one), "is not ready: the check database fails");
        let two = r#"{"checks":{"a":{"status":"unavailable"},"b":{"status":"unavailable"}}}"#;
        assert_eq!(reason(two), "is not ready: the checks a, b fail");
        let none = r#"{"checks":{"database":{"status":"ok"}}}"#;
        assert!(reason(none).ends_with("it is stopping"));
        assert_eq!(reason("<html>"), "answers 503 Service Unavailable");
    }

    #[tokio::test]
    async fn a_service_that_does_not_run_is_told_as_such() {
        // A port that was free a moment ago.
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let target = Target { address, setting: "ADMIN_ADDR", tls: false };
        let told = target.check("/livez").await.unwrap_err();
        let cause = "nothing listens there: is the service running, with this ADMIN_ADDR?";
        assert_eq!(told, format!("{address}: {cause}"));
    }

    #[test]
    fn any_address_is_reached_at_the_loopback_interface() {
        for (listening, asked) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1")] {
            assert_eq!(reachable(listening.parse().unwrap()), asked.parse().unwrap());
        }
    }
}

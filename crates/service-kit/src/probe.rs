//! `healthcheck`: asks a running service whether it is ready, for containers without a shell.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use http::Request;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::{
    settings::{Setting, SettingsError, Source, address},
    tls::{ProbeTls, TLS_CERT_FILE},
};

const TIMEOUT: Duration = Duration::from_secs(3);

/// The `healthcheck` subcommand: asks the service that listens on the address of `setting` for
/// `/readyz`, by the settings that the service itself has.
///
/// # Errors
///
/// A text that says why it is not ready, or what is wrong with the settings.
pub async fn healthcheck(setting: &Setting, source: &mut Source) -> Result<(), String> {
    let address = source.value(setting, address);
    source.finish().map_err(|error: SettingsError| error.to_string())?;
    let address = reachable(address);
    let status = tokio::time::timeout(TIMEOUT, ask(address, source.is_set(&TLS_CERT_FILE)))
        .await
        .map_err(|_| format!("{address} does not answer in {} s", TIMEOUT.as_secs()))?
        .map_err(|error| format!("{address}: {error}"))?;
    if status.is_success() { Ok(()) } else { Err(format!("{address} is not ready: {status}")) }
}

/// One can listen on "any address" but not connect to it.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn ask(address: SocketAddr, tls: bool) -> Result<http::StatusCode, Failure> {
    let stream = TcpStream::connect(address).await?;
    if tls {
        get(ProbeTls::connect(stream).await?, address).await
    } else {
        get(stream, address).await
    }
}

async fn get<S>(stream: S, address: SocketAddr) -> Result<http::StatusCode, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get("/readyz")
        .header(http::header::HOST, address.to_string())
        .body(Empty::<bytes::Bytes>::new())?;
    Ok(sender.send_request(request).await?.status())
}

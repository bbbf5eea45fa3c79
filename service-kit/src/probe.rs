//! `healthcheck`: asks a running service whether it is ready, for containers without a shell.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use http::Request;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

const TIMEOUT: Duration = Duration::from_secs(3);

/// Asks the service that listens on `address` for `/readyz`.
///
/// # Errors
///
/// A text that says why it is not ready.
pub async fn ready(address: SocketAddr) -> Result<(), String> {
    let status = tokio::time::timeout(TIMEOUT, ask(reachable(address)))
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

async fn ask(
    address: SocketAddr,
) -> Result<http::StatusCode, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get("/readyz")
        .header(http::header::HOST, address.to_string())
        .body(Empty::<bytes::Bytes>::new())?;
    Ok(sender.send_request(request).await?.status())
}

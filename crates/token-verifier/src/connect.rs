//! Connections to a name that may have many addresses, of which some may be dead.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tower_service::Service;

/// How long an address may take before the next one is tried beside it (RFC 8305 section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Connects to the first address that answers. Each connection begins with another address, so that
/// calls are spread and one that accepts connections but never answers is not asked for ever.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connector {
    connections: Arc<AtomicUsize>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let first = self.connections.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let host = url.host().unwrap_or_default();
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let default = if url.scheme_str() == Some("https") { 443 } else { 80 };
            let port = url.port_u16().unwrap_or(default);
            let mut addresses: Vec<_> = lookup_host((host, port)).await?.collect();
            if !addresses.is_empty() {
                let first = first % addresses.len();
                addresses.rotate_left(first);
            }
            connect(addresses).await.map(TokioIo::new)
        })
    }
}

/// Tries the addresses in turn, each a little after the one before or as soon as that has failed.
async fn connect(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut addresses = addresses.into_iter().peekable();
    let mut attempts = JoinSet::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        if let Some(address) = addresses.next() {
            attempts.spawn(TcpStream::connect(address));
        }
        // Attempts that are still under way end with the set.
        tokio::select! {
            ended = attempts.join_next() => match ended {
                Some(Ok(Ok(stream))) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Some(Ok(Err(error))) => last = error,
                Some(Err(_)) => {}
                None => return Err(last),
            },
            () = sleep(ATTEMPT_DELAY), if addresses.peek().is_some() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tokio::net::{TcpListener, TcpSocket};

    use super::{ATTEMPT_DELAY, connect};

    #[tokio::test]
    async fn a_dead_first_address_costs_a_fraction_of_a_second() {
        // A listener whose queue is full answers no further connection, as a dead machine does.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let silent = socket.listen(0).unwrap();
        let dead = silent.local_addr().unwrap();
        let mut waiting = Vec::new();
        for _ in 0..4 {
            let attempt = tokio::net::TcpStream::connect(dead);
            waiting.push(tokio::time::timeout(Duration::from_millis(100), attempt).await);
        }
        assert!(waiting.last().unwrap().is_err(), "the queue is full");

        let live = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let live = live.local_addr().unwrap();
        let began = Instant::now();
        let connection = connect(vec![dead, dead, live]).await.unwrap();
        assert_eq!(connection.peer_addr().unwrap(), live);
        assert!(began.elapsed() < 4 * ATTEMPT_DELAY, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_refused_address_costs_nothing_and_the_last_error_is_told() {
        let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let began = Instant::now();
        let refused = connect(vec![unused, unused, unused]).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        assert!(began.elapsed() < ATTEMPT_DELAY);
        assert!(connect(Vec::new()).await.is_err());
    }
}

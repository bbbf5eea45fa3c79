//! Listeners: one loop for both edges, with the limits that a public port needs.

mod patient;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
    service::TowerToHyperService,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use self::patient::{LAST_MOMENT, Patient};
use crate::tls::{ClientCertificate, ServerTls};

/// How long the header section of a request may take; also how long an idle connection is kept.
const HEADER_TIMEOUT: Duration = Duration::from_secs(28);
/// How long connections are still accepted when the service stops: until none has come for the first
/// time, for the second time at most.
const QUIET: Duration = Duration::from_millis(100);
const DRAIN: Duration = Duration::from_secs(1);
/// How often an HTTP/2 peer that is silent is asked for a sign of life, and how long it has.
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest header section, in bytes.
const MAX_HEADERS: usize = 32 * 1024;
const MAX_STREAMS: u32 = 256;
/// How many connections one listener holds at a time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 8192;

/// No more connections than a third of the files that the process may open: there are three
/// listeners at most beside the database and the log. The usual soft limit, 1024, is there for
/// programs that cannot bear more; as others do, we raise it as far as we may and need.
fn max_connections() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let needed = 4 * MAX_CONNECTIONS as u64;
    let wanted = limit.maximum.map_or(needed, |most| most.min(needed));
    let mut files = limit.current.unwrap_or(needed);
    if files < wanted {
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            files = wanted;
        }
    }
    (usize::try_from(files).unwrap_or(usize::MAX) / 3).clamp(16, MAX_CONNECTIONS)
}

/// Which protocol a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 and, with prior knowledge, HTTP/2.
    Rest,
    /// HTTP/2 alone.
    Grpc,
}

/// The address of the socket's other end. In the extensions of every request.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// A bound socket that does not accept yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    protocol: Protocol,
    tls: Option<ServerTls>,
}

impl Listener {
    /// Binds `address`; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// Those of the operating system, such as an address in use.
    pub async fn bind(address: SocketAddr, protocol: Protocol) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address, protocol, tls: None })
    }

    /// Speaks TLS, if there is any.
    #[must_use]
    pub fn with_tls(self, tls: Option<ServerTls>) -> Self {
        Self { tls, ..self }
    }

    /// The address that was bound, with the real port.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `router` until `shutdown`; then accepts no more, lets accepted requests finish, and
    /// returns.
    pub async fn serve(self, router: Router, shutdown: CancellationToken) {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MAX_HEADERS);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADERS as u32);
        if self.protocol == Protocol::Grpc {
            builder = builder.http2_only();
        }
        let places = Arc::new(Semaphore::new(max_connections()));
        let graceful = GracefulShutdown::new();
        let serve = |(stream, peer, place): Accepted| {
            // Answers are small and wait for nobody; a failure here only costs latency.
            let _ = stream.set_nodelay(true);
            let connection = Connection {
                builder: builder.clone(),
                router: router.clone(),
                peer,
                watcher: graceful.watcher(),
                stopping: shutdown.clone(),
            };
            let tls = self.tls.clone().map(|tls| (tls, self.protocol));
            tokio::spawn(async move {
                match tls {
                    None => connection.serve(stream, false).await,
                    Some((tls, protocol)) => connection.serve_tls(stream, tls, protocol).await,
                }
                drop(place);
            });
        };
        while let Some(accepted) = shutdown.run_until_cancelled(accept(&self.socket, &places)).await
        {
            serve(accepted);
        }
        // Who has got a connection is not to be sent away: what is sent may not be sent again by a
        // proxy. So for a moment those still come in who do not know yet that we stop.
        let end = Instant::now() + DRAIN;
        let patience = || end.min(Instant::now() + QUIET);
        while let Ok(accepted) =
            tokio::time::timeout_at(patience(), accept(&self.socket, &places)).await
        {
            serve(accepted);
        }
        drop(self.socket);
        // hyper would end those at once that have not said yet which version they speak.
        tokio::time::sleep(QUIET).await;
        graceful.shutdown().await;
    }
}

/// An accepted connection and what it needs.
struct Connection {
    builder: auto::Builder<TokioExecutor>,
    router: Router,
    peer: SocketAddr,
    watcher: Watcher,
    stopping: CancellationToken,
}

impl Connection {
    async fn serve_tls(self, stream: TcpStream, tls: ServerTls, protocol: Protocol) {
        let stopped = async {
            self.stopping.cancelled().await;
            tokio::time::sleep(LAST_MOMENT).await;
        };
        let handshake = tokio::select! {
            handshake = tls.accept(stream, protocol) => handshake,
            () = stopped => return,
        };
        match handshake {
            Ok(stream) => {
                let has_certificate = stream.get_ref().1.peer_certificates().is_some();
                self.serve(stream, has_certificate).await;
            }
            // Scanners and clients without the right certificate are everyday life.
            Err(error) => tracing::debug!(%error, "TLS handshake failed"),
        }
    }

    async fn serve<S>(self, stream: S, has_certificate: bool)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { builder, router, peer, watcher, stopping } = self;
        let service = TowerToHyperService::new(router.map_request(
            move |mut request: http::Request<Incoming>| {
                request.extensions_mut().insert(Peer(peer));
                if has_certificate {
                    request.extensions_mut().insert(ClientCertificate);
                }
                request
            },
        ));
        let stream = Patient::new(stream, HEADER_TIMEOUT, stopping);
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        // A broken connection is the client's business and is told by its absence.
        let _ = watcher.watch(connection).await;
    }
}

/// A connection, its other end, and its place among those that the listener holds.
type Accepted = (TcpStream, SocketAddr, Option<OwnedSemaphorePermit>);

async fn accept(socket: &TcpListener, places: &Arc<Semaphore>) -> Accepted {
    // The semaphore is never closed, so there is always a permit in the end.
    let place = Arc::clone(places).acquire_owned().await.ok();
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => return (stream, peer, place),
            Err(error) => {
                // Out of file descriptors, or a connection gone before it was accepted: both pass.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

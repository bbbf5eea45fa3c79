//! Listeners: the same accept loop for both edges, with the limits that a public port needs.

mod answers;
mod bodies;
mod connection;
mod files;
mod refusals;
mod slots;
mod timed_stream;
mod usage;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::answers::Overloaded;
pub use self::{answers::AnswerMemory, slots::NetworkLimit, usage::Memory, usage::Reservation};
use self::{
    connection::Connection,
    slots::{Slot, Slots},
    usage::ConnectionUsage,
};
use crate::tls::ServerTls;

/// The time limit for receiving the headers of a request. An idle HTTP/1.1 connection is kept for as
/// long.
const HEADER_TIMEOUT: Duration = Duration::from_secs(28);
/// How long connections are still accepted when the service stops: until none has arrived for the
/// first of these times, and for the second one at most.
const QUIET: Duration = Duration::from_millis(100);
const DRAIN: Duration = Duration::from_secs(1);
/// The interval of HTTP/2 pings to a silent peer, and the time that it has to answer.
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest header section that is accepted, in bytes.
pub(crate) const MAX_HEADERS: usize = 32 * 1024;
/// The largest header section that is read on HTTP/2, in bytes, in order to refuse it with a problem
/// document. To a larger one h2 itself responds, with a bare status 431; a target over 64 KiB, which is
/// more than a `http::Uri` can hold, makes it reset the stream.
const MAX_HEADERS_READ: u32 = 4 * MAX_HEADERS as u32;
const MAX_STREAMS: u32 = 256;
/// The HTTP/2 receive window of a connection, in bytes: how much of request bodies may be sent
/// before it is read. It is as much as the largest body, and also the initial value of RFC 9113.
const RECEIVE_WINDOW: u32 = 65_535;
/// How much of a response is buffered in the connection before it is written, in bytes.
const SEND_BUFFER: usize = 64 * 1024;
/// How long to wait before looking for a free slot again if all connections are busy.
const SLOT_INTERVAL: Duration = Duration::from_millis(100);

/// The protocol of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 and, with prior knowledge, HTTP/2.
    Rest,
    /// Only HTTP/2.
    Grpc,
}

/// The peer address of the socket. It is in the extensions of every request.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// The limits of a listener's connections.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The most connections at a time.
    pub connections: usize,
    /// The limit of connections per client network.
    pub network: NetworkLimit,
    /// The memory budget that all connections share.
    pub memory: Arc<Memory>,
}

impl Limits {
    /// The limits of a public listener.
    #[must_use]
    pub fn public(network: NetworkLimit, memory: Arc<Memory>) -> Self {
        Self { connections: files::max_public_connections(), network, memory }
    }

    /// The limits of the listener for operators, which has separate slots.
    #[must_use]
    pub fn admin() -> Self {
        Self {
            connections: files::MAX_ADMIN_CONNECTIONS,
            network: NetworkLimit::default(),
            memory: Arc::default(),
        }
    }
}

/// A bound socket that does not accept connections yet.
#[derive(Debug)]
pub struct Listener {
    service: &'static str,
    socket: TcpListener,
    address: SocketAddr,
    protocol: Protocol,
    tls: Option<ServerTls>,
    limits: Limits,
}

impl Listener {
    /// Binds `address` for a service, whose name is in the log. Port 0 selects a free port.
    ///
    /// # Errors
    ///
    /// The errors of the operating system, for example if the address is in use.
    pub async fn bind(
        service: &'static str,
        address: SocketAddr,
        protocol: Protocol,
        limits: Limits,
    ) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        Ok(Self { service, socket, address, protocol, tls: None, limits })
    }

    /// Enables TLS, if it is configured.
    #[must_use]
    pub fn with_tls(self, tls: Option<ServerTls>) -> Self {
        Self { tls, ..self }
    }

    /// The bound address with the actual port.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `router` until `shutdown`. Then it accepts no more connections, finishes accepted
    /// requests, and returns.
    pub async fn serve(self, router: Router, shutdown: CancellationToken) {
        let builder = self.builder();
        let slots = Slots::new(self.limits.connections, self.limits.network);
        let accept = Acceptor { socket: self.socket, slots, memory: self.limits.memory };
        let tasks = TaskTracker::new();
        let closing = CancellationToken::new();
        let serve = |(stream, peer, slot, usage): Accepted| {
            // Responses are small and should be sent at once. A failure only costs latency.
            let _ = stream.set_nodelay(true);
            let connection = Connection {
                builder: builder.clone(),
                router: router.clone(),
                service: self.service,
                peer,
                usage,
                slot,
                stopping: shutdown.clone(),
                closing: closing.clone(),
            };
            let tls = self.tls.clone().map(|tls| (tls, self.protocol));
            tasks.spawn(async move {
                match tls {
                    None => connection.serve(stream, None).await,
                    Some((tls, protocol)) => connection.serve_tls(stream, tls, protocol).await,
                }
            });
        };
        while let Some(accepted) = shutdown.run_until_cancelled(accept.next()).await {
            serve(accepted);
        }
        // Clients that have just connected must not be rejected, because a proxy may not be allowed
        // to repeat their requests. So connections of clients that do not know of the stop yet are
        // accepted for a moment.
        let end = Instant::now() + DRAIN;
        let patience = || end.min(Instant::now() + QUIET);
        while let Ok(accepted) = tokio::time::timeout_at(patience(), accept.next()).await {
            serve(accepted);
        }
        drop(accept);
        // hyper would close connections at once on which the HTTP version is not known yet.
        tokio::time::sleep(QUIET).await;
        closing.cancel();
        tasks.close();
        tasks.wait().await;
    }

    fn builder(&self) -> auto::Builder<TokioExecutor> {
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
            .max_header_list_size(MAX_HEADERS_READ)
            .initial_stream_window_size(RECEIVE_WINDOW)
            .initial_connection_window_size(RECEIVE_WINDOW)
            .max_send_buf_size(SEND_BUFFER);
        match self.protocol {
            Protocol::Rest => builder,
            Protocol::Grpc => builder.http2_only(),
        }
    }
}

/// A connection with its peer address, its slot and its usage.
type Accepted = (TcpStream, SocketAddr, Slot, Arc<ConnectionUsage>);

struct Acceptor {
    socket: TcpListener,
    slots: Arc<Slots>,
    memory: Arc<Memory>,
}

impl Acceptor {
    /// The next connection that gets a slot. If there is no slot because its network has too many
    /// connections, it is closed. If the whole listener is full, it waits in the kernel's queue.
    async fn next(&self) -> Accepted {
        loop {
            while !self.slots.has_room() {
                tokio::time::sleep(SLOT_INTERVAL).await;
            }
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    let usage = Arc::new(ConnectionUsage::new(Arc::clone(&self.memory)));
                    if let Some(slot) = self.slots.take(peer, Arc::clone(&usage)) {
                        return (stream, peer, slot, usage);
                    }
                    tracing::debug!(%peer, "refused: too many connections of one network");
                }
                Err(error) => {
                    // Either there are no file descriptors left, or the connection was closed before
                    // it was accepted. Both are temporary.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        }
    }
}

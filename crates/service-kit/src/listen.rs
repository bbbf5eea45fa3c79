//! Listeners: one loop for both edges, with the limits that a public port needs.

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

/// How long the header section of a request may take; also how long an idle HTTP/1.1 connection is
/// kept.
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
/// How much of the bodies on one HTTP/2 connection may be on their way before anybody reads them, in
/// bytes: as much as the largest body. RFC 9113 begins with this window too.
const RECEIVE_WINDOW: u32 = 65_535;
/// How much of one answer waits inside the connection to be written, in bytes.
const SEND_BUFFER: usize = 64 * 1024;
/// How long to wait before looking again for a slot, where every connection is busy.
const SLOT_INTERVAL: Duration = Duration::from_millis(100);

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

/// How many connections a listener holds, and what they may use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The most at a time.
    pub connections: usize,
    /// The most of one client network.
    pub network: NetworkLimit,
    /// The memory that all of them share.
    pub memory: Arc<Memory>,
}

impl Limits {
    /// Those of a public listener.
    #[must_use]
    pub fn public(network: NetworkLimit, memory: Arc<Memory>) -> Self {
        Self { connections: files::max_public_connections(), network, memory }
    }

    /// Those of the listener for operators, which has places of its own.
    #[must_use]
    pub fn admin() -> Self {
        Self {
            connections: files::MAX_ADMIN_CONNECTIONS,
            network: NetworkLimit::default(),
            memory: Arc::default(),
        }
    }
}

/// A bound socket that does not accept yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    protocol: Protocol,
    tls: Option<ServerTls>,
    limits: Limits,
}

impl Listener {
    /// Binds `address`; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// Those of the operating system, such as an address in use.
    pub async fn bind(address: SocketAddr, protocol: Protocol, limits: Limits) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address, protocol, tls: None, limits })
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
        let builder = self.builder();
        let slots = Slots::new(self.limits.connections, self.limits.network);
        let accept = Acceptor { socket: self.socket, slots, memory: self.limits.memory };
        let tasks = TaskTracker::new();
        let closing = CancellationToken::new();
        let serve = |(stream, peer, slot, usage): Accepted| {
            // Answers are small and wait for nobody; a failure here only costs latency.
            let _ = stream.set_nodelay(true);
            let connection = Connection {
                builder: builder.clone(),
                router: router.clone(),
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
        // Who has got a connection is not to be sent away: what is sent may not be sent again by a
        // proxy. So for a moment those still come in who do not know yet that we stop.
        let end = Instant::now() + DRAIN;
        let patience = || end.min(Instant::now() + QUIET);
        while let Ok(accepted) = tokio::time::timeout_at(patience(), accept.next()).await {
            serve(accepted);
        }
        drop(accept);
        // hyper would end those at once that have not said yet which version they speak.
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
            .max_header_list_size(MAX_HEADERS as u32)
            .initial_stream_window_size(RECEIVE_WINDOW)
            .initial_connection_window_size(RECEIVE_WINDOW)
            .max_send_buf_size(SEND_BUFFER);
        match self.protocol {
            Protocol::Rest => builder,
            Protocol::Grpc => builder.http2_only(),
        }
    }
}

/// A connection, its other end, and its slot.
type Accepted = (TcpStream, SocketAddr, Slot, Arc<ConnectionUsage>);

struct Acceptor {
    socket: TcpListener,
    slots: Arc<Slots>,
    memory: Arc<Memory>,
}

impl Acceptor {
    /// The next connection that there is a slot for. One that there is none for is closed, if its
    /// network has too many; if all have, it waits in the kernel's queue.
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
                    // Out of file descriptors, or a connection gone before it was accepted: both
                    // pass.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        }
    }
}

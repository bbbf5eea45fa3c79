//! One accepted connection, from the TLS handshake to its end.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Body};
use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::{
    HEADER_TIMEOUT, Peer, Protocol,
    answers::{AnswerMemory, Overloaded},
    bodies::{AnswerBody, RequestBody},
    refusals::Origin,
    slots::Slot,
    timed_stream::{OPENING_AT_STOP, TimedStream},
    usage::{CloseReason, ConnectionUsage, RequestUsage, Reservation},
};
use crate::tls::{ClientCertificate, ServerTls};

/// The time limit of a graceful close when a connection is ended.
const GOODBYE: Duration = Duration::from_secs(1);

/// Why a connection is ended that could go on.
enum End {
    /// The service stops.
    Stopping,
    /// It is idle, or its slot is needed; or it does not read its responses.
    Reason(CloseReason),
}

/// An accepted connection and its context.
pub(super) struct Connection {
    pub(super) builder: auto::Builder<TokioExecutor>,
    pub(super) router: Router,
    pub(super) service: &'static str,
    pub(super) peer: SocketAddr,
    pub(super) usage: Arc<ConnectionUsage>,
    pub(super) slot: Slot,
    /// Cancelled when the service stops.
    pub(super) stopping: CancellationToken,
    /// Cancelled a little later, when connections end after their last request.
    pub(super) closing: CancellationToken,
}

impl Connection {
    pub(super) async fn serve_tls(self, stream: TcpStream, tls: ServerTls, protocol: Protocol) {
        let stopped = async {
            self.stopping.cancelled().await;
            tokio::time::sleep(OPENING_AT_STOP).await;
        };
        let handshake = tokio::select! {
            handshake = tls.accept(stream, protocol) => handshake,
            () = stopped => return,
            () = self.slot.evicted.cancelled() => return,
        };
        match handshake {
            Ok(stream) => {
                let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
                let certificate = chain.first().map(ClientCertificate::of);
                self.serve(stream, certificate).await;
            }
            // Scanners and clients without a valid certificate are common, so this is not logged at
            // a higher level.
            Err(error) => tracing::debug!(%error, "TLS handshake failed"),
        }
    }

    pub(super) async fn serve<S>(self, stream: S, certificate: Option<ClientCertificate>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { builder, router, service, peer, usage, slot, stopping, closing } = self;
        let requests = Requests { router, peer, certificate, usage: Arc::clone(&usage) };
        let origin = Origin { service, peer };
        let service = hyper::service::service_fn(move |request| requests.clone().answer(request));
        let stream = TimedStream::new(stream, HEADER_TIMEOUT, stopping, Arc::clone(&usage), origin);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        // Each request wakes this task several times. A set polls only those of its futures that were
        // woken themselves.
        let ends: [Pin<Box<dyn Future<Output = End> + Send>>; 3] = [
            Box::pin(closing.cancelled().map(|()| End::Stopping)),
            Box::pin(slot.evicted.cancelled().map(|()| End::Reason(CloseReason::Idle))),
            Box::pin(usage.excess().map(End::Reason)),
        ];
        let mut ends = FuturesUnordered::from_iter(ends);
        // A broken connection is normal and needs no log line.
        let end = tokio::select! {
            biased;
            _ = &mut connection => return,
            Some(end) = ends.next() => end,
        };
        match end {
            End::Stopping => {
                connection.as_mut().graceful_shutdown();
                // There is no timeout here: the grace period of the service limits it.
                tokio::select! {
                    _ = &mut connection => {}
                    CloseReason::Unread = usage.excess() => {}
                }
                return;
            }
            End::Reason(CloseReason::Unread) => {
                tracing::debug!(%peer, "ended: it does not read its answers");
                return;
            }
            End::Reason(CloseReason::Idle) => {}
        }
        // A request that arrives at this moment is still answered: HTTP/2 tells the client which
        // request was the last.
        connection.as_mut().graceful_shutdown();
        if tokio::time::timeout(GOODBYE, &mut connection).await.is_ok() {
            return;
        }
        while usage.idle_since().is_none() {
            tokio::select! {
                _ = &mut connection => return,
                () = tokio::time::sleep(GOODBYE) => {}
                CloseReason::Unread = usage.excess() => return,
            }
        }
    }
}

/// Handles the requests of one connection.
#[derive(Clone)]
struct Requests {
    router: Router,
    peer: SocketAddr,
    certificate: Option<ClientCertificate>,
    usage: Arc<ConnectionUsage>,
}

impl Requests {
    async fn answer(self, request: Request<Incoming>) -> Result<Response<AnswerBody>, Infallible> {
        let Self { router, peer, certificate, usage } = self;
        // In HTTP/1.1 a response is written before the next request is read.
        let piles_up = request.version() == Version::HTTP_2;
        let place = RequestUsage::begin(&usage);
        let mut request = request.map(|body| RequestBody::wrap(body, Arc::clone(&usage)));
        let extensions = request.extensions_mut();
        extensions.insert(Peer(peer));
        extensions.insert(AnswerMemory::new(Arc::clone(&usage)));
        if let Some(certificate) = certificate {
            extensions.insert(certificate);
        }
        if place.is_none() {
            extensions.insert(Overloaded);
        }
        let response: Response<Body> = router.oneshot(request).await?;
        let reservation = response.extensions().get::<Reservation>().cloned();
        Ok(response.map(|body| AnswerBody::new(body, usage, place, reservation, piles_up)))
    }
}

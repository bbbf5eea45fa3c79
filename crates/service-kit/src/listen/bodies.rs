//! The bodies of requests and answers, with the memory that they take.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::{AcquireError, OwnedSemaphorePermit};

use super::usage::{ConnectionUsage, RequestUsage, Reservation, UnreadBytes};

/// What each request may send without asking for room, in bytes: most bodies are smaller, so that
/// large ones of some cannot keep out small ones of others.
const FREE: usize = 4 * 1024;
/// What is counted of one body at most, in bytes. Whoever reads one keeps no more of it.
const COUNTED: usize = 64 * 1024;

type Waiting =
    Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send + Sync>>;

/// The body of a request. Where the process holds as much as it can, it is not read further.
pub(super) struct RequestBody {
    inner: Incoming,
    usage: Arc<ConnectionUsage>,
    received: usize,
    held: Vec<OwnedSemaphorePermit>,
    /// A part that has arrived, for which there is no room yet.
    waiting: Option<(Frame<Bytes>, Waiting)>,
}

impl RequestBody {
    pub(super) fn wrap(inner: Incoming, usage: Arc<ConnectionUsage>) -> Body {
        if http_body::Body::is_end_stream(&inner) {
            return Body::new(inner);
        }
        Body::new(Self { inner, usage, received: 0, held: Vec::new(), waiting: None })
    }

    /// How much room more `length` bytes need.
    fn needed(&self, length: usize) -> u32 {
        let counted = |received: usize| received.clamp(FREE, COUNTED);
        let more = counted(self.received + length) - counted(self.received);
        u32::try_from(more).unwrap_or(0)
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if self.waiting.is_none() {
            let frame = match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                other => return Poll::Ready(other),
            };
            let length = frame.data_ref().map_or(0, Bytes::len);
            let needed = self.needed(length);
            self.received += length;
            if needed == 0 {
                return Poll::Ready(Some(Ok(frame)));
            }
            let room = Arc::clone(&self.usage.memory().bodies).acquire_many_owned(needed);
            self.waiting = Some((frame, Box::pin(room)));
        }
        if let Some((_, room)) = &mut self.waiting {
            // The semaphore is never closed.
            let room = ready!(room.as_mut().poll(context));
            self.held.extend(room.ok());
        }
        Poll::Ready(self.waiting.take().map(|(frame, _)| Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The body of an answer: its bytes are counted until they have been read, and its request is under
/// way until then.
pub(super) struct AnswerBody {
    inner: Body,
    usage: Arc<ConnectionUsage>,
    reservation: Option<Reservation>,
    counts: bool,
    /// Nothing for one that was refused for want of room.
    _request: Option<RequestUsage>,
}

impl AnswerBody {
    /// `counts` says whether answers can pile up on the connection, as they do under HTTP/2.
    pub(super) fn new(
        inner: Body,
        usage: Arc<ConnectionUsage>,
        request: Option<RequestUsage>,
        reservation: Option<Reservation>,
        counts: bool,
    ) -> Self {
        if let (Some(reservation), Some(length)) =
            (&reservation, http_body::Body::size_hint(&inner).exact())
        {
            reservation.shrink(usize::try_from(length).unwrap_or(usize::MAX));
        }
        Self { inner, usage, reservation, counts, _request: request }
    }
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        let is_counted = self.counts || self.reservation.is_some();
        Poll::Ready(frame.map(|frame| {
            frame.map(|frame| match frame.into_data() {
                Ok(data) if is_counted && !data.is_empty() => {
                    let reservation = self.reservation.clone();
                    Frame::data(UnreadBytes::count(data, &self.usage, reservation))
                }
                Ok(data) => Frame::data(data),
                Err(frame) => frame,
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

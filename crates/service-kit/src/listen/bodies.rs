//! The bodies of requests and responses, and the memory budget for them.

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

/// How many bytes of each request body are not counted. Most bodies are smaller than this, so that
/// a few large ones cannot block many small ones.
const FREE: usize = 4 * 1024;
/// How much of one body is counted at most, in bytes. Readers do not keep more of it.
const COUNTED: usize = 64 * 1024;

type Waiting =
    Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send + Sync>>;

/// The body of a request. While the budget is used up, it is not read further.
pub(super) struct RequestBody {
    inner: Incoming,
    usage: Arc<ConnectionUsage>,
    received: usize,
    held: Vec<OwnedSemaphorePermit>,
    /// A frame that has arrived and waits for room.
    waiting: Option<(Frame<Bytes>, Waiting)>,
}

impl RequestBody {
    pub(super) fn wrap(inner: Incoming, usage: Arc<ConnectionUsage>) -> Body {
        if http_body::Body::is_end_stream(&inner) {
            return Body::new(inner);
        }
        Body::new(Self { inner, usage, received: 0, held: Vec::new(), waiting: None })
    }

    /// How many permits `length` more bytes need.
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
            // The semaphore is never closed, so this cannot fail.
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

/// The body of a response. Its bytes count until they have been sent, and its request is in
/// progress until then.
pub(super) struct AnswerBody {
    inner: Body,
    usage: Arc<ConnectionUsage>,
    reservation: Option<Reservation>,
    counts: bool,
    /// `None` for a request that was refused because the process is overloaded.
    _request: Option<RequestUsage>,
}

impl AnswerBody {
    /// `counts` is whether responses can accumulate on the connection, as they can in HTTP/2.
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

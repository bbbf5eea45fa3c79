//! A request body that records whether it was read to its end.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use axum::{body::Body, extract::Request};
use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// Tells whether a part of the body was not read.
pub(crate) struct Unread(Option<Arc<AtomicBool>>);

impl Unread {
    pub(crate) fn is_left(&self) -> bool {
        self.0.as_ref().is_some_and(|ended| !ended.load(Relaxed))
    }
}

/// Wraps the body of a request, if it has one.
pub(crate) fn watched(request: Request) -> (Request, Unread) {
    if http_body::Body::is_end_stream(request.body()) {
        return (request, Unread(None));
    }
    let ended = Arc::new(AtomicBool::new(false));
    let unread = Unread(Some(Arc::clone(&ended)));
    (request.map(|inner| Body::new(Watched { inner, ended })), unread)
}

struct Watched {
    inner: Body,
    ended: Arc<AtomicBool>,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(context);
        if matches!(frame, Poll::Ready(None)) || self.inner.is_end_stream() {
            self.ended.store(true, Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

//! The body of a gRPC response. Its status is in the trailers and is logged when they are sent. A
//! stream ends at its deadline or when the service stops.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code as GrpcCode, Status};

use super::status_of;
use crate::{access::Access, code, error::ApiError};

/// How long streams continue after the service has begun to stop.
const LAST_WORD: Duration = Duration::from_millis(100);

/// A body that logs the status in its trailers, and that ends when the service stops.
pub(super) struct AnswerBody {
    pub(super) inner: Body,
    pub(super) access: Option<Access>,
    pub(super) stop: Option<Stop>,
    /// Whether the status has been logged.
    pub(super) ended: bool,
}

/// Completes when a stream has to end, with the error that says why.
pub(super) type Stop = Pin<Box<dyn Future<Output = ApiError> + Send>>;

/// The end of a stream: its deadline, if it has one; or the service's stop, after a short delay in
/// which a `Watch` can send NOT_SERVING.
pub(super) async fn end(draining: CancellationToken, at: Option<Instant>) -> ApiError {
    let stopping = async {
        draining.cancelled().await;
        tokio::time::sleep(LAST_WORD).await;
    };
    let deadline = async {
        match at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = stopping => ApiError::new(code::SERVICE_UNAVAILABLE, "the service is stopping"),
        () = deadline => ApiError::new(code::DEADLINE_EXCEEDED, "the deadline has passed"),
    }
}

impl AnswerBody {
    fn finish(&mut self, status: GrpcCode) {
        if let Some(access) = self.access.take() {
            super::log(access, status);
        }
    }
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
            match &frame {
                Some(Ok(frame)) => {
                    if let Some(status) = frame.trailers_ref().and_then(status_of) {
                        self.finish(status);
                    }
                }
                Some(Err(_)) => self.finish(GrpcCode::Unknown),
                None => {}
            }
            return Poll::Ready(frame);
        }
        let Some(stop) = &mut self.stop else {
            return Poll::Pending;
        };
        let status = Status::from(ready!(stop.as_mut().poll(context)));
        self.stop = None;
        self.ended = true;
        self.finish(status.code());
        let mut trailers = HeaderMap::new();
        let added = status.add_header(&mut trailers).map_err(axum::Error::new);
        Poll::Ready(Some(added.map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        // The client disconnected before the end.
        self.finish(GrpcCode::Cancelled);
    }
}

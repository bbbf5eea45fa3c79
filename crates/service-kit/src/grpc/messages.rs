//! Inspects the messages of a call while they arrive: limits their size, and records whether the
//! client has aborted the call.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use axum::{body::Body, extract::Request};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::Status;

use crate::{code, error::ApiError};

/// The largest message, in bytes.
const MAX_MESSAGE: u32 = 64 * 1024;
/// The prefix of each message: whether it is compressed, and its length (gRPC over HTTP/2,
/// Length-Prefixed-Message).
const PREFIX: usize = 5;

pub(super) fn too_large() -> ApiError {
    ApiError::new(code::PAYLOAD_TOO_LARGE, "the message is over 64 KiB")
}

/// What is wrong with the messages of a call. tonic would report another status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Violation {
    /// A message exceeds the size limit.
    TooLarge,
    /// The client has reset the stream or closed the connection.
    BrokenOff,
}

impl Violation {
    pub(super) fn status(self) -> Status {
        match self {
            Self::TooLarge => too_large().into(),
            Self::BrokenOff => Status::cancelled("the client has cancelled the call"),
        }
    }
}

/// What was found wrong with the messages so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Recorder(Arc<OnceLock<Violation>>);

impl Recorder {
    pub(super) fn found(&self) -> Option<Violation> {
        self.0.get().copied()
    }
}

/// The body of a call.
pub(super) struct Messages {
    inner: Body,
    found: Recorder,
    prefix: [u8; PREFIX],
    /// How many bytes of the prefix have arrived.
    prefixed: usize,
    /// How many bytes of the message are missing.
    remaining: u32,
}

impl Messages {
    /// Inspects the messages of `request` while they are read.
    pub(super) fn guard(request: Request) -> (Request, Recorder) {
        let found = Recorder::default();
        let request = request.map(|inner| {
            let found = found.clone();
            Body::new(Self { inner, found, prefix: [0; PREFIX], prefixed: 0, remaining: 0 })
        });
        (request, found)
    }

    /// Whether all messages that begin in `bytes` are within the size limit.
    fn is_acceptable(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if self.remaining > 0 {
                let skipped = bytes.len().min(self.remaining as usize);
                self.remaining -= u32::try_from(skipped).unwrap_or(self.remaining);
                bytes = &bytes[skipped..];
                continue;
            }
            let taken = bytes.len().min(PREFIX - self.prefixed);
            self.prefix[self.prefixed..self.prefixed + taken].copy_from_slice(&bytes[..taken]);
            self.prefixed += taken;
            bytes = &bytes[taken..];
            if self.prefixed == PREFIX {
                let [_, length @ ..] = self.prefix;
                self.prefixed = 0;
                self.remaining = u32::from_be_bytes(length);
                if self.remaining > MAX_MESSAGE {
                    return false;
                }
            }
        }
        true
    }

    fn fail(&self, violation: Violation) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let _ = self.found.0.set(violation);
        Poll::Ready(Some(Err(axum::Error::new(violation.status()))))
    }
}

impl http_body::Body for Messages {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
            Some(Ok(frame)) => {
                if frame.data_ref().is_some_and(|data| !self.is_acceptable(data)) {
                    return self.fail(Violation::TooLarge);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(_)) => self.fail(Violation::BrokenOff),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn messages() -> Messages {
        let inner = Body::empty();
        Messages {
            inner,
            found: Recorder::default(),
            prefix: [0; PREFIX],
            prefixed: 0,
            remaining: 0,
        }
    }

    fn prefixed(length: u32) -> Vec<u8> {
        [&[0], length.to_be_bytes().as_slice()].concat()
    }

    #[test]
    fn a_message_is_refused_by_its_length_before_it_comes() {
        assert!(messages().is_acceptable(&prefixed(MAX_MESSAGE)));
        assert!(!messages().is_acceptable(&prefixed(MAX_MESSAGE + 1)));
        assert!(!messages().is_acceptable(&prefixed(u32::MAX)));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_messages_are_cut(
            lengths in prop::collection::vec(0_u32..300, 0..5),
            is_last_too_large in any::<bool>(),
            part in 1_usize..50,
        ) {
            let mut content = Vec::new();
            for length in lengths {
                content.extend(prefixed(length));
                content.resize(content.len() + length as usize, 0xff);
            }
            if is_last_too_large {
                content.extend(prefixed(MAX_MESSAGE + 1));
            }
            let mut messages = messages();
            let accepted = content.chunks(part).all(|part| messages.is_acceptable(part));
            prop_assert_eq!(accepted, !is_last_too_large);
        }
    }
}

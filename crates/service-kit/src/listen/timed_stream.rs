//! A stream with time limits for its first bytes and for each write.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};
use tokio_util::sync::CancellationToken;

use super::{refusals, usage::ConnectionUsage};

/// The HTTP/2 connection preface (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How much time a connection that has sent nothing yet has left when the service stops.
pub(super) const OPENING_AT_STOP: Duration = Duration::from_secs(1);
/// How long a write may wait for the peer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A stream that fails if the peer does not show in time which HTTP version it uses, or if the
/// service stops before that; and if the peer does not read its responses. hyper has no time limits
/// for these, so silent peers could keep connections open forever.
pub(super) struct TimedStream<S> {
    inner: S,
    /// The timeout of a waiting write.
    stuck: Option<Pin<Box<Sleep>>>,
    usage: Arc<ConnectionUsage>,
    origin: refusals::Origin,
    /// What is written instead of hyper's own response.
    refusal: Option<Bytes>,
    /// When the first bytes since the last write have arrived: on an HTTP/1 connection, those of a request.
    asked: Option<Instant>,
    /// How many bytes of the HTTP/2 preface have arrived.
    matched: usize,
    /// `None` once the HTTP version is known.
    limit: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<S> TimedStream<S> {
    pub(super) fn new(
        inner: S,
        limit: Duration,
        stopping: CancellationToken,
        usage: Arc<ConnectionUsage>,
        origin: refusals::Origin,
    ) -> Self {
        let stopped = async move {
            stopping.cancelled().await;
            tokio::time::sleep(OPENING_AT_STOP).await;
        };
        let limit = async move {
            tokio::select! {
                () = tokio::time::sleep(limit) => {}
                () = stopped => {}
            }
        };
        let limit: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(limit);
        Self {
            inner,
            stuck: None,
            usage,
            origin,
            refusal: None,
            asked: None,
            matched: 0,
            limit: Some(limit),
        }
    }

    /// Does a write, which fails if it waits for too long.
    fn write_in_time<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>>
    where
        S: Unpin,
    {
        if let Poll::Ready(written) = write(Pin::new(&mut self.inner), context) {
            self.stuck = None;
            return Poll::Ready(written);
        }
        let sleep = || Box::pin(tokio::time::sleep(WRITE_TIMEOUT));
        ready!(self.stuck.get_or_insert_with(sleep).as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Replaces hyper's own response to an invalid request. Until the replacement is fully written,
    /// hyper passes the same bytes again.
    fn poll_refusal(
        &mut self,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Option<Poll<io::Result<usize>>>
    where
        S: AsyncWrite + Unpin,
    {
        if self.refusal.is_none() && self.usage.idle_since().is_some() {
            let took = self.asked.map(|asked| asked.elapsed()).unwrap_or_default();
            self.refusal = refusals::with_problem(slices, self.origin, took);
        }
        let mut rest = self.refusal.take()?;
        while !rest.is_empty() {
            let written =
                self.write_in_time(context, |inner, context| inner.poll_write(context, &rest));
            match written {
                Poll::Ready(Ok(length)) if length > 0 => drop(rest.split_to(length)),
                Poll::Ready(Ok(_)) => {
                    return Some(Poll::Ready(Err(io::ErrorKind::WriteZero.into())));
                }
                other => {
                    self.refusal = Some(rest);
                    return Some(other);
                }
            }
        }
        Some(Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum())))
    }

    fn count(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written {
            self.usage.wrote(bytes);
            self.asked = None;
        }
        written
    }

    /// The version is known at the first byte that differs from the preface, or at its end.
    fn look_at(&mut self, read: &[u8]) {
        let rest = &PREFACE[self.matched..];
        if read.len() >= rest.len() || !rest.starts_with(read) {
            self.limit = None;
        } else {
            self.matched += read.len();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut self.inner).poll_read(context, buffer) {
            self.asked.get_or_insert_with(Instant::now);
            if self.limit.is_some() {
                self.look_at(&buffer.filled()[before..]);
            }
            return Poll::Ready(read);
        }
        let Some(limit) = &mut self.limit else {
            return Poll::Pending;
        };
        ready!(limit.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written =
            self.write_in_time(context, |inner, context| inner.poll_write(context, bytes));
        self.count(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_in_time(context, |inner, context| inner.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_in_time(context, |inner, context| inner.poll_shutdown(context))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(refused) = self.poll_refusal(context, slices) {
            return refused;
        }
        let written = self
            .write_in_time(context, |inner, context| inner.poll_write_vectored(context, slices));
        self.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(28);

    fn origin() -> refusals::Origin {
        refusals::Origin { service: "test", peer: "127.0.0.1:1".parse().unwrap() }
    }

    async fn read_after(said: &[u8], stopping: CancellationToken) -> io::Result<usize> {
        let (mut client, server) = tokio::io::duplex(64);
        client.write_all(said).await.unwrap();
        let mut opening = TimedStream::new(server, LIMIT, stopping, Arc::default(), origin());
        let mut buffer = [0; 64];
        if !said.is_empty() {
            assert_eq!(opening.read(&mut buffer).await.unwrap(), said.len());
        }
        tokio::time::timeout(LIMIT * 2, opening.read(&mut buffer)).await?
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_name_a_version_is_given_up() {
        for said in ["", "P", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
            let started = tokio::time::Instant::now();
            let read = read_after(said.as_bytes(), CancellationToken::new()).await;
            assert_eq!(read.unwrap_err().kind(), io::ErrorKind::TimedOut, "{said:?}");
            assert!(started.elapsed() < LIMIT + Duration::from_secs(1), "{said:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_named_it_may_be_silent() {
        for said in ["GET", "PUT / HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore"] {
            let started = tokio::time::Instant::now();
            assert!(read_after(said.as_bytes(), CancellationToken::new()).await.is_err());
            assert!(started.elapsed() >= LIMIT * 2, "{said:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_the_answer_is_given_up() {
        let (_client, server) = tokio::io::duplex(64);
        let mut stream =
            TimedStream::new(server, LIMIT, CancellationToken::new(), Arc::default(), origin());
        let started = tokio::time::Instant::now();
        let written = stream.write_all(&[0; 65]).await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() < WRITE_TIMEOUT + Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_soon_ends_what_has_not_begun() {
        let stopping = CancellationToken::new();
        stopping.cancel();
        let started = tokio::time::Instant::now();
        assert!(read_after(b"PRI", stopping).await.is_err());
        assert!(started.elapsed() < OPENING_AT_STOP * 2);
    }
}

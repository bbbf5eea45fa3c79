//! Shutdown: the first signal starts to drain. A second signal, or the end of the grace period, ends
//! the process at once, even if something hangs.

use std::{
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::telemetry;

/// The part of the grace period that is reserved for closing, if it is long enough: sending the last
/// telemetry and closing the database connections.
const CLOSING: Duration = Duration::from_secs(2);
/// How long before the end of the grace period the process exits, so that it has ended in time.
const MARGIN: Duration = Duration::from_millis(50);

/// Returns a token that the first SIGTERM or SIGINT cancels. A second signal ends the process with
/// status 130, even if work is in progress. The end of `grace` ends it with status 0.
///
/// A separate thread handles signals, so that they work even if everything else hangs.
///
/// # Errors
///
/// If the operating system does not allow handling signals.
pub fn on_signal(grace: Duration) -> io::Result<CancellationToken> {
    on_signal_with(grace, || {})
}

/// Like [`on_signal`], and calls `last` before it ends the process.
///
/// # Errors
///
/// The errors of [`on_signal`].
pub fn on_signal_with(
    grace: Duration,
    last: impl FnOnce() + Send + 'static,
) -> io::Result<CancellationToken> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut terminate, mut interrupt) = {
        let _entered = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let token = CancellationToken::new();
    let cancelled = token.clone();
    let mut next = async move || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    let handle = async move {
        let name = next().await;
        cancelled.cancel();
        tracing::info!(signal = name, "stopping: accepted requests finish");
        let status = match tokio::time::timeout(grace.saturating_sub(MARGIN), next()).await {
            Ok(name) => {
                tracing::warn!(signal = name, "second signal: ending at once");
                130
            }
            Err(_elapsed) => {
                tracing::warn!("grace is over: ending although something does not end");
                0
            }
        };
        last();
        telemetry::flush();
        std::process::exit(status);
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || runtime.block_on(handle))?;
    Ok(token)
}

/// The durations of the stages of a stop, each counted from the signal.
#[derive(Debug, Clone, Copy)]
pub struct StopTimes {
    /// How long new connections are still served: `SHUTDOWN_DELAY`.
    pub delay: Duration,
    /// When everything has ended: `SHUTDOWN_GRACE`.
    pub grace: Duration,
}

impl StopTimes {
    /// When running requests are aborted.
    fn cut_off(self) -> Duration {
        let closing = self.grace.saturating_sub(self.delay) / 4;
        self.grace.saturating_sub(closing.min(CLOSING))
    }
}

/// The shutdown of one service.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    times: StopTimes,
    /// Cancelled by the signal. From then on the service is not ready.
    signal: CancellationToken,
    /// Cancelled when no more connections are accepted and streams end.
    draining: CancellationToken,
    began: Arc<OnceLock<Instant>>,
}

impl Stop {
    /// Starts the stages of the shutdown when `signal` is cancelled.
    pub(crate) fn follow(signal: CancellationToken, times: StopTimes) -> Self {
        let (draining, began) = (CancellationToken::new(), Arc::default());
        let stop = Self { times, signal, draining, began };
        let stages = stop.clone();
        tokio::spawn(async move {
            stages.signal.cancelled().await;
            let _ = stages.began.set(Instant::now());
            tokio::time::sleep(stages.times.delay).await;
            stages.draining.cancel();
        });
        stop
    }

    pub(crate) const fn draining(&self) -> &CancellationToken {
        &self.draining
    }

    /// Stops without a signal and without the delay, because the service cannot continue.
    pub(crate) fn at_once(&self) {
        self.signal.cancel();
        self.draining.cancel();
    }

    fn began(&self) -> Instant {
        *self.began.get_or_init(Instant::now)
    }

    /// Waits for `work` to end, but after the signal only until requests are aborted.
    pub(crate) async fn bound(&self, work: impl Future<Output = ()>) {
        let cut_off = async {
            self.signal.cancelled().await;
            tokio::time::sleep_until(self.began() + self.times.cut_off()).await;
        };
        tokio::select! {
            () = work => {}
            () = cut_off => tracing::warn!(
                grace_seconds = self.times.grace.as_secs(),
                "grace is over: requests are cut off"
            ),
        }
    }

    /// Waits for `work`, the last of the process, but at most until the grace period is over.
    pub(crate) async fn close(&self, work: impl Future<Output = ()>) {
        let end = self.began() + self.times.grace.saturating_sub(MARGIN * 2);
        // What is still open then is closed by the end of the process.
        let _ = tokio::time::timeout_at(end, work).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: StopTimes =
        StopTimes { delay: Duration::from_secs(2), grace: Duration::from_secs(10) };

    fn stopping() -> (Stop, Instant) {
        let signal = CancellationToken::new();
        let stop = Stop::follow(signal.clone(), TIMES);
        signal.cancel();
        (stop, Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn connections_are_served_for_the_delay() {
        let (stop, began) = stopping();
        stop.draining().cancelled().await;
        assert_eq!(began.elapsed().as_secs(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_and_closing_together_end_within_the_grace() {
        let (stop, began) = stopping();
        stop.bound(std::future::pending()).await;
        assert_eq!(began.elapsed().as_secs(), 8, "requests are cut off too early or too late");
        stop.close(std::future::pending()).await;
        assert!(began.elapsed() < TIMES.grace);
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_go_on_stops_without_the_delay() {
        let stop = Stop::follow(CancellationToken::new(), TIMES);
        stop.at_once();
        assert!(stop.draining().is_cancelled());
    }

    #[test]
    fn no_grace_is_cut_off_at_once() {
        let none = StopTimes { delay: Duration::ZERO, grace: Duration::ZERO };
        assert_eq!(none.cut_off(), Duration::ZERO);
    }
}

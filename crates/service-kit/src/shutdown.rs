//! Stopping: a first signal drains, a second one ends the process at once.

use std::{io, time::Duration};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Returns a token that the first SIGTERM or SIGINT cancels. A second signal ends the process with
/// status 130, whatever is still under way.
///
/// # Errors
///
/// Where the operating system does not let us handle signals.
pub fn on_signal() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        for first in [true, false] {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if first {
                tracing::info!(signal = name, "stopping: accepted requests finish");
                cancelled.cancel();
            } else {
                tracing::warn!(signal = name, "second signal: ending at once");
                std::process::exit(130);
            }
        }
    });
    Ok(token)
}

/// Waits for `work` to end after `shutdown`, for `grace` at most. Returns whether it did.
pub async fn within_grace(
    shutdown: &CancellationToken,
    grace: Duration,
    work: impl Future<Output = ()>,
) -> bool {
    let deadline = async {
        shutdown.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        () = work => true,
        () = deadline => {
            tracing::warn!(grace_seconds = grace.as_secs(), "grace is over: requests are cut off");
            false
        }
    }
}
